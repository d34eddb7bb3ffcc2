package main

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/text/width"
)

// tableLook is what a table adapts to.
type tableLook struct {
	Width int  // columns of the terminal; 0 is no limit
	Color bool // the header bold, NULL dim
}

// tableRows writes rows for people. It holds no rows: the columns get their
// widths from the first rows of the first chunk that has some, and what does
// not fit later is cut with an ellipsis.
type tableRows struct {
	w      io.Writer
	look   tableLook
	fields []arrow.Field
	widths []int // nil until the header is written
	right  []bool
	buffer []byte
	cell   []byte
}

const (
	sampledRows = 200
	widestCell  = 60 // where the terminal sets no limit
	leastCell   = 4
)

func newTable(w io.Writer, schema *arrow.Schema, look tableLook) *tableRows {
	t := &tableRows{w: w, look: look, fields: schema.Fields(), right: make([]bool, schema.NumFields())}
	for i, f := range t.fields {
		id := storageOf(f.Type).ID()
		t.right[i] = arrow.IsInteger(id) || arrow.IsFloating(id) || arrow.IsDecimal(id)
	}
	return t
}

func (t *tableRows) Write(record arrow.RecordBatch) error {
	return t.writeCells(cellsOfAll(record), int(record.NumRows()))
}

func (t *tableRows) writeCells(columns []*cells, rows int) error {
	if rows > 0 && t.widths == nil {
		t.begin(columns, min(rows, sampledRows))
	}
	for row := range rows {
		for i, c := range columns {
			text := t.render(c, row)
			t.put(i, text, c.null(row), "\x1b[2m")
		}
		t.buffer = append(t.buffer, '\n')
		if len(t.buffer) >= flushBytes {
			if err := t.flush(); err != nil {
				return err
			}
		}
	}
	return t.flush()
}

// Close writes the header of a table without rows.
func (t *tableRows) Close() error {
	if t.widths == nil {
		t.begin(nil, 0)
	}
	return t.flush()
}

func (t *tableRows) flush() error {
	_, err := t.w.Write(t.buffer)
	t.buffer = t.buffer[:0]
	return err
}

func (t *tableRows) render(c *cells, row int) string {
	if c.null(row) {
		return "NULL"
	}
	t.cell = c.plain(t.cell[:0], row)
	return printable(string(t.cell))
}

// begin settles the widths and writes the header.
func (t *tableRows) begin(columns []*cells, rows int) {
	t.widths = make([]int, len(t.fields))
	for i, f := range t.fields {
		t.widths[i] = max(1, textWidth(printable(f.Name)))
	}
	for i, c := range columns {
		for row := range rows {
			t.widths[i] = max(t.widths[i], textWidth(t.render(c, row)))
		}
	}
	for i := range t.widths {
		t.widths[i] = min(t.widths[i], widestCell)
	}
	t.fit()
	for i, f := range t.fields {
		t.put(i, printable(f.Name), t.look.Color, "\x1b[1m")
	}
	t.buffer = append(t.buffer, '\n')
	for i, w := range t.widths {
		if i > 0 {
			t.buffer = append(t.buffer, "  "...)
		}
		t.buffer = append(t.buffer, strings.Repeat("─", w)...)
	}
	t.buffer = append(t.buffer, '\n')
}

// fit takes from the widest columns until the table fits the terminal, or until
// nothing more can be taken.
func (t *tableRows) fit() {
	if t.look.Width == 0 {
		return
	}
	total := 2 * (len(t.widths) - 1)
	for _, w := range t.widths {
		total += w
	}
	for ; total > t.look.Width; total-- {
		widest := 0
		for i, w := range t.widths {
			if w > t.widths[widest] {
				widest = i
			}
		}
		if t.widths[widest] <= leastCell {
			return
		}
		t.widths[widest]--
	}
}

// put adds one cell, padded or cut to its column's width.
func (t *tableRows) put(i int, text string, styled bool, style string) {
	if i > 0 {
		t.buffer = append(t.buffer, "  "...)
	}
	text, wide := clip(text, t.widths[i])
	pad := t.widths[i] - wide
	if t.right[i] {
		t.buffer = append(t.buffer, strings.Repeat(" ", pad)...)
	}
	if styled && t.look.Color {
		t.buffer = append(append(append(t.buffer, style...), text...), "\x1b[0m"...)
	} else {
		t.buffer = append(t.buffer, text...)
	}
	if !t.right[i] && i < len(t.widths)-1 {
		t.buffer = append(t.buffer, strings.Repeat(" ", pad)...)
	}
}

// clip cuts a text to a width and returns it with its own width.
func clip(s string, most int) (string, int) {
	total, cut, cutWidth := 0, 0, 0
	for i, r := range s {
		w := runeWidth(r)
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

func textWidth(s string) int {
	total := 0
	for _, r := range s {
		total += runeWidth(r)
	}
	return total
}

// runeWidth is how many columns of a terminal a character takes.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// printable escapes what would move a terminal's cursor or change its colours,
// and what is not UTF-8.
func printable(s string) string {
	clean := true
	for _, r := range s {
		clean = clean && r != utf8.RuneError && (unicode.IsGraphic(r) || r == '\u200d')
	}
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x100 && !unicode.IsGraphic(r):
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[r>>4])
			b.WriteByte(hexDigits[r&15])
		case !unicode.IsGraphic(r) && r != '\u200d':
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
