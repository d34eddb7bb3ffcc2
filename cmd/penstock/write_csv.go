package main

import (
	"io"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// csvRows writes RFC 4180 with a header line and LF at the ends of lines. NULL
// is an empty field, an empty text is a quoted one.
type csvRows struct {
	w      io.Writer
	buffer []byte
}

func newCSV(w io.Writer, schema *arrow.Schema) (*csvRows, error) {
	c := &csvRows{w: w, buffer: make([]byte, 0, flushBytes+4096)}
	for i, f := range schema.Fields() {
		if _, rows := rowsOf(f.Type); rows || f.Type.ID() == arrow.STRUCT {
			return nil, usagef("column %q is a %s, which CSV cannot hold: --flatten gives its values columns of their own; or leave it out, or use --format ndjson", f.Name, f.Type.Name())
		}
		if isNested(f.Type) {
			return nil, usagef("column %q is a %s, which CSV cannot hold: leave it out with --columns, or use --format ndjson", f.Name, f.Type.Name())
		}
		if i > 0 {
			c.buffer = append(c.buffer, ',')
		}
		c.buffer = appendCSV(c.buffer, f.Name)
	}
	c.buffer = append(c.buffer, '\n')
	return c, nil
}

func (c *csvRows) Write(record arrow.RecordBatch) error {
	return c.writeCells(cellsOfAll(record), int(record.NumRows()))
}

func (c *csvRows) writeCells(columns []*cells, rows int) error {
	for row := range rows {
		for i, column := range columns {
			if i > 0 {
				c.buffer = append(c.buffer, ',')
			}
			switch {
			case column.null(row):
			case column.form == textForm:
				c.buffer = appendCSV(c.buffer, column.text(row))
			default:
				c.buffer = column.append(c.buffer, row)
			}
		}
		c.buffer = append(c.buffer, '\n')
		if len(c.buffer) >= flushBytes {
			if err := c.Close(); err != nil {
				return err
			}
		}
	}
	return c.Close()
}

func (c *csvRows) Close() error {
	if len(c.buffer) == 0 {
		return nil
	}
	_, err := c.w.Write(c.buffer)
	c.buffer = c.buffer[:0]
	return err
}

// appendCSV writes a field, in quotes where it is empty or holds something that
// would be read otherwise.
func appendCSV(dst []byte, s string) []byte {
	if s != "" && !strings.ContainsAny(s, ",\"\r\n") && s[0] != ' ' && s[len(s)-1] != ' ' {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	for {
		quote := strings.IndexByte(s, '"')
		if quote < 0 {
			break
		}
		dst = append(append(dst, s[:quote+1]...), '"')
		s = s[quote+1:]
	}
	return append(append(dst, s...), '"')
}

// isNested reports whether values of the type are lists, maps, structs or
// unions.
func isNested(t arrow.DataType) bool {
	switch t := t.(type) {
	case arrow.ExtensionType:
		return isNested(t.StorageType())
	case *arrow.DictionaryType:
		return isNested(t.ValueType)
	case *arrow.RunEndEncodedType:
		return isNested(t.Encoded())
	case arrow.NestedType:
		return true
	}
	return false
}
