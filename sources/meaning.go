package sources

import (
	"encoding/json"

	"github.com/apache/arrow-go/v18/arrow"
)

// Meaning tells how the values of a column are compared. A column says so in the
// metadata of its field, under [MetaEquality] and [MetaOrder]. Without them, values
// are compared by [Compare].
type Meaning struct {
	Equality Comparer // for =, <>, in and keys: [ByCompare], [ByNumber] or [BySource]
	Order    Comparer // for <, <=, >, >= and orders
	Labels   []string // for [ByLabels]: the labels in their order
}

// Comparer says what compares the values of a column.
type Comparer string

// The comparers. They are wire constants.
const (
	// ByCompare: [Compare] does, by the type of the column.
	ByCompare Comparer = ""
	// ByNumber: the column is text, and its values are decimal numbers of any size, NaN,
	// Infinity or -Infinity. They are compared as values of type [Number].
	ByNumber Comparer = "number"
	// ByLabels: the column is text or a dictionary of text, and its values are some
	// labels, which have a declared order. It is used only for the order.
	ByLabels Comparer = "labels"
	// BySource: only the source can compare the values, for example because a database
	// ignores the case of letters. The engine leaves to the source what depends on the
	// comparison, or refuses it.
	BySource Comparer = "source"
)

// MeaningOf returns the meaning of a column. A comparer that this program does not
// know is returned as [BySource].
func MeaningOf(f arrow.Field) Meaning {
	get := func(key string) Comparer {
		s, _ := f.Metadata.GetValue(key)
		switch c := Comparer(s); c {
		case ByCompare, ByNumber, ByLabels:
			return c
		}
		return BySource
	}
	m := Meaning{Equality: get(MetaEquality), Order: get(MetaOrder)}
	if m.Order == ByLabels {
		text, _ := f.Metadata.GetValue(MetaLabels)
		if json.Unmarshal([]byte(text), &m.Labels) != nil {
			m.Order = BySource
		}
	}
	if m.Equality == ByLabels {
		m.Equality = BySource
	}
	return m
}

// Metadata returns the metadata of a field with this meaning, to be added to others.
func (m Meaning) Metadata() map[string]string {
	out := map[string]string{}
	if m.Equality != ByCompare {
		out[MetaEquality] = string(m.Equality)
	}
	if m.Order != ByCompare {
		out[MetaOrder] = string(m.Order)
	}
	if m.Order == ByLabels {
		b, _ := json.Marshal(m.Labels) // strings cannot fail
		out[MetaLabels] = string(b)
	}
	return out
}

// FieldType returns the type of the values of a column, which literals compared with
// the column have: [Number] for a column that is compared by [ByNumber], otherwise the
// [ValueType].
func FieldType(f arrow.Field) arrow.DataType {
	t := ValueType(f.Type)
	if classOf(t) == textClass && f.Metadata.Len() > 0 {
		if equality, _ := f.Metadata.GetValue(MetaEquality); Comparer(equality) == ByNumber {
			return Number
		}
	}
	return t
}

// FieldValueAt returns a copy of the value at index i of a column: for a [Number], a
// value of that type, and otherwise as [ValueAt] does. A text that is not a number is
// returned as text.
func FieldValueAt(f arrow.Field, a arrow.Array, i int) Value {
	v := ValueAt(a, i)
	if FieldType(f) == Number {
		if v.IsNull() {
			return Null(Number)
		}
		if n, ok := ParseNumber(v.V.(string)); ok {
			return n
		}
	}
	return v
}

// CanEqual reports whether the engine can tell which values of the column are equal.
func (m Meaning) CanEqual() bool { return m.Equality != BySource }

// CanOrder reports whether the engine can order values of the column.
func (m Meaning) CanOrder() bool { return m.Order != BySource }
