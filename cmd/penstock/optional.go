package main

import (
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/outputs"
)

// result is a stream whose records have the optional relations as further columns.
type result struct {
	*core.Stream
	optional []string
	schema   *arrow.Schema
	columns  []int // index of each optional relation in the schema
}

// resultOf returns the result of a stream with those optional relations.
func resultOf(stream *core.Stream, optional []query.Branch) (*result, error) {
	o := &result{Stream: stream}
	fields := slices.Clone(stream.Schema().Fields())
	for _, branch := range optional {
		field, err := stream.RelatedField(branch.Name)
		if err != nil {
			return nil, err
		}
		column := slices.IndexFunc(fields, func(f arrow.Field) bool { return f.Name == field.Name })
		if column < 0 { // otherwise a part of the relation is required as well
			column = len(fields)
			fields = append(fields, field)
		}
		fields[column] = field
		o.optional, o.columns = append(o.optional, branch.Name), append(o.columns, column)
	}
	meta := stream.Schema().Metadata()
	o.schema = arrow.NewSchema(fields, &meta)
	return o, nil
}

// record returns the record of a chunk with the optional relations. The caller
// releases it.
func (o *result) record(ctx context.Context, chunk *core.Chunk) (arrow.RecordBatch, error) {
	if len(o.optional) == 0 {
		chunk.Record.Retain()
		return chunk.Record, nil
	}
	columns := make([]arrow.Array, o.schema.NumFields())
	copy(columns, chunk.Record.Columns())
	for i, name := range o.optional {
		column, err := chunk.Related(ctx, name)
		if err != nil {
			return nil, err
		}
		columns[o.columns[i]] = column
	}
	return array.NewRecordBatch(o.schema, columns, chunk.Record.NumRows()), nil
}

// writeTo writes the records of every chunk to w and calls wrote after each. It
// stops at the first error: fault is one of the stream, err one of w or of wrote.
func (o *result) writeTo(ctx context.Context, w outputs.Writer, wrote func(*core.Chunk) error) (fault, err error) {
	for chunk, fault := range o.Chunks() {
		var record arrow.RecordBatch
		if fault == nil {
			record, fault = o.record(ctx, chunk)
		}
		if fault != nil {
			return fault, nil
		}
		err := w.Write(record)
		record.Release()
		if err == nil {
			err = wrote(chunk)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}
