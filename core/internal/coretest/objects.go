package coretest

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/sources"
)

// Object is a row with its relations, by name. A value is a string, nil for NULL,
// an Object for a struct, or a []any for a list.
type Object map[string]any

// Objects returns the rows of a record.
func Objects(record arrow.RecordBatch) []Object {
	var out []Object
	for i := range int(record.NumRows()) {
		o := Object{}
		for j, f := range record.Schema().Fields() {
			o[f.Name] = NestedValue(record.Column(j), i)
		}
		out = append(out, o)
	}
	return out
}

// NestedValue returns the value of row i of a column, in the form that [Object] has.
func NestedValue(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Struct:
		o := Object{}
		for j, f := range a.DataType().(*arrow.StructType).Fields() {
			o[f.Name] = NestedValue(a.Field(j), i)
		}
		return o
	case *array.List:
		list := []any{}
		from, to := a.ValueOffsets(i)
		for j := from; j < to; j++ {
			list = append(list, NestedValue(a.ListValues(), int(j)))
		}
		return list
	}
	return sources.ValueAt(a, i).String()
}

// ReadObjects reads a stream to its end and returns its rows, with the named optional
// relations, and its receipt. It reads ahead if o.ChunkRows is odd. An error fails the
// test.
func ReadObjects(t *testing.T, source sources.Source, q core.Query, o core.Options, optional ...string) ([]Object, core.Receipt) {
	t.Helper()
	return ReadObjectsWith(t, source, q, o, core.Resources{}, optional...)
}

// ReadObjectsWith is [ReadObjects] with resources, whose Budget it sets.
func ReadObjectsWith(t *testing.T, source sources.Source, q core.Query, o core.Options, r core.Resources, optional ...string) ([]Object, core.Receipt) {
	t.Helper()
	r.Budget = NewBudget(t)
	o.ReadAhead = o.ChunkRows%2 == 1 // changes only the time it takes
	stream := Open(t, source, q, o, r)
	var got []Object
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		rows := Objects(chunk.Record)
		for _, name := range optional {
			column, err := chunk.Related(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if column.Len() != len(rows) {
				t.Fatalf("%s has %d values for %d rows", name, column.Len(), len(rows))
			}
			for i := range rows {
				rows[i][name] = NestedValue(column, i)
			}
		}
		got = append(got, rows...)
	}
	return got, stream.Receipt()
}
