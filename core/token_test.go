package core_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/sources"
)

// idsByName reads a stream whose columns may be in any order.
func idsByName(stream *core.Stream) (got []int64, err error) {
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return got, err
		}
		got = append(got, idColumn(chunk.Record)...)
	}
	return got, nil
}

func idColumn(r arrow.RecordBatch) []int64 {
	return r.Column(r.Schema().FieldIndices("id")[0]).(*array.Int64).Int64Values()
}

// TestTokens: from behind every chunk, a new stream gives the rest, whatever the
// table does by itself and however the chunks are cut.
func TestTokens(t *testing.T) {
	const rows = 3000
	const all = ^sources.Capability(0)
	even := sources.In{Column: "text", Values: nil}
	for i := range 25 {
		even.Values = append(even.Values, sources.Text(strings.Repeat("x", 2*i)))
	}
	cases := []struct {
		name string
		can  sources.Capability
		take bool // the table filters
		q    core.Query
	}{
		{name: "cursors", can: all},
		{name: "an order of its own", can: all &^ sources.CapResume},
		{name: "the engine filters", can: all, q: core.Query{Where: even}},
		{name: "the engine filters, without cursors", can: all &^ sources.CapResume, q: core.Query{Where: even}},
		{name: "the engine sorts", can: all &^ (sources.CapSort | sources.CapResume), q: core.Query{OrderBy: []sources.Sort{{Column: "id", Desc: true}}}},
		{name: "some columns", can: all, q: core.Query{Columns: []string{"text", "id"}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			source := humbled(t, numbered(t, rows), func(table *sources.Table) {
				table.Capabilities &= c.can
				table.Filters = nil
			})
			c.q.Table = "items"
			type cut struct {
				token core.Token
				rows  int
			}
			var cuts []cut
			var want []int64
			stream := open(t, source, c.q, small(core.Options{Tokens: true, ChunkRows: 170}), core.Resources{Budget: parent(t)})
			for chunk, err := range stream.Chunks() {
				if err != nil {
					t.Fatal(err)
				}
				if chunk.Token == "" {
					t.Fatal("a chunk has no token")
				}
				want = append(want, idColumn(chunk.Record)...)
				cuts = append(cuts, cut{chunk.Token, len(want)})
			}
			if last := cuts[len(cuts)-1]; stream.Receipt().Token != last.token {
				t.Error("the receipt's token is not that of the last chunk")
			}
			for i, at := range cuts {
				for _, limit := range []int64{0, 1, 40} {
					q := c.q
					q.After, q.Limit = at.token, limit
					again := open(t, source, q, small(core.Options{ChunkRows: int64(50 + 70*i)}), core.Resources{Budget: parent(t)})
					got, err := idsByName(again)
					rest := want[at.rows:]
					if limit > 0 {
						rest = rest[:min(int(limit), len(rest))]
					}
					if err != nil || !slices.Equal(got, rest) {
						t.Fatalf("behind %d rows, limit %d: %d rows, want %d; %v", at.rows, limit, len(got), len(rest), err)
					}
				}
			}
		})
	}
}

// TestTokenOfALoopThatWasLeft: a chunk that the consumer did not come back from is
// not passed over.
func TestTokenOfALoopThatWasLeft(t *testing.T) {
	source := numbered(t, 3000)
	stream := open(t, source, core.Query{Table: "items"}, small(core.Options{Tokens: true, ChunkRows: 100}), core.Resources{Budget: parent(t)})
	chunks := 0
	for _, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		if chunks++; chunks == 3 {
			break
		}
	}
	got, err := ids(open(t, source, core.Query{Table: "items", After: stream.Receipt().Token}, core.Options{}, core.Resources{Budget: parent(t)}))
	if err != nil || len(got) != 2800 || got[0] != 200 {
		t.Errorf("%d rows from %v, %v", len(got), got[:1], err)
	}
}

// TestTokensThatDoNotFit: each is refused, and says why.
func TestTokensThatDoNotFit(t *testing.T) {
	source := numbered(t, 3000)
	token := func(source sources.Source, q core.Query) core.Token {
		t.Helper()
		q.Limit = 150
		stream := open(t, source, q, small(core.Options{Tokens: true}), core.Resources{Budget: parent(t)})
		if _, err := idsByName(stream); err != nil {
			t.Fatal(err)
		}
		return stream.Receipt().Token
	}
	whole := token(source, core.Query{Table: "items"})
	stable := humbled(t, source, func(table *sources.Table) { table.Capabilities &^= sources.CapResume })
	ofStable := token(stable, core.Query{Table: "items"})
	raw, err := base64.RawURLEncoding.DecodeString(string(whole))
	if err != nil {
		t.Fatal(err)
	}
	raw[3] ^= 1
	changed := humbled(t, source, func(table *sources.Table) { table.Key = nil })
	moved := humbled(t, shifted(t, 3000, 1), func(table *sources.Table) { table.Capabilities &^= sources.CapResume })
	cases := []struct {
		name   string
		source sources.Source
		q      core.Query
		want   string
	}{
		{"no token", source, core.Query{After: "nonsense"}, "query items: invalid: after: this is no token, or a part of it is missing"},
		{"a part of one", source, core.Query{After: whole[:len(whole)-3]}, "a part of it is missing"},
		{"one with a fault", source, core.Query{After: core.Token(base64.RawURLEncoding.EncodeToString(raw))}, "a part of it is missing"},
		{"of another order", source, core.Query{After: whole, OrderBy: []sources.Sort{{Column: "id"}}}, "belongs to another query"},
		{"of other columns", source, core.Query{After: whole, Columns: []string{"id"}}, "belongs to another query"},
		{"of another condition", source, core.Query{After: whole, Where: sources.IsNull{Column: "text"}}, "belongs to another query"},
		{"of another table", changed, core.Query{After: whole}, "the table is not what it was"},
		{"of other data", moved, core.Query{After: ofStable}, "the rows before the token are not those that were given then"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.q.Table = "items"
			stream, err := core.Open(t.Context(), c.source, c.q, small(core.Options{}), core.Resources{Budget: parent(t)})
			if err == nil {
				_, err = ids(stream)
			}
			if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want %q", err, c.want)
			}
		})
	}
}

// TestNoToken: where there is no way back there is no token.
func TestNoToken(t *testing.T) {
	source := humbled(t, numbered(t, 3000), func(table *sources.Table) { table.Capabilities &^= sources.CapResume | sources.CapStable })
	stream := open(t, source, core.Query{Table: "items"}, small(core.Options{Tokens: true}), core.Resources{Budget: parent(t)})
	for chunk, err := range stream.Chunks() {
		if err != nil || chunk.Token != "" {
			t.Fatalf("%q, %v", chunk.Token, err)
		}
	}
}

// FuzzToken: whatever a token is, it is refused or read, and what is read goes on
// within the rows.
func FuzzToken(f *testing.F) {
	source := numbered(f, 300)
	for _, limit := range []int64{1, 299} {
		stream, err := core.Open(f.Context(), source, core.Query{Table: "items", Limit: limit}, small(core.Options{Tokens: true, ChunkRows: 10}), core.Resources{})
		if err != nil {
			f.Fatal(err)
		}
		if _, err := ids(stream); err != nil {
			f.Fatal(err)
		}
		f.Add(string(stream.Receipt().Token))
	}
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		stream, err := core.Open(t.Context(), source, core.Query{Table: "items", After: core.Token(token)}, small(core.Options{}), core.Resources{})
		if err == nil {
			_, err = ids(stream)
		}
		if err != nil && sources.KindOf(err) != sources.Invalid {
			t.Error(fmt.Errorf("%q: %w", token, err))
		}
	})
}
