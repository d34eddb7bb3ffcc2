//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/celfilter"
	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/digest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

// question is the query of a run, as texts.
type question struct {
	source   string // csv or postgres
	table    string
	load     string   // relations that every record has
	optional []string // relations that the consumer asks each chunk for
	where    string
	order    []string // columns that identify a row; empty for the order of the table
	limit    int64    // only with an order: otherwise any rows would be right
}

// String returns the question without its source.
func (q question) String() string {
	var b strings.Builder
	b.WriteString(q.table)
	for _, part := range []struct{ name, text string }{
		{"load", q.load}, {"optional", strings.Join(q.optional, ",")}, {"where", q.where}, {"order by", strings.Join(q.order, ",")},
	} {
		if part.text != "" {
			fmt.Fprintf(&b, " %s %s", part.name, part.text)
		}
	}
	if q.limit > 0 {
		fmt.Fprintf(&b, " limit %d", q.limit)
	}
	return b.String()
}

// subjects are the tables that questions are about, with their keys and what can be
// asked of each.
var subjects = []struct {
	table           string
	key             []string
	loads, optional []string
	wheres          []string
}{
	{
		table: "orders", key: []string{"id"},
		loads:    []string{"customer", "customer,order_lines.product", "order_lines(where: quantity > 4, order: [line:desc], limit: 2)"},
		optional: []string{"customer", "order_lines", "employee"},
		wheres:   []string{`freight > 150.00`, `rush || note != null`, `id > 500 && id <= 1500`, `customer_id in [1, 2, 3, 5, 8, 13]`, `shipped_on >= date("2022-06-01")`},
	},
	{
		table: "order_lines", key: []string{"order_id", "line"},
		loads:    []string{"product", "order.customer"},
		optional: []string{"product", "order"},
		wheres:   []string{`quantity >= 11`, `discount != null && !gift`, `order_id < 300`, `unit_price < 20.00`},
	},
	{
		table: "customers", key: []string{"id"},
		loads:    []string{"orders", "orders(where: rush, order: [freight:desc], limit: 3)"},
		optional: []string{"orders", "employee"},
		wheres:   []string{`balance < 0.00`, `email == null`, `like(name, "A%")`, `external_id > 9007199354740992`},
	},
}

// ask draws a question for a source.
func ask(rng *rand.Rand, source string) question {
	s := subjects[rng.IntN(len(subjects))]
	q := question{source: source, table: s.table}
	if rng.IntN(2) == 0 {
		q.load = s.loads[rng.IntN(len(s.loads))]
	}
	if rng.IntN(4) == 0 {
		q.optional = s.optional[:1+rng.IntN(len(s.optional))]
	}
	if rng.IntN(3) == 0 {
		q.where = s.wheres[rng.IntN(len(s.wheres))]
	}
	if rng.IntN(2) == 0 {
		q.order = s.key
		if rng.IntN(3) == 0 {
			q.limit = 1 + rng.Int64N(1500)
		}
	}
	return q
}

// query returns the question for the engine.
func (q question) query(catalog *sources.Catalog) (core.Query, error) {
	out := core.Query{Table: q.table, Limit: q.limit}
	for _, column := range q.order {
		out.OrderBy = append(out.OrderBy, sources.Sort{Column: column})
	}
	out.Load.Compile = celfilter.Parse
	var err error
	if q.load != "" {
		if out.Load.Required, err = query.ParseLoad(q.load); err != nil {
			return out, err
		}
	}
	if len(q.optional) > 0 {
		if out.Load.Optional, err = query.ParseLoad(strings.Join(q.optional, ",")); err != nil {
			return out, err
		}
	}
	if q.where != "" {
		table := catalog.Table(q.table)
		if table == nil {
			return out, fmt.Errorf("there is no table %s", q.table)
		}
		out.Where, err = celfilter.Parse(table, q.where)
	}
	return out, err
}

// flags returns the question as arguments of penstock read.
func (q question) flags() []string {
	out := []string{q.table}
	add := func(flag, value string) {
		if value != "" && value != "0" {
			out = append(out, flag, value)
		}
	}
	add("--load", q.load)
	add("--optional", strings.Join(q.optional, ","))
	add("--where", q.where)
	add("--order-by", strings.Join(q.order, ","))
	add("--limit", fmt.Sprint(q.limit))
	return out
}

// truth is the right answer to a question: that of an undisturbed stream within this
// process, for which the engine does all that it can do itself.
type truth struct {
	query   core.Query
	receipt core.Receipt
	related map[string]digest.Digest // of the optional relations
}

// answer returns the right answer to a question.
func (w *world) answer(ctx context.Context, q question) (*truth, error) {
	key := q.source + " " + q.String()
	if t, ok := w.truths[key]; ok {
		return t, nil
	}
	uri := w.uri
	if q.source == "csv" {
		uri = "csv:" + w.shop
	}
	t, err := answerAt(ctx, uri, q)
	if err != nil {
		return nil, fmt.Errorf("the undisturbed stream of %s: %w", q, err)
	}
	w.truths[key] = t
	return t, nil
}

// known returns the right answer to a question that answer has returned. It is safe for
// concurrent use, unlike answer.
func (w *world) known(q question) *truth { return w.truths[q.source+" "+q.String()] }

// answerAt returns the right answer to a question at an address.
func answerAt(ctx context.Context, uri string, q question) (t *truth, err error) {
	h, err := host.New(host.Options{Sources: linked, Isolation: host.InProcess})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	s, err := h.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	catalog, err := s.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	t = &truth{related: map[string]digest.Digest{}}
	if t.query, err = q.query(catalog); err != nil {
		return nil, err
	}
	stream, err := s.Stream(ctx, t.query, core.Options{NoPushdown: true})
	if err != nil {
		return nil, err
	}
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return nil, err
		}
		if err := addRelated(ctx, t.related, stream, chunk, q.optional); err != nil {
			return nil, err
		}
	}
	t.receipt = stream.Receipt()
	return t, nil
}

// addRelated adds the optional relations of a chunk to their digests.
func addRelated(ctx context.Context, sums map[string]digest.Digest, stream *core.Stream, chunk *core.Chunk, names []string) error {
	for _, name := range names {
		column, err := chunk.Related(ctx, name)
		if err != nil {
			return err
		}
		field, err := stream.RelatedField(name)
		if err != nil {
			return err
		}
		schema := arrow.NewSchema([]arrow.Field{field}, nil)
		sum, ok := sums[name]
		if !ok {
			sum = digest.New(schema)
		}
		record := array.NewRecordBatch(schema, []arrow.Array{column}, int64(column.Len()))
		sum.Add(record)
		record.Release()
		sums[name] = sum
	}
	return nil
}

// compare returns an error if rows and their optional relations differ from the right
// answer. If inOrder is false, the rows may come in any order.
func (t *truth) compare(r core.Receipt, related map[string]digest.Digest, inOrder bool) error {
	text := digest.Digest.AnyOrder
	if inOrder {
		text = digest.Digest.Ordered
	}
	want := t.receipt
	if r.TotalRows != want.Rows || text(r.Digest) != text(want.Digest) {
		return fmt.Errorf("WRONG ROWS: %d rows with digest %s, want %d with %s", r.TotalRows, text(r.Digest), want.Rows, text(want.Digest))
	}
	for name, sum := range related {
		if text(sum) != text(t.related[name]) {
			return fmt.Errorf("WRONG ROWS of the optional relation %s: digest %s, want %s", name, text(sum), text(t.related[name]))
		}
	}
	return nil
}
