package sources

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
)

// Value is a typed scalar: a literal of a predicate, or a value of a column. The zero
// Value is NULL without a type.
type Value struct {
	// Type is the Arrow type. For an extension type it is the storage type.
	Type arrow.DataType
	// V is nil for NULL. Otherwise its Go type depends on Type:
	//
	//	bool                      bool
	//	int8 .. int64             int64
	//	uint8 .. uint64           uint64
	//	float16 .. float64        float64
	//	decimal32 .. decimal128   decimal128.Num, unscaled
	//	decimal256                decimal256.Num, unscaled
	//	text and binary           string
	//	number (see [Number])     Digits
	//	date, time, timestamp,
	//	duration                  int64 in the type's unit
	//
	// Values of other types, such as lists, structs and intervals, cannot be compared;
	// their V is a string for display.
	V any
}

// Null returns NULL of type t.
func Null(t arrow.DataType) Value { return Value{Type: t} }

// Bool returns a boolean value.
func Bool(b bool) Value { return Value{Type: arrow.FixedWidthTypes.Boolean, V: b} }

// Int returns a 64-bit integer.
func Int(i int64) Value { return Value{Type: arrow.PrimitiveTypes.Int64, V: i} }

// Uint returns an unsigned 64-bit integer.
func Uint(u uint64) Value { return Value{Type: arrow.PrimitiveTypes.Uint64, V: u} }

// Float returns a 64-bit float.
func Float(f float64) Value { return Value{Type: arrow.PrimitiveTypes.Float64, V: f} }

// Text returns a text value.
func Text(s string) Value { return Value{Type: arrow.BinaryTypes.String, V: s} }

// Bytes returns a binary value.
func Bytes(b []byte) Value { return Value{Type: arrow.BinaryTypes.Binary, V: string(b)} }

// Timestamp returns t as a timestamp in UTC, truncated to microseconds.
func Timestamp(t time.Time) Value {
	return Value{Type: arrow.FixedWidthTypes.Timestamp_us, V: t.UnixMicro()}
}

// Date returns the calendar date of t in t's location.
func Date(t time.Time) Value {
	y, m, d := t.Date()
	return Value{Type: arrow.FixedWidthTypes.Date32, V: time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400}
}

// Decimal returns unscaled / 10^scale as a decimal with 38 digits.
func Decimal(unscaled decimal128.Num, scale int32) Value {
	return Value{Type: &arrow.Decimal128Type{Precision: 38, Scale: scale}, V: unscaled}
}

// IsNull reports whether the value is NULL.
func (v Value) IsNull() bool { return v.V == nil }

// String returns the value for display. Text is quoted; NULL is "NULL".
func (v Value) String() string {
	switch x := v.V.(type) {
	case nil:
		return "NULL"
	case Digits:
		return string(x)
	case string:
		if isBinary(v.Type) {
			return fmt.Sprintf("0x%x", x)
		}
		return strconv.Quote(x)
	case decimal128.Num:
		return x.ToString(v.Type.(arrow.DecimalType).GetScale())
	case decimal256.Num:
		return x.ToString(v.Type.(arrow.DecimalType).GetScale())
	case int64:
		switch t := v.Type.(type) {
		case *arrow.Date32Type:
			return time.Unix(x*86400, 0).UTC().Format(time.DateOnly)
		case *arrow.TimestampType:
			return arrow.Timestamp(x).ToTime(t.Unit).Format(time.RFC3339Nano)
		}
	}
	return fmt.Sprint(v.V)
}

// ValueAt returns a copy of the value at index i of a.
func ValueAt(a arrow.Array, i int) Value {
	if e, ok := a.(array.ExtensionArray); ok {
		a = e.Storage()
	}
	v := Value{Type: a.DataType()}
	// An array of type null has no validity bitmap, so IsNull is false.
	if a.IsNull(i) || a.DataType().ID() == arrow.NULL {
		return v
	}
	switch a := a.(type) {
	case *array.Boolean:
		v.V = a.Value(i)
	case *array.Int8:
		v.V = int64(a.Value(i))
	case *array.Int16:
		v.V = int64(a.Value(i))
	case *array.Int32:
		v.V = int64(a.Value(i))
	case *array.Int64:
		v.V = a.Value(i)
	case *array.Uint8:
		v.V = uint64(a.Value(i))
	case *array.Uint16:
		v.V = uint64(a.Value(i))
	case *array.Uint32:
		v.V = uint64(a.Value(i))
	case *array.Uint64:
		v.V = a.Value(i)
	case *array.Float16:
		v.V = float64(a.Value(i).Float32())
	case *array.Float32:
		v.V = float64(a.Value(i))
	case *array.Float64:
		v.V = a.Value(i)
	case *array.Decimal32:
		v.V = decimal128.FromI64(int64(a.Value(i)))
	case *array.Decimal64:
		v.V = decimal128.FromI64(int64(a.Value(i)))
	case *array.Decimal128:
		v.V = a.Value(i)
	case *array.Decimal256:
		v.V = a.Value(i)
	case *array.String:
		v.V = strings.Clone(a.Value(i))
	case *array.LargeString:
		v.V = strings.Clone(a.Value(i))
	case *array.Binary:
		v.V = string(a.Value(i))
	case *array.LargeBinary:
		v.V = string(a.Value(i))
	case *array.FixedSizeBinary:
		v.V = string(a.Value(i))
	case *array.Date32:
		v.V = int64(a.Value(i))
	case *array.Date64:
		v.V = int64(a.Value(i))
	case *array.Time32:
		v.V = int64(a.Value(i))
	case *array.Time64:
		v.V = int64(a.Value(i))
	case *array.Timestamp:
		v.V = int64(a.Value(i))
	case *array.Duration:
		v.V = int64(a.Value(i))
	case *array.Dictionary:
		return ValueAt(a.Dictionary(), a.GetValueIndex(i))
	default:
		v.V = strings.Clone(a.ValueStr(i))
	}
	return v
}

// class is a set of types whose values can be compared with each other.
type class uint8

const (
	noClass class = iota
	boolClass
	numberClass
	textClass
	binaryClass
	dateClass
	timeClass
	localClass   // timestamps without a time zone
	instantClass // timestamps with a time zone
	durationClass
)

func classOf(t arrow.DataType) class {
	switch t := t.(type) {
	case nil:
		return noClass
	case *numberType:
		return numberClass
	case arrow.ExtensionType:
		return classOf(t.StorageType())
	case *arrow.DictionaryType:
		return classOf(t.ValueType)
	case *arrow.TimestampType:
		if t.TimeZone == "" {
			return localClass
		}
		return instantClass
	}
	switch id := t.ID(); {
	case id == arrow.BOOL:
		return boolClass
	case arrow.IsInteger(id), arrow.IsFloating(id), arrow.IsDecimal(id):
		return numberClass
	case id == arrow.STRING, id == arrow.LARGE_STRING:
		return textClass
	case id == arrow.BINARY, id == arrow.LARGE_BINARY, id == arrow.FIXED_SIZE_BINARY:
		return binaryClass
	case id == arrow.DATE32, id == arrow.DATE64:
		return dateClass
	case id == arrow.TIME32, id == arrow.TIME64:
		return timeClass
	case id == arrow.DURATION:
		return durationClass
	}
	return noClass
}

func isBinary(t arrow.DataType) bool { return classOf(t) == binaryClass }

// Comparable reports whether values of the two types can be compared: both are
// boolean, numbers of any types, text, binary, dates, times, durations, timestamps
// with a time zone, or timestamps without one.
func Comparable(a, b arrow.DataType) bool {
	c := classOf(a)
	return c != noClass && c == classOf(b)
}

// Compare returns -1, 0 or +1 if a is less than, equal to or greater than b. The
// values must not be NULL, and their types must be [Comparable].
//
// Numbers are compared by their exact values, whatever their types. As in
// PostgreSQL, NaN equals NaN and is greater than all other numbers, and -0 equals 0.
// False is less than true. Text and binary are compared byte by byte, which for
// UTF-8 is the order of code points. Times are compared exactly across units.
func Compare(a, b Value) int {
	switch x := a.V.(type) {
	case bool:
		return cmp.Compare(b2i(x), b2i(b.V.(bool)))
	case string:
		return strings.Compare(x, b.V.(string))
	case int64:
		if y, ok := b.V.(int64); ok {
			return compareTicks(x, unitOf(a.Type), y, unitOf(b.Type))
		}
	case Digits:
		if y, ok := digitsOf(b); ok {
			return CompareDigits(x, y)
		}
	case uint64:
		if y, ok := b.V.(uint64); ok {
			return cmp.Compare(x, y)
		}
	case float64:
		if y, ok := b.V.(float64); ok {
			return CompareFloat(x, y)
		}
	case decimal128.Num:
		if y, ok := b.V.(decimal128.Num); ok && a.scale() == b.scale() {
			return x.Cmp(y)
		}
	case decimal256.Num:
		if y, ok := b.V.(decimal256.Num); ok && a.scale() == b.scale() {
			return x.Cmp(y)
		}
	}
	if y, ok := b.V.(Digits); ok {
		if x, ok := digitsOf(a); ok {
			return CompareDigits(x, y)
		}
	}
	// Two numbers of different types. Infinities and NaN have no ratio.
	x, xInf := a.exact()
	y, yInf := b.exact()
	if x == nil || y == nil {
		return cmp.Compare(xInf, yInf)
	}
	return x.Cmp(y)
}

// CompareFloat compares floats as [Compare] does: NaN equals NaN and is greater than
// all other numbers.
func CompareFloat(x, y float64) int {
	switch xn, yn := math.IsNaN(x), math.IsNaN(y); {
	case xn && yn:
		return 0
	case xn:
		return 1
	case yn:
		return -1
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// exact returns a finite number as a ratio. For others it returns nil and a rank: -1
// for -Inf, 1 for +Inf, and 2 for NaN.
func (v Value) exact() (*big.Rat, int) {
	switch x := v.V.(type) {
	case Digits:
		if rank := x.rank(); rank != 0 {
			return nil, rank
		}
		return x.rat(), 0
	case int64:
		return new(big.Rat).SetInt64(x), 0
	case uint64:
		return new(big.Rat).SetUint64(x), 0
	case float64:
		switch {
		case math.IsNaN(x):
			return nil, 2
		case math.IsInf(x, 0):
			if x < 0 {
				return nil, -1
			}
			return nil, 1
		}
		return new(big.Rat).SetFloat64(x), 0
	case decimal128.Num:
		return unscale(x.BigInt(), v.scale()), 0
	case decimal256.Num:
		return unscale(x.BigInt(), v.scale()), 0
	}
	return nil, 0
}

func (v Value) scale() int32 {
	if t, ok := v.Type.(arrow.DecimalType); ok {
		return t.GetScale()
	}
	return 0
}

func unscale(n *big.Int, scale int32) *big.Rat {
	p := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(scale, -scale))), nil)
	if scale < 0 {
		return new(big.Rat).SetInt(n.Mul(n, p))
	}
	return new(big.Rat).SetFrac(n, p)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// unitOf returns the unit of a temporal type in nanoseconds, or 1 for other types.
func unitOf(t arrow.DataType) int64 {
	switch t := t.(type) {
	case *arrow.TimestampType:
		return int64(t.Unit.Multiplier())
	case *arrow.DurationType:
		return int64(t.Unit.Multiplier())
	case *arrow.Time32Type:
		return int64(t.Unit.Multiplier())
	case *arrow.Time64Type:
		return int64(t.Unit.Multiplier())
	case *arrow.Date32Type:
		return int64(24 * time.Hour)
	case *arrow.Date64Type:
		return int64(time.Millisecond)
	}
	return 1
}

func compareTicks(x, xUnit, y, yUnit int64) int {
	if xUnit == yUnit {
		return cmp.Compare(x, y)
	}
	a := new(big.Int).Mul(big.NewInt(x), big.NewInt(xUnit))
	return a.Cmp(new(big.Int).Mul(big.NewInt(y), big.NewInt(yUnit)))
}

// runeLen returns the length of the first character of s. A byte that is not valid
// UTF-8 counts as a character.
func runeLen(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}

// ValueType returns the type of a column's values, which literals compared with the
// column have: the storage type of an extension type, the value type of a dictionary,
// and otherwise t itself.
func ValueType(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case arrow.ExtensionType:
		return ValueType(t.StorageType())
	case *arrow.DictionaryType:
		return ValueType(t.ValueType)
	}
	return t
}
