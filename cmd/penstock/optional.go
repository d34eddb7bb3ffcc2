package main

import (
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
)

// result is what is written of a stream: its records, with the optional
// relations as further columns.
type result struct {
	*core.Stream
	optional []string
	schema   *arrow.Schema
	places   []int // of each optional relation in the schema
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
		place := slices.IndexFunc(fields, func(f arrow.Field) bool { return f.Name == field.Name })
		if place < 0 { // else it is required too, and more of it is optional
			place = len(fields)
			fields = append(fields, field)
		}
		fields[place] = field
		o.optional, o.places = append(o.optional, branch.Name), append(o.places, place)
	}
	meta := stream.Schema().Metadata()
	o.schema = arrow.NewSchema(fields, &meta)
	return o, nil
}

// record is a chunk's, with the optional relations. The caller releases it.
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
		columns[o.places[i]] = column
	}
	return array.NewRecordBatch(o.schema, columns, chunk.Record.NumRows()), nil
}
