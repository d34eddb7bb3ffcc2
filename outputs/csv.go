package outputs

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// csvEncoder writes RFC 4180 with a header line and LF at the ends of lines. NULL
// is an empty field; an empty text is a quoted one.
type csvEncoder struct {
	out    *buffer
	fields []arrow.Field
}

func newCSV(out *buffer, schema *arrow.Schema, _ Options) (encoder, error) {
	for _, f := range schema.Fields() {
		_, rows := rowsOf(f.Type)
		if rows = rows || f.Type.ID() == arrow.STRUCT; rows || isNested(f.Type) {
			return nil, &ColumnError{
				Column:  f.Name,
				Problem: fmt.Sprintf("is a %s, which CSV cannot hold", f.Type.Name()),
				Remedy:  "leave it out, or choose the ndjson format",
				Flatten: rows,
			}
		}
	}
	return &csvEncoder{out: out, fields: schema.Fields()}, nil
}

func (c *csvEncoder) begin(head bool) error {
	if !head {
		return nil
	}
	for i, f := range c.fields {
		if i > 0 {
			c.out.text = append(c.out.text, ',')
		}
		c.out.text = appendCSV(c.out.text, f.Name)
	}
	c.out.text = append(c.out.text, '\n')
	return c.out.endRow()
}

func (c *csvEncoder) end() error { return nil }
func (c *csvEncoder) abort()     {}

func (c *csvEncoder) write(record arrow.RecordBatch) error {
	return c.writeCells(cellsOfAll(record), int(record.NumRows()))
}

func (c *csvEncoder) writeCells(columns []*cells, rows int) error {
	for row := range rows {
		text := c.out.text
		for i, column := range columns {
			if i > 0 {
				text = append(text, ',')
			}
			switch {
			case column.null(row):
			case column.text != nil:
				text = appendCSV(text, column.text(row))
			default:
				text = column.append(text, row)
			}
		}
		c.out.text = append(text, '\n')
		if err := c.out.endRow(); err != nil {
			return err
		}
	}
	return nil
}

// appendCSV appends a field, in quotes if it is empty or a reader would otherwise
// misread it.
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
	switch t := sources.ValueType(t).(type) {
	case *arrow.RunEndEncodedType:
		return isNested(t.Encoded())
	case arrow.NestedType:
		return true
	}
	return false
}
