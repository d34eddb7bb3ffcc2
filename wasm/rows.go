package wasm

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// rows reads a page of JSON lines, whose first frame is of the given kind. The page
// ends at its metadata, so a page without lines is empty.
func (p *pageReader) rows(first wire.FrameKind) (batch sources.Batch, fault, err error) {
	var page *wire.Page
	var streamErr error // an error of the pipe or the protocol, not of a row
	lines := func(yield func(sources.Row, error) bool) {
		for kind := first; ; {
			switch kind {
			case wire.FrameRows:
				more, err := p.lines(yield)
				if err != nil {
					streamErr = err
					yield(sources.Row{}, err)
				}
				if err != nil || !more {
					return
				}
			case wire.FramePage:
				if page, streamErr = p.page(); streamErr != nil {
					yield(sources.Row{}, streamErr)
				}
				return
			default:
				streamErr = p.instance.violation("unexpected frame of kind %q within a page", rune(kind))
				yield(sources.Row{}, streamErr)
				return
			}
			if kind, _, streamErr = p.instance.frames.Next(); streamErr != nil {
				yield(sources.Row{}, streamErr)
				return
			}
		}
	}
	env := p.env
	env.Page, env.FlushAfter = unlimited, -1 // the module decides where a page ends
	// The guard turns a refusal of memory, which is a panic, into an error. FromRows
	// yields the rows before an error, which here are an incomplete page.
	for b, err := range sources.Guard("", "", sources.FromRows(env, p.schema, lines)) {
		if batch.Record != nil {
			batch.Record.Release()
			batch.Record = nil
		}
		if err != nil {
			fault = err
			break
		}
		b.Record.Retain()
		batch = b
	}
	switch {
	case streamErr != nil:
		return sources.Batch{}, nil, streamErr
	case fault != nil && sources.KindOf(fault) == sources.Exhausted:
		return sources.Batch{}, fault, nil
	case fault != nil:
		return sources.Batch{}, nil, p.instance.violation("%w", cause(fault))
	}
	if err := p.check(batch.Record, page); err != nil {
		batch.Record.Release()
		return sources.Batch{}, nil, err
	}
	batch.Cursor, batch.Due, batch.Skipped = page.Cursor, page.Due, page.Skipped
	return batch, nil, nil
}

// maxRow limits the length of a line of JSON, in bytes.
const maxRow = 16 << 20

// lines yields the rows of the current frame. more is false if the consumer left the
// loop.
func (p *pageReader) lines(yield func(sources.Row, error) bool) (more bool, err error) {
	in := bufio.NewScanner(p.instance.frames)
	in.Buffer(nil, maxRow)
	for n := 1; in.Scan(); n++ {
		line := bytes.TrimSpace(in.Bytes())
		if len(line) == 0 {
			continue
		}
		values, err := parseRow(line, p.schema)
		if err != nil {
			return false, p.instance.violation("line %d of a page: %w", n, err)
		}
		if !yield(sources.Row{Values: values}, nil) {
			return false, nil
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return false, p.instance.violation("a row is longer than %s", mebibytes(maxRow))
	}
	return true, in.Err()
}

// parseRow parses an array or an object of values.
func parseRow(line []byte, schema *arrow.Schema) ([]any, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var row any
	if err := d.Decode(&row); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("a line must contain only one row")
	}
	return parseFields(row, schema.Fields())
}

// parseFields returns the values of the fields: by position from an array, by name
// from an object.
func parseFields(row any, fields []arrow.Field) ([]any, error) {
	out := make([]any, len(fields))
	value := func(i int, v any) error {
		x, err := parseValue(v, fields[i].Type)
		if err != nil {
			return fmt.Errorf("column %s: %w", clip(fields[i].Name), err)
		}
		out[i] = x
		return nil
	}
	switch row := row.(type) {
	case []any:
		if len(row) != len(fields) {
			return nil, fmt.Errorf("%d values for %d columns", len(row), len(fields))
		}
		for i, v := range row {
			if err := value(i, v); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		known := 0
		for i, f := range fields {
			v, ok := row[f.Name]
			if ok {
				known++
			}
			if err := value(i, v); err != nil {
				return nil, err
			}
		}
		if known < len(row) {
			return nil, unknownMember(row, fields)
		}
	default:
		return nil, errors.New("a row must be an array or an object")
	}
	return out, nil
}

func unknownMember(row map[string]any, fields []arrow.Field) error {
	for name := range row {
		known := false
		for _, f := range fields {
			known = known || f.Name == name
		}
		if !known {
			return fmt.Errorf("there is no column %s in this scan", clip(name))
		}
	}
	return nil
}

// parseValue returns a value that [sources.FromRows] accepts for the type. Package
// wire documents the JSON form of each type.
func parseValue(v any, t arrow.DataType) (any, error) {
	if e, ok := t.(arrow.ExtensionType); ok {
		t = e.StorageType()
	}
	if v == nil {
		return nil, nil
	}
	switch t := t.(type) {
	case *arrow.BooleanType:
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case arrow.ListLikeType:
		if items, ok := v.([]any); ok {
			out := make([]any, len(items))
			for i, item := range items {
				x, err := parseValue(item, t.Elem())
				if err != nil {
					return nil, err
				}
				out[i] = x
			}
			return out, nil
		}
	case *arrow.StructType:
		return parseFields(v, t.Fields())
	}
	// All other types are a number or a string.
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
		if !numeric(t) {
			return nil, fmt.Errorf("%s does not fit %s", clipNumber(text), t)
		}
	default:
		return nil, fmt.Errorf("a JSON %s does not fit %s", jsonKind(v), t)
	}
	x, err := parseText(text, t)
	if err != nil {
		return nil, fmt.Errorf("%s does not fit %s", clip(text), t)
	}
	return x, nil
}

func numeric(t arrow.DataType) bool {
	id := t.ID()
	return arrow.IsInteger(id) || arrow.IsFloating(id) || arrow.IsDecimal(id) || id == arrow.DURATION
}

func jsonKind(v any) string {
	switch v.(type) {
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "value"
}

// maxQuoted limits what an error repeats of a module's text, in bytes.
const maxQuoted = 60

// clip quotes text that a module wrote.
func clip(s string) string {
	if len(s) > maxQuoted {
		return strconv.Quote(strings.ToValidUTF8(s[:maxQuoted], "")) + "..."
	}
	return strconv.Quote(s)
}

// clipNumber returns a JSON number for an error.
func clipNumber(s string) string {
	if len(s) > maxQuoted {
		return s[:maxQuoted] + "..."
	}
	return s
}

var errUnfit = errors.New("the value does not fit the type")

func parseText(s string, t arrow.DataType) (any, error) {
	switch t := t.(type) {
	case *arrow.StringType, *arrow.LargeStringType:
		return s, nil
	case *arrow.BinaryType, *arrow.LargeBinaryType, *arrow.FixedSizeBinaryType:
		return base64.StdEncoding.DecodeString(s)
	case *arrow.Date32Type, *arrow.Date64Type:
		return time.Parse(time.DateOnly, s)
	case *arrow.TimestampType:
		if t.TimeZone == "" {
			return time.Parse("2006-01-02T15:04:05.999999999", s)
		}
		return time.Parse(time.RFC3339Nano, s)
	case *arrow.Time32Type, *arrow.Time64Type:
		at, err := time.Parse("15:04:05.999999999", s)
		return at.Sub(at.Truncate(24 * time.Hour)), err
	case *arrow.DurationType:
		n, err := strconv.ParseInt(s, 10, 64)
		return sources.Value{Type: t, V: n}, err
	case arrow.DecimalType:
		return parseDecimal(s, t)
	}
	bits := 64
	if f, ok := t.(arrow.FixedWidthDataType); ok {
		bits = f.BitWidth()
	}
	switch id := t.ID(); {
	case arrow.IsSignedInteger(id):
		return strconv.ParseInt(s, 10, bits)
	case arrow.IsUnsignedInteger(id):
		return strconv.ParseUint(s, 10, bits)
	case id == arrow.FLOAT32, id == arrow.FLOAT64:
		// The text stands for the nearest float.
		return strconv.ParseFloat(s, bits)
	}
	return nil, errUnfit
}

// parseDecimal parses digits with at most one decimal point into the unscaled value.
// Digits beyond the scale are an error.
func parseDecimal(s string, t arrow.DecimalType) (any, error) {
	if !strings.ContainsAny(s, "0123456789") {
		return nil, errUnfit
	}
	digits, fraction, _ := strings.Cut(s, ".")
	for scale := int(t.GetScale()); len(fraction) > max(scale, 0); fraction = fraction[:len(fraction)-1] {
		if fraction[len(fraction)-1] != '0' {
			return nil, errUnfit
		}
	}
	if len(digits)+len(fraction) > 100 || strings.ContainsAny(fraction, "+-") || t.GetScale() > 100 {
		return nil, errUnfit
	}
	digits += fraction + strings.Repeat("0", max(int(t.GetScale())-len(fraction), 0))
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return nil, errUnfit
	}
	if scale := t.GetScale(); scale < 0 {
		if scale < -100 {
			return nil, errUnfit
		}
		rest := new(big.Int)
		n.QuoRem(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-scale)), nil), rest)
		if rest.Sign() != 0 {
			return nil, errUnfit
		}
	}
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.GetPrecision())), nil)
	if n.CmpAbs(limit) >= 0 {
		return nil, errUnfit
	}
	if t.ID() == arrow.DECIMAL256 {
		return sources.Value{Type: t, V: decimal256.FromBigInt(n)}, nil
	}
	return sources.Value{Type: t, V: decimal128.FromBigInt(n)}, nil
}
