package core_test

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/zeebo/xxh3"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// idsByName reads a stream to its end and returns the values of its column "id", at
// whatever index it is, and its error.
func idsByName(stream *core.Stream) (got []int64, err error) {
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return got, err
		}
		got = append(got, idColumn(chunk.Record)...)
	}
	return got, nil
}

// idColumn returns the values of the column "id" of a record.
func idColumn(r arrow.RecordBatch) []int64 {
	return r.Column(r.Schema().FieldIndices("id")[0]).(*array.Int64).Int64Values()
}

// TestTokens tests that a stream resumed by the token of any chunk yields exactly
// the remaining rows, for tables of different abilities and for chunks of any size.
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
			source := coretest.Restrict(t, coretest.Numbered(t, rows), func(table *sources.Table) {
				table.Capabilities &= c.can
				table.Filters = nil
			})
			c.q.Table = "items"
			type chunkEnd struct {
				token core.Token
				rows  int
			}
			var ends []chunkEnd
			var want []int64
			stream := coretest.Open(t, source, c.q, coretest.SmallMemory(core.Options{Tokens: true, ChunkRows: 170}), core.Resources{Budget: coretest.NewBudget(t)})
			for chunk, err := range stream.Chunks() {
				if err != nil {
					t.Fatal(err)
				}
				if chunk.Token == "" {
					t.Fatal("a chunk has no token")
				}
				want = append(want, idColumn(chunk.Record)...)
				ends = append(ends, chunkEnd{chunk.Token, len(want)})
			}
			whole := stream.Receipt()
			if last := ends[len(ends)-1]; whole.Token != last.token {
				t.Error("the receipt does not have the last chunk's token")
			}
			for i, at := range ends {
				for _, limit := range []int64{0, 1, 40} {
					q := c.q
					q.After, q.Limit = at.token, limit
					again := coretest.Open(t, source, q, coretest.SmallMemory(core.Options{ChunkRows: int64(50 + 70*i)}), core.Resources{Budget: coretest.NewBudget(t)})
					got, err := idsByName(again)
					rest := want[at.rows:]
					if limit > 0 {
						rest = rest[:min(int(limit), len(rest))]
					}
					if err != nil || !slices.Equal(got, rest) {
						t.Fatalf("after %d rows, limit %d: got %d rows, want %d; error: %v", at.rows, limit, len(got), len(rest), err)
					}
					if r := again.Receipt(); r.TotalRows != int64(at.rows+len(rest)) || r.Digest.Rows() != r.TotalRows || (r.Digest == whole.Digest) != (r.TotalRows == whole.Rows) {
						t.Fatalf("after %d rows, limit %d: the receipt has %d rows in all and the digest %s, want %s", at.rows, limit, r.TotalRows, r.Digest.Ordered(), whole.Digest.Ordered())
					}
				}
			}
		})
	}
}

// TestTokenOfALoopThatWasLeft tests that the receipt's token does not skip the chunk
// in which the consumer left the loop.
func TestTokenOfALoopThatWasLeft(t *testing.T) {
	source := coretest.Numbered(t, 3000)
	stream := coretest.Open(t, source, core.Query{Table: "items"}, coretest.SmallMemory(core.Options{Tokens: true, ChunkRows: 100}), core.Resources{Budget: coretest.NewBudget(t)})
	chunks := 0
	for _, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		if chunks++; chunks == 3 {
			break
		}
	}
	got, err := coretest.IDs(coretest.Open(t, source, core.Query{Table: "items", After: stream.Receipt().Token}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)}))
	if err != nil || len(got) != 2800 || got[0] != 200 {
		t.Errorf("got %d rows from id %v on, error: %v", len(got), got[:1], err)
	}
}

// TestDigestsAreCarried tests that a read that is interrupted again and again, at any row,
// states the digest of the whole, with relations too, and what it states if a part of the
// read had no digest or other columns.
func TestDigestsAreCarried(t *testing.T) {
	shop, err := testkit.Shop{Seed: 1, Orders: 300}.Memory()
	if err != nil {
		t.Fatal(err)
	}
	defer shop.Close()
	read := func(q core.Query, o core.Options, chunks int) core.Receipt {
		t.Helper()
		stream := coretest.Open(t, shop, q, o, core.Resources{Budget: coretest.NewBudget(t)})
		for _, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
			if chunks--; chunks == 0 {
				break
			}
		}
		return stream.Receipt()
	}
	q := core.Query{Table: "orders", Load: query.Load{Required: coretest.ParseLoad(t, "customer,order_lines.product")}}
	whole := read(q, core.Options{}, 0)
	for _, size := range []int64{1, 7, 40} {
		next := q
		var r core.Receipt
		for range 400 {
			if r = read(next, core.Options{Tokens: true, ChunkRows: size}, 4); r.Complete {
				break
			}
			next.After = r.Token
		}
		if !r.Complete || r.Digest != whole.Digest || r.TotalRows != whole.Rows {
			t.Errorf("in chunks of %d: %d rows with %s, want %d with %s", size, r.TotalRows, r.Digest.Ordered(), whole.Rows, whole.Digest.Ordered())
		}
	}
	if whole.Digest == read(core.Query{Table: "orders"}, core.Options{}, 0).Digest {
		t.Error("the digest does not cover the columns of relations")
	}

	// The consumer is done with the first two chunks, of 100 rows each.
	some := read(q, core.Options{Tokens: true, ChunkRows: 100}, 3)
	other := core.Query{Table: "orders", After: some.Token}
	if r := read(other, core.Options{}, 0); r.TotalRows != 300 || r.Digest.Rows() != 100 {
		t.Errorf("without the relations: %d rows, a digest of %d", r.TotalRows, r.Digest.Rows())
	}
	none := read(q, core.Options{Tokens: true, ChunkRows: 100, NoDigests: true}, 3)
	if !none.Digest.IsZero() || none.TotalRows != 300 {
		t.Errorf("without digests: %d rows, %s", none.TotalRows, none.Digest.Ordered())
	}
	other = q
	other.After = none.Token
	r := read(other, core.Options{}, 0)
	if r.TotalRows != 300 || r.Digest.Rows() != 100 {
		t.Errorf("after a read without digests: %d rows, a digest of %d", r.TotalRows, r.Digest.Rows())
	}
}

// TestTokensThatDoNotFit tests that an invalid token is rejected with the reason.
func TestTokensThatDoNotFit(t *testing.T) {
	source := coretest.Numbered(t, 3000)
	token := func(source sources.Source, q core.Query) core.Token {
		t.Helper()
		q.Limit = 150
		stream := coretest.Open(t, source, q, coretest.SmallMemory(core.Options{Tokens: true}), core.Resources{Budget: coretest.NewBudget(t)})
		if _, err := idsByName(stream); err != nil {
			t.Fatal(err)
		}
		return stream.Receipt().Token
	}
	whole := token(source, core.Query{Table: "items"})
	stable := coretest.Restrict(t, source, func(table *sources.Table) { table.Capabilities &^= sources.CapResume })
	ofStable := token(stable, core.Query{Table: "items"})
	raw, err := base64.RawURLEncoding.DecodeString(string(whole))
	if err != nil {
		t.Fatal(err)
	}
	raw[3] ^= 1
	old := append([]byte{1}, raw[1:len(raw)-4]...)
	old = binary.BigEndian.AppendUint32(old, uint32(xxh3.Hash(old)))
	changed := coretest.Restrict(t, source, func(table *sources.Table) { table.Key = nil })
	moved := coretest.Restrict(t, coretest.NumberedFrom(t, 3000, 1), func(table *sources.Table) { table.Capabilities &^= sources.CapResume })
	cases := []struct {
		name   string
		source sources.Source
		q      core.Query
		want   string
	}{
		{"no token", source, core.Query{After: "nonsense"}, "query items: invalid: after: not a valid token, or part of it is missing"},
		{"a part of one", source, core.Query{After: whole[:len(whole)-3]}, "part of it is missing"},
		{"one with a fault", source, core.Query{After: core.Token(base64.RawURLEncoding.EncodeToString(raw))}, "part of it is missing"},
		{"of an earlier version", source, core.Query{After: core.Token(base64.RawURLEncoding.EncodeToString(old))}, "the token has version 1, but this program supports version 3: read from the start"},
		{"of another order", source, core.Query{After: whole, OrderBy: []sources.Sort{{Column: "text"}}}, "belongs to another query"},
		{"of other columns", source, core.Query{After: whole, Columns: []string{"id"}}, "belongs to another query"},
		{"of another condition", source, core.Query{After: whole, Where: sources.IsNull{Column: "text"}}, "belongs to another query"},
		{"of another table", changed, core.Query{After: whole}, "the table has changed since the token was made"},
		{"of other data", moved, core.Query{After: ofStable}, "the rows before the token differ from those that were read when it was made"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.q.Table = "items"
			stream, err := core.Open(t.Context(), c.source, c.q, coretest.SmallMemory(core.Options{}), core.Resources{Budget: coretest.NewBudget(t)})
			if err == nil {
				_, err = coretest.IDs(stream)
			}
			if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error: %v, want one that contains %q", err, c.want)
			}
		})
	}
}

// TestNoToken tests that chunks have no tokens if the table can neither resume a
// scan nor repeat it in the same order.
func TestNoToken(t *testing.T) {
	source := coretest.Restrict(t, coretest.Numbered(t, 3000), func(table *sources.Table) { table.Capabilities &^= sources.CapResume | sources.CapStable })
	stream := coretest.Open(t, source, core.Query{Table: "items"}, coretest.SmallMemory(core.Options{Tokens: true}), core.Resources{Budget: coretest.NewBudget(t)})
	for chunk, err := range stream.Chunks() {
		if err != nil || chunk.Token != "" {
			t.Fatalf("%q, %v", chunk.Token, err)
		}
	}
}

// FuzzToken tests that any text is either a valid token or an error of kind Invalid.
func FuzzToken(f *testing.F) {
	source := coretest.Numbered(f, 300)
	for _, limit := range []int64{1, 299} {
		stream, err := core.Open(f.Context(), source, core.Query{Table: "items", Limit: limit}, coretest.SmallMemory(core.Options{Tokens: true, ChunkRows: 10}), core.Resources{})
		if err != nil {
			f.Fatal(err)
		}
		if _, err := coretest.IDs(stream); err != nil {
			f.Fatal(err)
		}
		f.Add(string(stream.Receipt().Token))
	}
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		stream, err := core.Open(t.Context(), source, core.Query{Table: "items", After: core.Token(token)}, coretest.SmallMemory(core.Options{}), core.Resources{})
		if err == nil {
			_, err = coretest.IDs(stream)
		}
		if err != nil && sources.KindOf(err) != sources.Invalid {
			t.Error(fmt.Errorf("%q: %w", token, err))
		}
	})
}
