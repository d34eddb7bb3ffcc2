package csv

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// fastColumns has a column of each type with a fast format.
var fastColumns = []column{
	{name: "text"}, {name: "integer", kind: integerKind}, {name: "found integer", kind: integerKind, inferred: "all records"},
	{name: "whole", kind: decimalKind}, {name: "decimal", kind: decimalKind, scale: 2}, {name: "found decimal", kind: decimalKind, scale: 2, inferred: "all records"},
	{name: "narrow", kind: decimalKind, scale: 4, digits: 6}, {name: "date", kind: dateKind}, {name: "local", kind: localKind}, {name: "instant", kind: instantKind},
}

// FuzzFastAppend checks that fastAppend and parse agree on what fastAppend accepts.
func FuzzFastAppend(f *testing.F) {
	for _, text := range []string{"0", "-1", "12345678", "123456789", "1234567890123456", "12345678901234567", "1.50", "-0.05", "-0", "-0.00", "007", "99.9999", "123.4567", "12345678.12", "+5",
		"2026-02-28", "2024-02-29", "2023-02-29", "2026-02-28T10:00:00", "2026-02-28 23:59:59Z", "2026-02-28T24:00:00Z", "é", "\xff", "1:34:67-8", "2026-02-28x10:00:00"} {
		f.Add(text, "12345678")
		f.Add(text, "\x00\xff.0-:9Z")
	}
	f.Fuzz(func(t *testing.T, text, behind string) {
		if text == "" {
			return
		}
		record := append([]byte(text+behind), make([]byte, padding)...)[:len(text)+len(behind)]
		at := &cell{to: int32(len(text))}
		ascii := true
		for i := range len(text) {
			ascii = ascii && text[i] < 0x80
		}
		for i := range fastColumns {
			c := &fastColumns[i]
			v := newVector(memory.DefaultAllocator, c, 0)
			if v.fast == fastNone {
				t.Fatalf("%s has no fast format", c.name)
			}
			if !v.fastAppend(record, at, ascii) {
				continue
			}
			want, ok := c.parse(append(make([]byte, 0, len(text)), text...), false)
			w := newVector(memory.DefaultAllocator, c, 0)
			if !ok {
				t.Errorf("%q is accepted as %s", text, c.name)
				continue
			}
			w.append(want)
			got, expected := v.finish(nil), w.finish(nil)
			if a, b := sources.ValueAt(got, 0), sources.ValueAt(expected, 0); got.Len() != 1 || sources.Compare(a, b) != 0 {
				t.Errorf("%q as %s is %s, want %s", text, c.name, a, b)
			}
		}
	})
}
