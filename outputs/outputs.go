// Package outputs writes record batches as rows of a format: table, ndjson, csv
// or arrow.
//
//	format, ok := outputs.Lookup("csv")
//	...
//	w, err := format.NewWriter(os.Stdout, stream.Schema(), outputs.Options{Allocator: stream.Allocator()})
//	...
//	defer w.Abort() // does nothing after Close
//	for chunk, err := range stream.Chunks() {
//		...
//		err = w.Write(chunk.Record)
//		...
//	}
//	err = w.Close()
//
// The text of a value is the same in every text format: numbers are exact,
// instants are RFC 3339 in UTC, intervals are ISO 8601, bytes are base64, UUIDs have
// their usual form, and nested values are JSON. A column of JSON texts (the extension
// type arrow.json) is part of the JSON in ndjson and within nested values: without the
// white space, and with the digits of its numbers. A text that is not valid JSON is
// written there as a string. The arrow format has extension types as storage types with
// metadata, from which a reader restores those that it knows.
//
// See outputs/file for outputs in files.
package outputs

import (
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// Writer writes record batches to one output. It is not safe for concurrent use.
//
// A method that fails to write leaves the output in an unknown state. Later calls
// return the same error; Close and Abort still free the writer's memory.
type Writer interface {
	// Write adds the rows of a record, which must have the types of the writer's schema.
	// It does not retain the record. The output is buffered until Flush or Close.
	Write(record arrow.RecordBatch) error

	// Flush writes everything that is buffered to the underlying io.Writer and
	// returns the length of the output, or of its current part, in bytes. An output
	// that is truncated to this length can be continued by a writer with
	// [Options.Offset], if its format has [Format.Append].
	Flush() (int64, error)

	// NextPart completes the current part as Close does and begins a new one in w,
	// which is an output of its own. It does not close the old io.Writer. The format
	// must have [Format.Parts].
	NextPart(w io.Writer) error

	// Close writes the end of the output and frees the writer's memory. It does not
	// close the underlying io.Writer. Closing again returns an error.
	Close() error

	// Abort frees the writer's memory and writes nothing: neither what is buffered
	// nor the end of the output. It does nothing after Close.
	Abort()
}

// DefaultBuffer is the default of [Options.Buffer] in bytes.
const DefaultBuffer = 64 << 10

// Options configures a writer. The zero value is ready to use.
type Options struct {
	// Allocator provides the writer's memory; nil means [memory.DefaultAllocator].
	// With that of a stream (core.Stream.Allocator), the writer's memory counts toward
	// the stream's limit. If the allocator panics with an error, as a budget does to
	// refuse memory, the writer returns that error.
	Allocator memory.Allocator
	// Buffer is the size of the writer's buffer, in bytes; 0 means [DefaultBuffer]. If
	// the allocator refuses that much, the writer uses less. A row whose text is larger
	// than the buffer takes memory that does not come from the allocator.
	Buffer int
	// Offset, if greater than 0, continues an output that is Offset bytes long, see
	// [Writer.Flush]: the writer omits what an output begins with, such as a header.
	// The underlying io.Writer must append at that offset, and the schema and Flatten
	// must be those of the first writer. The format must have [Format.Append].
	Offset int64
	// Flatten turns nested rows into flat ones: the fields of a struct become
	// columns with dotted names, and each element of a list of structs becomes a row
	// that repeats the columns around the list. The format must have
	// [Format.Flatten].
	Flatten bool
	// Table configures the table format.
	Table TableOptions
}

// TableOptions configures the table format for a terminal.
type TableOptions struct {
	Width int  // columns of the terminal; 0 means no limit
	Color bool // print the header in bold and NULL dimmed
}

// ColumnError reports a column that a format cannot represent.
type ColumnError struct {
	Column  string
	Problem string // to follow the column's name: "is a struct, which CSV cannot hold"
	Remedy  string // what to do instead, as an imperative: "leave it out"
	Flatten bool   // whether [Options.Flatten] is a remedy as well
}

// Error returns the problem and its remedies.
func (e *ColumnError) Error() string {
	remedy := e.Remedy
	if e.Flatten {
		remedy = "flatten it, " + remedy
	}
	return fmt.Sprintf("column %q %s: %s", e.Column, e.Problem, remedy)
}

var errClosed = errors.New("outputs: the writer is closed")

// encoder turns records into the bytes of one format. Its methods append to the
// buffer that it was made with.
type encoder interface {
	begin(head bool) error // begins an output or a part; without head it continues one
	write(record arrow.RecordBatch) error
	end() error
	abort()
}

// cellEncoder is an encoder that writes rows value by value.
type cellEncoder interface {
	encoder
	writeCells(columns []*cells, rows int) error
}

// writer is the Writer of every format.
type writer struct {
	format  Format
	schema  *arrow.Schema // of the records, normalized
	out     *buffer
	encoder encoder
	err     error // why the writer cannot be used anymore
}

// NewWriter returns a writer that writes rows with the given schema to w. The caller
// must call Close or Abort. If the format cannot represent a column, the error is a
// [*ColumnError]. Options that the format does not support are an error, too.
func (f Format) NewWriter(w io.Writer, schema *arrow.Schema, o Options) (Writer, error) {
	switch {
	case f.encoder == nil:
		return nil, errors.New("outputs: the format is the zero value: get one from Lookup")
	case o.Offset < 0 || o.Buffer < 0:
		return nil, fmt.Errorf("outputs: Offset and Buffer must not be negative (got %d and %d)", o.Offset, o.Buffer)
	case o.Offset > 0 && !f.Append:
		return nil, fmt.Errorf("outputs: a %s output cannot be continued: Offset must be 0 (got %d)", f.Name, o.Offset)
	case o.Flatten && !f.Flatten:
		return nil, fmt.Errorf("outputs: %s holds nested rows as they are: Flatten must be false", f.Name)
	}
	if o.Allocator == nil {
		o.Allocator = memory.DefaultAllocator
	}
	schema = sources.NormalizeSchema(schema)
	records := schema
	var flat *flattener
	if o.Flatten {
		var err error
		if schema, flat, err = flatten(schema); err != nil {
			return nil, err
		}
	}
	out := newBuffer(w, o)
	e, err := f.encoder(out, schema, o)
	if err != nil {
		return nil, err
	}
	if flat != nil {
		flat.cellEncoder = e.(cellEncoder)
		e = flat
	}
	if err := out.allocate(); err != nil {
		return nil, err
	}
	if err := e.begin(o.Offset == 0); err != nil {
		out.free()
		return nil, err
	}
	return &writer{format: f, schema: records, out: out, encoder: e}, nil
}

func (w *writer) Write(record arrow.RecordBatch) error {
	if w.err == nil {
		w.err = w.write(record)
	}
	return w.err
}

// write writes a record under the writer's schema, so that the encoders find the
// metadata of all fields, also of nested ones.
func (w *writer) write(record arrow.RecordBatch) error {
	if got := record.Schema(); got != w.schema {
		got = sources.NormalizeSchema(got)
		if got.NumFields() != w.schema.NumFields() {
			return fmt.Errorf("outputs: the record has %d columns, the writer's schema has %d", got.NumFields(), w.schema.NumFields())
		}
		for i, f := range w.schema.Fields() {
			if t := got.Field(i).Type; !arrow.TypeEqual(t, f.Type) {
				return fmt.Errorf("outputs: column %q of the record is %s, in the writer's schema it is %s", f.Name, t, f.Type)
			}
		}
	}
	record = sources.WithSchema(record, w.schema)
	defer record.Release()
	return w.encoder.write(record)
}

func (w *writer) Flush() (int64, error) {
	if w.err == nil {
		w.err = w.out.flush()
	}
	return w.out.offset, w.err
}

func (w *writer) NextPart(to io.Writer) error {
	if w.err == nil && !w.format.Parts {
		return fmt.Errorf("outputs: a %s output cannot be divided into parts", w.format.Name)
	}
	if w.err == nil {
		w.err = w.finish()
	}
	if w.err == nil {
		w.out.w, w.out.offset = to, 0
		w.err = w.encoder.begin(true)
	}
	return w.err
}

func (w *writer) finish() error {
	if err := w.encoder.end(); err != nil {
		return err
	}
	return w.out.flush()
}

func (w *writer) Close() error {
	err := w.err
	if err == nil {
		err = w.finish()
	}
	w.Abort()
	return err
}

func (w *writer) Abort() {
	if w.err == errClosed {
		return
	}
	w.err = errClosed
	w.encoder.abort()
	w.out.free()
}
