package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-data/penstock/celfilter"
	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

const whereHelp = `--where is a condition in CEL (https://cel.dev) over the table's columns:
  comparisons with a literal    total > 19.90    placed >= timestamp("2026-01-01T00:00:00Z")
  && || ! and parentheses       !(city == "Oslo" || vip)
  lists, NULL and text          id in [1, 2]    city != null    sku.startsWith("A-")    like(name, "%ist")
  dates, times and decimals     day < date("2026-02-01")    at == time("08:30:00")    decimal("0.1")
  columns with special names    row["unit price"] < 5`

const loadHelp = `--load names relations to read as well. penstock catalog lists them; dots lead from one to the
next, and parentheses hold options for the related rows:
  customer,lines.product
  'lines(where: qty > 1, order: [price:desc, sku], limit: 5, columns: [sku, qty]).product(columns: name)'`

// queryFlags are the flags that describe a query.
type queryFlags struct {
	sourceFlags
	columns, where, orderBy, strategy string
	load, optional                    []string
	limit, chunkRows                  int64
	maxDepth, parallel                int
	unordered, noPushdown             bool
	flushAfter                        time.Duration
}

func (f *queryFlags) add(c *cobra.Command) {
	f.sourceFlags.add(c)
	flags := c.Flags()
	flags.StringVar(&f.columns, "columns", "", `columns to return, in this order: a,b,"special, name"`)
	flags.StringVar(&f.where, "where", "", "return only rows that meet this condition")
	flags.StringVar(&f.orderBy, "order-by", "", "order of the rows: column[:asc|:desc][:nulls-first|:nulls-last],...")
	flags.Int64Var(&f.limit, "limit", 0, "return at most this many rows")
	flags.Int64Var(&f.chunkRows, "chunk-rows", 0, "process this many rows at a time (default 1000 at first, then as memory allows)")
	flags.DurationVar(&f.flushAfter, "flush-after", sources.DefaultFlushAfter, "return rows that have waited this long for a full page or chunk, once the source has sent them; a negative time waits until it is full")
	flags.IntVar(&f.parallel, "parallel", 0, "read this many partitions at the same time, if the source can divide the table")
	flags.BoolVar(&f.unordered, "unordered", false, "with --parallel, return rows as they arrive, not one partition after the other")
	flags.StringArrayVar(&f.load, "load", nil, "load these relations as nested columns; may be repeated")
	flags.StringArrayVar(&f.optional, "optional", nil, "load these relations apart from the record; the output shows their columns after those of --load; may be repeated")
	flags.BoolVar(&f.noPushdown, "no-pushdown", false, "filter, sort and limit in this program, except for what only the source can compare, such as citext; without --order-by the rows may come in another order")
	flags.StringVar(&f.strategy, "strategy", "", "how to load relations: selective, eager (all relations, down to --max-depth) or lazy (default selective)")
	flags.IntVar(&f.maxDepth, "max-depth", 0, "longest allowed chain of relations (default 3)")
}

// parse returns the query and the options of the flags, except for the condition,
// which needs the catalog.
func (f *queryFlags) parse(c *cobra.Command, table string) (core.Query, core.Options, error) {
	q := core.Query{Table: table, Limit: f.limit}
	o := core.Options{ChunkRows: f.chunkRows, FlushAfter: f.flushAfter, Parallel: f.parallel, Unordered: f.unordered, MaxDepth: f.maxDepth, NoPushdown: f.noPushdown}
	var err error
	for name, value := range map[string]int64{"limit": f.limit, "chunk-rows": f.chunkRows, "max-depth": int64(f.maxDepth), "parallel": int64(f.parallel)} {
		if c.Flags().Changed(name) && value <= 0 {
			return q, o, usagef("--%s must be at least 1 (got %d)", name, value)
		}
	}
	if f.flushAfter == 0 {
		return q, o, usagef("--flush-after must not be 0: 1ms returns rows almost at once, and -1s only full chunks")
	}
	if f.unordered && f.parallel < 2 {
		return q, o, usagef("--unordered needs --parallel 2 or more: otherwise rows always come in the table's order")
	}
	if c.Flags().Changed("columns") {
		if q.Columns, err = parseColumns(f.columns); err != nil {
			return q, o, err
		}
	}
	if c.Flags().Changed("order-by") {
		if q.OrderBy, err = parseOrder(f.orderBy); err != nil {
			return q, o, err
		}
	}
	if c.Flags().Changed("strategy") {
		if o.Strategy, err = query.ParseStrategy(f.strategy); err != nil {
			return q, o, usagef("--strategy: %v", err)
		}
	}
	if q.Load.Required, err = parseLoads("load", f.load); err != nil {
		return q, o, err
	}
	if q.Load.Optional, err = parseLoads("optional", f.optional); err != nil {
		return q, o, err
	}
	q.Load.Compile = func(t *sources.Table, condition string) (sources.Predicate, error) {
		return parseCondition("the condition", condition, t)
	}
	o.Memory, err = f.sourceFlags.limit()
	return q, o, err
}

func parseLoads(flag string, texts []string) ([]query.Branch, error) {
	var all query.Load
	for _, text := range texts {
		branches, err := query.ParseLoad(text)
		if err == nil {
			all, err = all.Merge(query.Load{Required: branches})
		}
		if err != nil {
			return nil, usagef("--%s: %v", flag, err)
		}
	}
	return all.Required, nil
}

// compile parses the condition, for which it asks the source for the catalog.
func (f *queryFlags) compile(ctx context.Context, c *cobra.Command, source *host.Source, q *core.Query) error {
	if !c.Flags().Changed("where") {
		return nil
	}
	catalog, err := source.Catalog(sources.ForTables(ctx, q.Table))
	if err != nil {
		return err
	}
	t, err := findTable(catalog, q.Table)
	if err != nil {
		return err
	}
	q.Where, err = parseCondition("--where", f.where, t)
	return err
}

// parseCondition parses a condition. What is wrong with its text is a usage error
// that shows the place under the condition's name.
func parseCondition(name, text string, t *sources.Table) (sources.Predicate, error) {
	p, err := celfilter.Parse(t, text)
	var fault *celfilter.Error
	if errors.As(err, &fault) {
		return nil, &usageError{
			message: fmt.Sprintf("%s, line %d, column %d: %s", name, fault.Line, fault.Column, fault.Message),
			detail:  fault.Excerpt,
		}
	}
	return p, err
}
