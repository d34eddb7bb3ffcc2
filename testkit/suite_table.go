package testkit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// most and mostBytes are how many rows and bytes of a table the rules read. Rules that
// need a whole table are skipped for larger ones.
const (
	most      = 20_000
	mostBytes = 8 << 20
)

// table is one table under test.
type table struct {
	*suite
	*sources.Table
	rows   [][]sources.Value // the first rows of a plain scan
	whole  bool              // rows has all rows of the table
	broken string            // why the other rules cannot be checked; empty if they can
	// answers has, for each condition that only the source can evaluate, the rows that it
	// returned, as text.
	answers map[string]map[string]bool
}

var tableRules = []tableRule{
	{rule{"scan", "A successful scan yields at least one batch. Its schema is that of the table; names, types and nullability are the same in every batch of a scan."}, (*table).scan},
	{rule{"cursor", "Cursor resumes the scan after the last row of this batch. It is nil unless the table has CapResume."}, (*table).cursors},
	{rule{"single use", "The sequence is single-use: ranging over it again yields an error of kind Invalid."}, (*table).singleUse},
	{rule{"pages", "Limits limits the size of a page, in bytes as counted by Size, and in rows; a page of one row may be larger."}, (*table).pages},
	{rule{"empty", "An empty result is one batch without rows, which still has a schema."}, (*table).empty},
	{rule{"break", "The consumer stops a scan by leaving the range loop, which releases all resources."}, (*table).leave},
	{rule{"errors", "An error is yielded at most once, with a zero Batch, and ends the sequence."}, (*table).faults},
	{rule{"memory", "If the budget is exhausted, it panics with an Error of kind Exhausted, which Guard turns into the scan's error."}, (*table).refusals},
	{rule{"cancel", "When the context is canceled, a blocked scan yields an error of kind Canceled."}, (*table).cancels},
	{rule{"columns", "Columns lists the columns of the result in order, each once; an empty list means rows without columns."}, (*table).columns},
	{rule{"limit", "Limit is the maximum number of rows."}, (*table).limit},
	{rule{"stable", "While the data is the same, a query always returns the same rows in the same order."}, (*table).stable},
	{rule{"meaning", "A column says in the metadata of its field how its values are compared. The answers of the source agree with that and with each other: of two values, one is smaller, or they are equal."}, (*table).meaning},
	{rule{"where", "Where selects the rows for which it is true, not those for which it is unknown."}, (*table).where},
	{rule{"logic", "It accepts And, Or and Not over the operators of Filters, not only conjuncts."}, (*table).logic},
	{rule{"keys", "Keys selects every row that equals a key exactly once, even if the key is listed several times. A key that contains a NULL matches nothing."}, (*table).keys},
	{rule{"ordinals", "A lookup with Ordinals returns a row once for every key that it equals, with the ordinal of the key in the last column, in the order of the ordinals, then in that of OrderBy; LimitPerKey applies to each key, and a key with a NULL matches nothing."}, (*table).ordinals},
	{rule{"order", "OrderBy is the order of the rows. Values are compared according to the column's Meaning."}, (*table).order},
	{rule{"partitions", "Parts divides the result into partitions, which together contain every row exactly once."}, (*table).parts},
	{rule{"snapshot", "Snapshot is the Plan.Snapshot of another session of the same source. This session then sees the same point in time."}, (*table).snapshot},
	{rule{"skipped", "Skipped counts the records left out: while the data is the same, all scans leave out the same number, whatever their pages, with the locations of the first ones."}, (*table).skipped},
	{rule{"concurrency", "Source is shared by streams and must be safe for concurrent use. MaxScans limits how many scans of a session may run concurrently."}, (*table).concurrency},
}

// query returns a query of the whole table.
func (t *table) query() *sources.Query { return &sources.Query{Table: t.Name} }

// ask runs a query in a new session and returns its rows.
func (t *table) ask(q *sources.Query, env sources.Env) (rows [][]sources.Value, err error) {
	err = t.begin(env, func(session sources.Session) error {
		rows, err = collect(session.Scan(t.ctx, q), most)
		return err
	})
	return rows, err
}

// collect returns about the first most rows of a scan, of mostBytes at most.
func collect(scan sources.Batches, most int) (rows [][]sources.Value, err error) {
	batches, bytes := 0, int64(0)
	for batch, err := range scan {
		if err != nil {
			return rows, err
		}
		if batch.Record == nil {
			return rows, errors.New("a batch without an error has no record")
		}
		if err := batch.Skipped.Check(); err != nil {
			return rows, err
		}
		batches++
		rows = append(rows, rowsOf(batch.Record)...)
		if bytes += sources.Size(batch.Record); len(rows) >= most || bytes >= mostBytes {
			return rows, nil
		}
	}
	if batches == 0 {
		return nil, errors.New("the scan yields neither a batch nor an error")
	}
	return rows, nil
}

func rowsOf(r arrow.RecordBatch) [][]sources.Value {
	rows := make([][]sources.Value, r.NumRows())
	for i := range rows {
		rows[i] = make([]sources.Value, r.NumCols())
		for j, c := range r.Columns() {
			rows[i][j] = sources.ValueAt(c, i)
		}
	}
	return rows
}

// text returns a text that is the same for equal rows.
func text(row []sources.Value) string {
	var b strings.Builder
	for _, v := range row {
		if v.IsNull() {
			b.WriteString("NULL|")
		} else {
			fmt.Fprintf(&b, "%q|", fmt.Sprint(v.V))
		}
	}
	return b.String()
}

// differ returns an error if two lists of rows differ. ordered tells whether their order
// matters.
func differ(want, got [][]sources.Value, ordered bool) error {
	texts := func(rows [][]sources.Value) []string {
		all := make([]string, len(rows))
		for i, r := range rows {
			all[i] = text(r)
		}
		if !ordered {
			slices.Sort(all)
		}
		return all
	}
	w, g := texts(want), texts(got)
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Errorf("row %d of %d is %s, want %s (of %d)", i+1, len(g), clip(g[i]), clip(w[i]), len(w))
		}
	}
	if len(w) != len(g) {
		return fmt.Errorf("there are %d rows, want %d", len(g), len(w))
	}
	return nil
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

// conforms returns an error if a batch does not have the given schema.
func conforms(r arrow.RecordBatch, want *arrow.Schema) error {
	got := r.Schema()
	if got.NumFields() != want.NumFields() {
		return fmt.Errorf("a batch has %d columns, want %d", got.NumFields(), want.NumFields())
	}
	for i, w := range want.Fields() {
		g := got.Field(i)
		if g.Name != w.Name || !arrow.TypeEqual(g.Type, w.Type) || g.Nullable != w.Nullable {
			return fmt.Errorf("column %d of a batch is %q %s (nullable %t), want %q %s (nullable %t)", i+1, g.Name, g.Type, g.Nullable, w.Name, w.Type, w.Nullable)
		}
		if !w.Nullable && r.Column(i).NullN() > 0 {
			return fmt.Errorf("column %q is not nullable and has %d NULLs", w.Name, r.Column(i).NullN())
		}
	}
	return nil
}

func (t *table) requireWhole() error {
	if !t.whole {
		return skipped(fmt.Sprintf("the table has more than %d rows or %d MiB", most, mostBytes>>20))
	}
	return nil
}

func (t *table) require(a sources.Capability) error {
	if !t.Capabilities.Has(a) {
		return skipped("the table does not " + a.String())
	}
	return nil
}

// counting is an allocator that counts bytes, and can fail from a given allocation on.
// It is safe for concurrent use.
type counting struct {
	mu     sync.Mutex
	bytes  int
	calls  int
	refuse int // the first allocation that fails; 0 means none
}

func (c *counting) take(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.refuse > 0 && c.calls >= c.refuse {
		panic(sources.NewError(sources.Exhausted, "", "", errRefused))
	}
	c.bytes += n
}

var errRefused = errors.New("the suite refuses this allocation")

func (c *counting) Allocate(size int) []byte {
	c.take(size)
	return make([]byte, size)
}

func (c *counting) Reallocate(size int, b []byte) []byte {
	if size <= cap(b) && size <= len(b) {
		c.give(len(b) - size)
		return b[:size]
	}
	c.take(size)
	larger := make([]byte, size)
	copy(larger, b)
	c.give(len(b))
	return larger
}

func (c *counting) Free(b []byte) { c.give(len(b)) }

func (c *counting) give(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes -= n
}

// empty returns an error unless all memory is freed before the patience is over.
func (c *counting) empty() error {
	return settle(func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.bytes != 0 {
			return fmt.Errorf("%d bytes of Env.Mem are not freed when the session is closed", c.bytes)
		}
		return nil
	})
}
