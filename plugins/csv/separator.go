package csv

import (
	"bytes"
	"fmt"
	"net/url"
)

// choosesDelimiter reports whether the files of the table may say what separates their
// columns: neither an option nor a package does.
func (s *source) choosesDelimiter(t *table) bool {
	return s.options.Delimiter == 0 && (s.options.Table != "" || !s.declaredNames[t.table])
}

// separator reads a first line such as "sep=;", which spreadsheets write and
// understand. It returns the character, or 0 if there is no such line. If the file may
// choose, the scanner uses it from then on.
func (s *source) separator(in *scanner, t *table, first bool) (byte, error) {
	if t.dialect.skip > 0 {
		return 0, nil
	}
	line, err := in.ensure(len("sep=;\r\n"))
	if err != nil || len(line) < 5 || !bytes.EqualFold(line[:4], []byte("sep=")) || line[4] >= 0x80 ||
		line[4] == '\r' || line[4] == '\n' || len(line) > 5 && lineEnd(line[5:]) == 0 {
		return 0, err
	}
	c := line[4]
	if s.choosesDelimiter(t) && c != t.dialect.delimiter {
		d := t.dialect
		if d.delimiter = c; len(d.conflict()) > 0 || !first {
			in.start = in.offset()
			return 0, in.recordError(4, "", "the first line makes %q the delimiter, but the table is read with %q", c, t.dialect.delimiter).
				with("set delimiter=" + delimiterOption(c) + " to choose it for all files")
		}
		in.setDelimiter(c)
	}
	return c, in.skipLine()
}

// setDelimiter changes the delimiter between two records.
func (s *scanner) setDelimiter(c byte) {
	s.dialect.delimiter = c
	if s.delimiters = uint64(c) * ones; s.dialect.quote == 0 {
		s.quotes = s.delimiters
	}
}

// checkDelimiter returns an error if a header with a single column contains another
// delimiter than that of the table: then it most likely has several columns.
func (s *source) checkDelimiter(in *scanner, t *table) error {
	if in.count != 1 || in.cells[0].quoted || t.columns != nil || !s.choosesDelimiter(t) {
		return nil
	}
	for _, c := range []byte(";\t|,") {
		if c != in.dialect.delimiter && bytes.IndexByte(in.text(0), c) >= 0 {
			return in.recordError(0, "", "the header is a single column that contains %q: %s", c, quoteValue(in.text(0))).
				with("set delimiter=" + delimiterOption(c) + " if that separates the columns").
				with("delimiter=" + delimiterOption(in.dialect.delimiter) + " if there is only one column")
		}
	}
	return nil
}

// delimiterOption returns a character as the value of the option in a URI.
func delimiterOption(c byte) string {
	switch {
	case c == '\t':
		return "tab"
	case c == ',' || c == '|' || c == ';':
		return string([]byte{c})
	case c < ' ' || c >= 0x7f:
		return fmt.Sprintf(`\x%02x`, c)
	}
	return url.QueryEscape(string([]byte{c}))
}
