package relation

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// hasOrdinals reports whether the source tells which key each row equals, because only
// it can. Its keys have the types of the columns that they come from.
func (a *keyAccess) hasOrdinals() bool { return a.lookup != nil && a.lookup.Ordinals }

// ordinals assigns the rows of a look-up to keys by the ordinals in its pages.
type ordinals struct {
	access     *keyAccess
	groupOfKey []int32 // the group of each key by index
	numbers    []int32 // the indexes of the keys that were looked up, in their order
	last       int32   // the ordinal of the row before
}

// match returns the rows of a page without the ordinals, and the group of each. The
// batch owns both.
func (o *ordinals) match(b *batch, page arrow.RecordBatch) (arrow.RecordBatch, []int32, error) {
	last := int(page.NumCols()) - 1
	if page.Column(last).NullN() > 0 {
		return nil, nil, sources.Errorf(sources.Internal, "scan", o.access.table.Name, "the source returned a row that belongs to no key")
	}
	groupOf := b.Ints(int(page.NumRows()))
	for row, n := range page.Column(last).(*array.Int32).Int32Values() {
		if n < o.last || int(n) >= len(o.numbers) {
			return nil, nil, sources.Errorf(sources.Internal, "scan", o.access.table.Name, "the source returned a row for key %d after one for key %d, of %d keys", n, o.last, len(o.numbers))
		}
		o.last = n
		groupOf[row] = o.groupOfKey[o.numbers[n]]
	}
	record := array.NewRecordBatch(o.access.schema, page.Columns()[:last], page.NumRows())
	return b.hold(rows.Keep(b.Arena, record)), groupOf, nil
}
