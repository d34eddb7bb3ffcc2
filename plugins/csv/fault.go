package csv

import (
	"bytes"
	"fmt"
	"strings"
)

// fault is something in a file that is not as it should be. Its place is known
// as an offset; line and column are found by counting, once somebody wants to
// see them.
type fault struct {
	file         string
	offset       int64 // of the fault, in the file as it is read
	resync       int64 // the line that ends behind this place is the last that is bad; -1: the record's end is known
	line, column int   // from 1, in bytes; 0: not known
	text         string
	remedies     []string
}

func (s *scanner) fault(at, from int, format string, args ...any) *fault {
	begin := s.offset()
	return &fault{file: s.name, offset: begin + int64(at), resync: begin + int64(from), text: fmt.Sprintf(format, args...)}
}

// wrong is a fault in the record that was read last.
func (s *scanner) wrong(at int32, format string, args ...any) *fault {
	return &fault{file: s.name, offset: s.start + int64(at), resync: -1, text: fmt.Sprintf(format, args...)}
}

// with adds what could be done about it.
func (f *fault) with(remedy string) *fault {
	f.remedies = append(f.remedies, remedy)
	return f
}

// Error names the file, the line and the column, the fault, the byte, and the
// remedies.
func (f *fault) Error() string {
	var b strings.Builder
	b.WriteString(f.place())
	for i, r := range f.remedies {
		if i == 0 {
			b.WriteString("; ")
		} else {
			b.WriteString(", or ")
		}
		b.WriteString(r)
	}
	return b.String()
}

// place is the fault without its remedies.
func (f *fault) place() string {
	if f.line == 0 {
		return fmt.Sprintf("%s: %s (at byte %d)", f.file, f.text, f.offset)
	}
	return fmt.Sprintf("%s:%d:%d: %s (at byte %d)", f.file, f.line, f.column, f.text, f.offset)
}

// counter counts lines up to a place in a file.
type counter struct {
	offset    int64 // counted so far
	line      int   // ends of lines before offset
	lineStart int64 // behind the last of them
	cr        bool  // the last byte counted was a CR
}

// count goes on with the bytes at c.offset.
func (c *counter) count(b []byte) {
	if bytes.IndexByte(b, '\r') < 0 && !c.cr { // most files
		if last := bytes.LastIndexByte(b, '\n'); last >= 0 {
			c.line += bytes.Count(b, []byte{'\n'})
			c.lineStart = c.offset + int64(last) + 1
		}
		c.offset += int64(len(b))
		return
	}
	for i, x := range b {
		switch {
		case x == '\n' && c.cr: // of a CRLF, which is counted
			c.lineStart = c.offset + int64(i) + 1
		case x == '\n' || x == '\r':
			c.line++
			c.lineStart = c.offset + int64(i) + 1
		}
		c.cr = x == '\r'
	}
	c.offset += int64(len(b))
}

// begin is where the cell begins in its record, with its quote.
func (c *cell) begin() int32 {
	if c.quoted {
		return c.from - 1
	}
	return c.from
}

// misfit is the fault of a value that is not of its column's type.
func (s *scanner) misfit(c *column, at *cell, text []byte) *fault {
	f := s.wrong(at.begin(), "column %q: %s is not %s", c.name, shown(text), c.describe())
	switch {
	case c.kind == textKind:
		f = f.with("encoding=latin-1, windows-1252 or utf-16 reads others")
	case c.inferred > 0:
		what, line := "type", fmt.Sprintf(`{"name": %q, "type": "string"}`, c.name)
		switch {
		case c.kind == decimalKind && c.source != "":
			what, line = "scale", fmt.Sprintf(`{"name": %q, "type": "number", "scale": N}`, c.name)
		case c.source != "":
			what, line = "zone", fmt.Sprintf(`{"name": %q, "type": "datetime", "format": PATTERN}`, c.name)
		}
		f.text += fmt.Sprintf(", the %s found in the first %d records", what, c.inferred)
		f = f.with(fmt.Sprintf("declare it in %s, as in %s", packageFile, line))
	}
	return f
}

// shown is a value as an error shows it.
func shown(text []byte) string {
	const most = 60
	if len(text) > most {
		return fmt.Sprintf("%q and %d bytes more", text[:most], len(text)-most)
	}
	return fmt.Sprintf("%q", text)
}
