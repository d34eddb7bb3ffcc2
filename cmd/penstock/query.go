package main

import (
	"context"

	"github.com/spf13/cobra"

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
  a column with an odd name     row["unit price"] < 5`

const loadHelp = `--load names relations to read along, as penstock catalog shows them, with dots between
one and the next, and options in parentheses for the rows of each:
  customer,lines.product
  'lines(where: qty > 1, order: [price:desc, sku], limit: 5, columns: [sku, qty]).product(columns: name)'`

// queryFlags are those that say what is read.
type queryFlags struct {
	sourceFlags
	columns, where, orderBy, strategy string
	load, optional                    []string
	limit, chunkRows                  int64
	maxDepth, parallel                int
	unordered                         bool
}

func (f *queryFlags) add(c *cobra.Command) {
	f.sourceFlags.add(c)
	flags := c.Flags()
	flags.StringVar(&f.columns, "columns", "", `the columns to give, in this order: a,b,"odd, name"`)
	flags.StringVar(&f.where, "where", "", "give only the rows for which this is true")
	flags.StringVar(&f.orderBy, "order-by", "", "the order of the rows: column[:asc|:desc][:nulls-first|:nulls-last],...")
	flags.Int64Var(&f.limit, "limit", 0, "give so many rows at most")
	flags.Int64Var(&f.chunkRows, "chunk-rows", 0, "handle so many rows at once (default 1000)")
	flags.IntVar(&f.parallel, "parallel", 0, "read so many partitions of the table at once, where the source divides it")
	flags.BoolVar(&f.unordered, "unordered", false, "with --parallel, give rows as they come and not one partition after the other")
	flags.StringArrayVar(&f.load, "load", nil, "load these relations, as columns of rows; may be repeated")
	flags.StringArrayVar(&f.optional, "optional", nil, "load these too, behind them, each for itself; may be repeated")
	flags.StringVar(&f.strategy, "strategy", "", "selective, eager (every relation, down to --max-depth) or lazy (default selective)")
	flags.IntVar(&f.maxDepth, "max-depth", 0, "how many relations may follow one another (default 3)")
}

// parse reads what can be read without the catalogue.
func (f *queryFlags) parse(c *cobra.Command, table string) (core.Query, core.Options, error) {
	q := core.Query{Table: table, Limit: f.limit}
	o := core.Options{ChunkRows: f.chunkRows, Parallel: f.parallel, Unordered: f.unordered, MaxDepth: f.maxDepth}
	var err error
	for name, value := range map[string]int64{"limit": f.limit, "chunk-rows": f.chunkRows, "max-depth": int64(f.maxDepth), "parallel": int64(f.parallel)} {
		if c.Flags().Changed(name) && value <= 0 {
			return q, o, usagef("--%s is %d: it must be at least 1", name, value)
		}
	}
	if f.unordered && f.parallel < 2 {
		return q, o, usagef("--unordered goes with --parallel 2 or more: read as one, rows come in the table's order")
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
		return compileWhere("the condition", condition, t)
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

// compile reads the condition, which needs to know the table's columns.
func (f *queryFlags) compile(ctx context.Context, c *cobra.Command, source *host.Source, q *core.Query) error {
	if !c.Flags().Changed("where") {
		return nil
	}
	catalog, err := source.Catalog(ctx)
	if err != nil {
		return err
	}
	t, err := findTable(catalog, q.Table)
	if err != nil {
		return err
	}
	q.Where, err = compileWhere("--where", f.where, t)
	return err
}
