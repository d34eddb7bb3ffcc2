package core_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

func meanings(t *testing.T) sources.Source {
	t.Helper()
	source, err := testkit.NewMeanings()
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// readAll reads a query and returns its rows and the token of each chunk.
func readAll(t *testing.T, source sources.Source, q core.Query, o core.Options) (rows []coretest.Object, tokens []core.Token, err error) {
	t.Helper()
	stream, err := core.Open(t.Context(), source, q, o, core.Resources{Budget: coretest.NewBudget(t)})
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = stream.Close() }()
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return rows, tokens, err
		}
		rows, tokens = append(rows, coretest.Objects(chunk.Record)...), append(tokens, chunk.Token)
	}
	return rows, tokens, nil
}

// TestNoPushdownChangesNoRow asks about every column with every meaning, with every
// operator and order, alone and in terms with another column: the answers with and
// without push-down are equal.
func TestNoPushdownChangesNoRow(t *testing.T) {
	source := meanings(t)
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	same := func(q core.Query) {
		t.Helper()
		asked++
		want, _, err := readAll(t, source, q, core.Options{})
		got, _, ownErr := readAll(t, source, q, core.Options{NoPushdown: true, ChunkRows: 3})
		if err != nil || ownErr != nil {
			t.Fatalf("%+v: %v; without push-down: %v", q, err, ownErr)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v (-pushed down +not):\n%s", q, diff)
		}
	}
	for _, table := range catalog.Tables {
		values := map[string][]sources.Value{}
		rows := coretest.ReadTables(t, source).Rows[table.Name]
		for _, f := range table.Schema.Fields() {
			for _, row := range rows[:min(5, len(rows))] {
				v := row[f.Name]
				if text, ok := v.V.(string); ok && sources.FieldType(f) == sources.Number {
					v, _ = sources.ParseNumber(text)
				}
				values[f.Name] = append(values[f.Name], v)
			}
		}
		other := sources.IsNull{Column: table.Schema.Field(table.Schema.NumFields() - 1).Name, Not: true}
		for _, f := range table.Schema.Fields() {
			var terms []sources.Predicate
			for _, v := range values[f.Name] {
				if v.IsNull() {
					v = sources.Null(sources.FieldType(f))
				}
				for op := sources.OpEq; op <= sources.OpGe; op++ {
					terms = append(terms, sources.Comparison{Column: f.Name, Op: op, Value: v})
				}
			}
			terms = append(terms, sources.In{Column: f.Name, Values: values[f.Name]}, sources.IsNull{Column: f.Name}, sources.In{Column: f.Name})
			if sources.Comparable(f.Type, arrow.BinaryTypes.String) {
				terms = append(terms, sources.HasPrefix{Column: f.Name, Prefix: "M"}, sources.Like{Column: f.Name, Pattern: "%.%"})
			}
			for _, p := range terms {
				for _, where := range []sources.Predicate{p, sources.Not{Predicate: p}, sources.And{p, other}, sources.Or{p, sources.Not{Predicate: other}}} {
					same(core.Query{Table: table.Name, Where: where})
				}
			}
			for _, s := range []sources.Sort{{Column: f.Name}, {Column: f.Name, Desc: true, NullsFirst: true}} {
				for _, limit := range []int64{0, 3} {
					same(core.Query{Table: table.Name, OrderBy: []sources.Sort{s}, Limit: limit})
					same(core.Query{Table: table.Name, OrderBy: []sources.Sort{s}, Limit: limit, Where: other})
				}
			}
		}
	}
	if asked < 1000 {
		t.Errorf("only %d questions were asked", asked)
	}
}

// TestLabelsAreKnown tests that a comparison with what is no label is refused before
// anything is read, whoever would evaluate it.
func TestLabelsAreKnown(t *testing.T) {
	for _, noPushdown := range []bool{false, true} {
		q := core.Query{Table: "members", Where: sources.Comparison{Column: "level", Op: sources.OpLt, Value: sources.Text("admn")}}
		_, err := core.Explain(t.Context(), meanings(t), q, core.Options{NoPushdown: noPushdown})
		if sources.KindOf(err) != sources.Invalid || !strings.Contains(fmt.Sprint(err), `query members: invalid: where: column "level" has no label "admn"; the nearest is "admin"`) {
			t.Errorf("no push-down %t: %v", noPushdown, err)
		}
		q.Where = sources.Comparison{Column: "level", Op: sources.OpEq, Value: sources.Text("admn")}
		if rows, _, err := readAll(t, meanings(t), q, core.Options{NoPushdown: noPushdown}); err != nil || len(rows) > 0 {
			t.Errorf("no push-down %t: an equality has %d rows and the error %v", noPushdown, len(rows), err)
		}
	}
}

// TestTokensKnowPushdown tests that a token does not resume a stream whose source gets
// another query, in which its cursor is another place.
func TestTokensKnowPushdown(t *testing.T) {
	q := core.Query{Table: "posts", Where: sources.Comparison{Column: "id", Op: sources.OpGt, Value: sources.Int(20)}}
	for _, noPushdown := range []bool{false, true} {
		o := core.Options{ChunkRows: 3, Tokens: true, NoPushdown: noPushdown}
		rows, tokens, err := readAll(t, meanings(t), q, o)
		if err != nil {
			t.Fatal(err)
		}
		rest := q
		rest.After = tokens[1]
		got, _, err := readAll(t, meanings(t), rest, o)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rows[6:], got); diff != "" {
			t.Errorf("resumed (-want +got):\n%s", diff)
		}
		o.NoPushdown = !noPushdown
		if got, _, err := readAll(t, meanings(t), rest, o); sources.KindOf(err) != sources.Invalid || !strings.Contains(fmt.Sprint(err), "with or without push-down as before") {
			t.Errorf("with another push-down: %d rows, %v", len(got), err)
		}
	}
}
