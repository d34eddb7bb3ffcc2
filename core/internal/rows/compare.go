package rows

import (
	"bytes"
	"cmp"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"

	"github.com/penstock-data/penstock/sources"
)

// Comparer returns a function that compares row i of a with row j of b in the
// order of [sources.Compare]. Neither row may be NULL. The function is valid while
// a and b are, and safe for concurrent use. It reads the buffers directly if both
// columns have the same type, and otherwise compares [sources.Value]s.
func Comparer(a, b arrow.Array) func(i, j int) int {
	if e, ok := a.(array.ExtensionArray); ok {
		a = e.Storage()
	}
	if e, ok := b.(array.ExtensionArray); ok {
		b = e.Storage()
	}
	if arrow.TypeEqual(a.DataType(), b.DataType()) {
		if compare := typedComparer(a, b); compare != nil {
			return compare
		}
	}
	return func(i, j int) int { return sources.Compare(sources.ValueAt(a, i), sources.ValueAt(b, j)) }
}

// OrderComparer is [Comparer] for columns that are compared according to the
// [sources.Meaning] of field: their order is by numbers, by labels or by
// [sources.Compare]. It panics with a [*sources.Error] if a value is not a number or
// not a label, or if only the source knows the order.
func OrderComparer(field arrow.Field, a, b arrow.Array) func(i, j int) int {
	switch m := sources.MeaningOf(field); m.Order {
	case sources.ByNumber:
		return NumberComparer(field.Name, a, b)
	case sources.ByLabels:
		rank := make(map[string]int, len(m.Labels))
		for i, label := range m.Labels {
			rank[label] = i
		}
		x, y := labelRanks(field.Name, rank, a), labelRanks(field.Name, rank, b)
		return func(i, j int) int { return cmp.Compare(x(i), y(j)) }
	case sources.BySource:
		panic(sources.Errorf(sources.Internal, "", "", "column %q: only the source knows its order", field.Name))
	}
	return Comparer(a, b)
}

// NumberComparer is [Comparer] for text columns of numbers. The function that it
// returns panics with a [*sources.Error] that names the column if a value is not a
// number.
func NumberComparer(name string, a, b arrow.Array) func(i, j int) int {
	x, y := TextOf(a), TextOf(b)
	return func(i, j int) int {
		v, w := x(i), y(j)
		c, ok := sources.CompareNumberText(v, w)
		if !ok {
			panic(NotANumber(name, v, w))
		}
		return c
	}
}

// NotANumber returns the error for a column of numbers, of kind [sources.Invalid], that
// names the first of the texts that is not a number.
func NotANumber(name string, texts ...string) error {
	for _, s := range texts {
		if _, ok := sources.ParseNumber(s); !ok {
			return sources.Errorf(sources.Invalid, "", "", "column %q: %.64q is not a number, but the catalog says that the column holds numbers", name, s)
		}
	}
	return nil
}

// labelRanks returns a function that returns the rank of the label in a row.
func labelRanks(name string, rank map[string]int, a arrow.Array) func(i int) int {
	at := TextOf(a)
	return func(i int) int {
		r, ok := rank[at(i)]
		if !ok {
			panic(sources.Errorf(sources.Invalid, "", "", "column %q: %.64q is not one of its labels, so it has no place in their order; the labels may have changed since the catalog was read: open the source again", name, at(i)))
		}
		return r
	}
}

// TextOf returns a function that returns the text in a row of a column of text, or of a
// dictionary of text, without a copy.
func TextOf(a arrow.Array) func(i int) string {
	switch a := a.(type) {
	case array.ExtensionArray:
		return TextOf(a.Storage())
	case *array.Dictionary:
		values := TextOf(a.Dictionary())
		return func(i int) string { return values(a.GetValueIndex(i)) }
	case *array.String:
		return a.Value
	case *array.LargeString:
		return a.Value
	}
	panic(sources.Errorf(sources.Internal, "", "", "a column of type %s has no text", a.DataType()))
}

// typedComparer is [Comparer] for two columns of one type. It returns nil if it
// does not support the type.
func typedComparer(a, b arrow.Array) func(i, j int) int {
	switch a.DataType().ID() {
	case arrow.INT8:
		return orderedComparer[int8](a, b)
	case arrow.INT16:
		return orderedComparer[int16](a, b)
	case arrow.INT32, arrow.DATE32, arrow.TIME32:
		return orderedComparer[int32](a, b)
	case arrow.INT64, arrow.DATE64, arrow.TIME64, arrow.TIMESTAMP, arrow.DURATION:
		return orderedComparer[int64](a, b)
	case arrow.UINT8:
		return orderedComparer[uint8](a, b)
	case arrow.UINT16:
		return orderedComparer[uint16](a, b)
	case arrow.UINT32:
		return orderedComparer[uint32](a, b)
	case arrow.UINT64:
		return orderedComparer[uint64](a, b)
	case arrow.FLOAT32:
		x, y := arrow.GetValues[float32](a.Data(), 1), arrow.GetValues[float32](b.Data(), 1)
		return func(i, j int) int { return sources.CompareFloat(float64(x[i]), float64(y[j])) }
	case arrow.FLOAT64:
		x, y := arrow.GetValues[float64](a.Data(), 1), arrow.GetValues[float64](b.Data(), 1)
		return func(i, j int) int { return sources.CompareFloat(x[i], y[j]) }
	case arrow.DECIMAL128:
		x, y := arrow.GetValues[decimal128.Num](a.Data(), 1), arrow.GetValues[decimal128.Num](b.Data(), 1)
		return func(i, j int) int { return x[i].Cmp(y[j]) }
	case arrow.DECIMAL256:
		x, y := arrow.GetValues[decimal256.Num](a.Data(), 1), arrow.GetValues[decimal256.Num](b.Data(), 1)
		return func(i, j int) int { return x[i].Cmp(y[j]) }
	case arrow.BOOL:
		x, y := a.(*array.Boolean), b.(*array.Boolean)
		return func(i, j int) int {
			switch v, w := x.Value(i), y.Value(j); {
			case v == w:
				return 0
			case v:
				return 1
			}
			return -1
		}
	case arrow.STRING:
		x, y := a.(*array.String), b.(*array.String)
		return func(i, j int) int { return strings.Compare(x.Value(i), y.Value(j)) }
	case arrow.LARGE_STRING:
		x, y := a.(*array.LargeString), b.(*array.LargeString)
		return func(i, j int) int { return strings.Compare(x.Value(i), y.Value(j)) }
	case arrow.BINARY:
		x, y := a.(*array.Binary), b.(*array.Binary)
		return func(i, j int) int { return bytes.Compare(x.Value(i), y.Value(j)) }
	case arrow.LARGE_BINARY:
		x, y := a.(*array.LargeBinary), b.(*array.LargeBinary)
		return func(i, j int) int { return bytes.Compare(x.Value(i), y.Value(j)) }
	case arrow.FIXED_SIZE_BINARY:
		x, y := a.(*array.FixedSizeBinary), b.(*array.FixedSizeBinary)
		return func(i, j int) int { return bytes.Compare(x.Value(i), y.Value(j)) }
	}
	return nil
}

func orderedComparer[T interface {
	arrow.FixedWidthType
	cmp.Ordered
}](a, b arrow.Array) func(i, j int) int {
	x, y := arrow.GetValues[T](a.Data(), 1), arrow.GetValues[T](b.Data(), 1)
	return func(i, j int) int { return cmp.Compare(x[i], y[j]) }
}
