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
