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

// most is how many rows of a table the rules look at. Those that need all of a
// table are not tried on a larger one.
const most = 20_000

// table is one table under test.
type table struct {
	*suite
	*sources.Table
	rows   [][]sources.Value // the first ones of a plain scan
	whole  bool              // they are all
	broken string            // why the other rules make no sense
}

var tableRules = []tableRule{
	{rule{"scan", "A scan that succeeds yields at least one batch; its schema is the table's, the same names, types and nullability for every batch of the scan."}, (*table).scan},
	{rule{"cursor", "The cursor resumes the scan right after this batch's last row, where the table can Resume; else it is nil."}, (*table).cursors},
	{rule{"single use", "The sequence is single use: ranging over it again yields an Invalid error."}, (*table).singleUse},
	{rule{"pages", "At most so many bytes as Size counts them; a page of one row may be larger. At most so many rows."}, (*table).pages},
	{rule{"empty", "An empty result is one batch of no rows, so that its schema is known."}, (*table).empty},
	{rule{"break", "Leaving the loop early is the way to stop, and frees everything."}, (*table).leave},
	{rule{"errors", "An error comes once, and last, with a zero Batch: after it nothing is yielded."}, (*table).faults},
	{rule{"memory", "Where it refuses, it panics with an Error of kind Exhausted; Guard turns that into the scan's error."}, (*table).refusals},
	{rule{"cancel", "The context cancels: a scan that waits returns an error of kind Canceled."}, (*table).cancels},
	{rule{"columns", "Columns are the ones to give, in this order, each once; a list of no columns gives rows without columns."}, (*table).columns},
	{rule{"limit", "Limit is the number of rows at most."}, (*table).limit},
	{rule{"stable", "Two scans of one query give the same rows in the same order while the data is the same."}, (*table).stable},
	{rule{"where", "Where keeps the rows for which it is true (not those for which it is NULL)."}, (*table).where},
	{rule{"logic", "It takes And, Or and Not over what Filters lists, not conjuncts alone."}, (*table).logic},
	{rule{"keys", "Keys keeps the rows whose columns equal one of the listed keys. A row that matches is given once for however many equal keys are listed. A key with a NULL in it matches nothing."}, (*table).keys},
	{rule{"order", "OrderBy is the order of the rows. Values compare as Compare says."}, (*table).order},
	{rule{"partitions", "Parts are partitions that together hold every row of the result once."}, (*table).parts},
	{rule{"snapshot", "Join is the Plan.Snapshot of another session of the same source, whose moment this session is to see."}, (*table).snapshot},
	{rule{"skipped", "Skipped are the records that the scan left out: two scans while the data is the same leave out as many, whatever the pages, and say where the first ones are."}, (*table).skipped},
	{rule{"concurrency", "Source is shared by streams: it is safe for concurrent use. How many scans may run at once in a session is the table's Scans."}, (*table).concurrency},
}

// query asks for the table as it is.
func (t *table) query() *sources.Query { return &sources.Query{Table: t.Name} }

// ask runs a query in a session of its own.
func (t *table) ask(q *sources.Query, env sources.Env) (rows [][]sources.Value, err error) {
	err = t.begin(env, func(session sources.Session) error {
		rows, err = collect(session.Scan(t.ctx, q), most)
		return err
	})
	return rows, err
}

// collect returns the rows of a scan, most at most.
func collect(scan sources.Batches, most int) (rows [][]sources.Value, err error) {
	batches := 0
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
		if len(rows) >= most {
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

// text writes a row so that equal rows have equal texts.
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

// differ says where two lists of rows differ; ordered says that their order
// counts.
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

// conforms holds a batch against the schema that it must have.
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
		return skipped(fmt.Sprintf("the table has more than %d rows", most))
	}
	return nil
}

func (t *table) require(a sources.Capability) error {
	if !t.Capabilities.Has(a) {
		return skipped("the table does not " + a.String())
	}
	return nil
}

// counting is an allocator that counts, and refuses from a number of
// allocations on. It is safe for concurrent use.
type counting struct {
	mu     sync.Mutex
	bytes  int
	calls  int
	refuse int // 0: never
}

func (c *counting) take(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.refuse > 0 && c.calls >= c.refuse {
		panic(&sources.Error{Kind: sources.Exhausted, Err: errRefused})
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

// empty is nil once everything was given back.
func (c *counting) empty() error {
	return settle(func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.bytes != 0 {
			return fmt.Errorf("%d bytes of Env.Mem are not given back when the session is closed", c.bytes)
		}
		return nil
	})
}
