package outputs

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/internal/display"
	"github.com/penstock-data/penstock/sources"
)

// tableEncoder writes rows for people. It holds no rows back: the first rows of the
// first record determine the widths of the columns, and later text that does not fit
// is cut with an ellipsis.
type tableEncoder struct {
	out    *buffer
	look   TableOptions
	fields []arrow.Field
	widths []int // nil until the header is written
	right  []bool
	cell   []byte
}

const (
	sampledRows = 200
	maxCell     = 60 // columns of the terminal, even if it has more
	minCell     = 4
)

func newTable(out *buffer, schema *arrow.Schema, o Options) (encoder, error) {
	t := &tableEncoder{out: out, look: o.Table, fields: schema.Fields(), right: make([]bool, schema.NumFields())}
	for i, f := range t.fields {
		id := sources.ValueType(f.Type).ID()
		t.right[i] = sources.FieldType(f) == sources.Number || arrow.IsInteger(id) || arrow.IsFloating(id) || arrow.IsDecimal(id)
	}
	return t, nil
}

func (t *tableEncoder) begin(bool) error { return nil }
func (t *tableEncoder) abort()           {}

// end writes the header of a table without rows.
func (t *tableEncoder) end() error {
	if t.widths == nil {
		t.header(nil, 0)
	}
	return nil
}

func (t *tableEncoder) write(record arrow.RecordBatch) error {
	return t.writeCells(cellsOfAll(record), int(record.NumRows()))
}

func (t *tableEncoder) writeCells(columns []*cells, rows int) error {
	if rows > 0 && t.widths == nil {
		t.header(columns, min(rows, sampledRows))
	}
	for row := range rows {
		for i, c := range columns {
			text := t.render(c, row)
			t.put(i, text, c.null(row), "\x1b[2m")
		}
		t.out.text = append(t.out.text, '\n')
		if err := t.out.endRow(); err != nil {
			return err
		}
	}
	return nil
}

func (t *tableEncoder) render(c *cells, row int) string {
	if c.null(row) {
		return "NULL"
	}
	t.cell = c.plain(t.cell[:0], row)
	return display.Printable(string(t.cell))
}

// header chooses the widths and writes the header.
func (t *tableEncoder) header(columns []*cells, rows int) {
	t.widths = make([]int, len(t.fields))
	for i, f := range t.fields {
		t.widths[i] = max(1, display.Width(display.Printable(f.Name)))
	}
	for i, c := range columns {
		for row := range rows {
			t.widths[i] = max(t.widths[i], display.Width(t.render(c, row)))
		}
	}
	for i := range t.widths {
		t.widths[i] = min(t.widths[i], maxCell)
	}
	t.fit()
	for i, f := range t.fields {
		t.put(i, display.Printable(f.Name), t.look.Color, "\x1b[1m")
	}
	t.out.text = append(t.out.text, '\n')
	for i, w := range t.widths {
		if i > 0 {
			t.out.text = append(t.out.text, "  "...)
		}
		t.out.text = append(t.out.text, strings.Repeat("─", w)...)
	}
	t.out.text = append(t.out.text, '\n')
}

// fit narrows the widest columns until the table fits the terminal or every
// column has its least width.
func (t *tableEncoder) fit() {
	if t.look.Width == 0 {
		return
	}
	room := t.look.Width - 2*(len(t.widths)-1)
	// most is the largest width for which all columns fit, and rest how many of the
	// wider ones have a character more.
	total := func(most int) (sum int) {
		for _, w := range t.widths {
			sum += min(w, most)
		}
		return sum
	}
	most := maxCell
	for most > minCell && total(most) > room {
		most--
	}
	rest := max(room-total(most), 0)
	for i, w := range slices.Backward(t.widths) {
		if w <= most {
			continue
		}
		if t.widths[i] = most; rest > 0 {
			t.widths[i]++
			rest--
		}
	}
}

// put appends one cell, padded or cut to its column's width.
func (t *tableEncoder) put(i int, text string, styled bool, style string) {
	if i > 0 {
		t.out.text = append(t.out.text, "  "...)
	}
	text, wide := clip(text, t.widths[i])
	pad := t.widths[i] - wide
	if t.right[i] {
		t.out.text = append(t.out.text, strings.Repeat(" ", pad)...)
	}
	if styled && t.look.Color {
		t.out.text = append(append(append(t.out.text, style...), text...), "\x1b[0m"...)
	} else {
		t.out.text = append(t.out.text, text...)
	}
	if !t.right[i] && i < len(t.widths)-1 {
		t.out.text = append(t.out.text, strings.Repeat(" ", pad)...)
	}
}

// clip cuts a text to a width and returns the result with its width.
func clip(s string, most int) (string, int) {
	total, cut, cutWidth := 0, 0, 0
	for i, r := range s {
		w := display.RuneWidth(r)
		if total+w > most {
			return s[:cut] + "…", cutWidth + 1
		}
		total += w
		if total <= most-1 {
			cut, cutWidth = i+utf8.RuneLen(r), total
		}
	}
	return s, total
}
