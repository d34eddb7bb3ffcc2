package testkit

import (
	"context"
	"fmt"
	"iter"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/penstock-data/penstock/sources"
)

// Shop generates the data of a fictitious shop: nine related tables. The rows depend
// only on Seed and Orders, and each row is computed from its number, so memory does not
// grow with the size.
//
// With N orders there are
//
//	employees     5 + N/2000   manager_id refers to another employee; the first has none
//	suppliers     5 + N/1000
//	categories    20           parent_id refers to one of the first five, which have none
//	tags          24
//	products      10 + N/20
//	product_tags  0 to 3 for each product: the many-to-many
//	customers     5 + N/10     external_id is unique and beyond 2^53
//	orders        N            early customers order more than late ones
//	order_lines   1 to 7 for each order, 4 on average; the key is (order_id, line)
//
// Ids count from 1, and rows come in the order of their keys. Texts contain quotes,
// commas, line ends, tabs, backslashes, umlauts, leading zeros, empty strings and NULLs.
// There are integers, decimals, a float, booleans, dates and timestamps. Every foreign
// key is valid or NULL.
type Shop struct {
	Seed   uint64
	Orders int
}

// kind is the type of a column in CSV packages, SQL and Arrow.
type kind struct {
	frictionless string
	sql          string
	arrow        arrow.DataType
}

var (
	kindInt     = kind{"integer", "bigint", arrow.PrimitiveTypes.Int64}
	kindFloat   = kind{"number", "double precision", arrow.PrimitiveTypes.Float64}
	kindBool    = kind{"boolean", "boolean", arrow.FixedWidthTypes.Boolean}
	kindText    = kind{"string", "text", arrow.BinaryTypes.String}
	kindDate    = kind{"date", "date", arrow.FixedWidthTypes.Date32}
	kindInstant = kind{"datetime", "timestamp with time zone", arrow.FixedWidthTypes.Timestamp_us}
)

func decimalKind(precision, scale int32) kind {
	return kind{"number", fmt.Sprintf("numeric(%d,%d)", precision, scale), &arrow.Decimal128Type{Precision: precision, Scale: scale}}
}

type shopColumn struct {
	name     string
	kind     kind
	nullable bool
	format   string // of the Frictionless field; may be empty
	unique   bool
}

type shopTable struct {
	name    string
	key     []string
	columns []shopColumn
	foreign map[string]string // the referenced table of each foreign key column
	rows    func(s Shop) int  // the number of calls of emit
	// emit generates the rows of one call, counted from 0: a row, or the rows of one
	// parent.
	emit func(s Shop, d *dice, i int, c cells)
}

// cells receives the rows of a table, cell by cell.
type cells interface {
	null()
	int(v int64)
	decimal(unscaled int64, scale int)
	float(v float64)
	bool(v bool)
	text(v string)
	date(days int64)      // since 1970-01-01
	instant(micros int64) // since 1970-01-01
	end()                 // ends the row
}

// dice is a random number generator for one call of emit. It does not use math/rand, so
// that the shop does not depend on the version of Go.
type dice struct{ pcg rand.PCG }

func (d *dice) seed(seed uint64, table, index int) {
	d.pcg.Seed(mix(seed+uint64(table)*0x9e3779b97f4a7c15), mix(uint64(index)))
}

// mix distributes adjacent numbers over all 64 bits (splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// below returns a number in [0, n).
func (d *dice) below(n int) int {
	hi, _ := bits.Mul64(d.pcg.Uint64(), uint64(n))
	return int(hi)
}

// early returns a number in [0, n) that is more often small.
func (d *dice) early(n int) int { return min(d.below(n), d.below(n)) }

func (d *dice) chance(percent int) bool { return d.below(100) < percent }

func (d *dice) pick(from []string) string { return from[d.below(len(from))] }

// Tables returns the names of the tables. A table comes after those it refers to.
func (s Shop) Tables() []string {
	var names []string
	for _, t := range shopTables {
		names = append(names, t.name)
	}
	return names
}

// Rows returns the number of rows of a table, or -1 if there is no such table. For
// order_lines and product_tags it takes about 10 ns for each parent.
func (s Shop) Rows(table string) int64 {
	i := slices.IndexFunc(shopTables, func(t shopTable) bool { return t.name == table })
	if i < 0 {
		return -1
	}
	if len(shopTables[i].key) == 1 {
		return int64(shopTables[i].rows(s))
	}
	var count counter
	var d dice
	for index := range shopTables[i].rows(s) {
		d.seed(s.Seed, i, index)
		shopTables[i].emit(s, &d, index, &count)
	}
	return count.rows
}

// counter counts rows.
type counter struct{ rows int64 }

func (*counter) null()              {}
func (*counter) int(int64)          {}
func (*counter) decimal(int64, int) {}
func (*counter) float(float64)      {}
func (*counter) bool(bool)          {}
func (*counter) text(string)        {}
func (*counter) date(int64)         {}
func (*counter) instant(int64)      {}
func (c *counter) end()             { c.rows++ }

// Values yields the rows of a table in the form of [sources.Row]. The slice is valid
// during one iteration.
func (s Shop) Values(table string) iter.Seq[[]any] {
	return func(yield func([]any) bool) {
		for i, t := range shopTables {
			if t.name != table {
				continue
			}
			v := valueCells{yield: yield}
			var d dice
			for index := 0; index < t.rows(s) && !v.stopped; index++ {
				d.seed(s.Seed, i, index)
				t.emit(s, &d, index, &v)
			}
		}
	}
}

// valueCells collects cells as Go values.
type valueCells struct {
	row     []any
	yield   func([]any) bool
	stopped bool
}

func (v *valueCells) put(x any)                     { v.row = append(v.row, x) }
func (v *valueCells) null()                         { v.put(nil) }
func (v *valueCells) int(x int64)                   { v.put(x) }
func (v *valueCells) decimal(unscaled int64, _ int) { v.put(decimal128.FromI64(unscaled)) }
func (v *valueCells) float(x float64)               { v.put(x) }
func (v *valueCells) bool(x bool)                   { v.put(x) }
func (v *valueCells) text(x string)                 { v.put(x) }
func (v *valueCells) date(days int64)               { v.put(typed(kindDate, days)) }
func (v *valueCells) instant(micros int64)          { v.put(typed(kindInstant, micros)) }
func typed(k kind, ticks int64) sources.Value       { return sources.Value{Type: k.arrow, V: ticks} }
func (v *valueCells) end() {
	if !v.stopped {
		v.stopped = !v.yield(v.row)
	}
	v.row = v.row[:0]
}

// write encodes a table row by row and writes the bytes in blocks. It checks the context
// between blocks.
func (s Shop) write(ctx context.Context, table int, c cells, buffer *[]byte, flush func([]byte) error) error {
	const block = 256 << 10
	t := shopTables[table]
	var d dice
	for index := range t.rows(s) {
		d.seed(s.Seed, table, index)
		t.emit(s, &d, index, c)
		if len(*buffer) >= block {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := flush(*buffer); err != nil {
				return err
			}
			*buffer = (*buffer)[:0]
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return flush(*buffer)
}

func (s Shop) check() error {
	if s.Orders < 0 {
		return fmt.Errorf("the shop's Orders must not be negative (got %d)", s.Orders)
	}
	return nil
}
