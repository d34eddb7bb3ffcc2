package csv

import (
	"errors"
	"fmt"
	"strings"
)

// ParseError reports data that cannot be read as records of its table. Errors of
// the source wrap it in a [*sources.Error] of kind [sources.Invalid]; errors.As
// finds it there.
type ParseError struct {
	// File is the file's name in its directory, or "stdin".
	File string
	// Line and Column are where the fault begins, both counted from 1, Column in
	// bytes of UTF-8. They are 0 if they are not known, as for a damaged compressed file.
	Line, Column int
	// Field is the name of the column whose value or header is wrong. It is empty
	// if the fault is not in one column, or was found before the record was divided
	// into columns, as for a stray quote.
	Field string
	// Offset is where the fault begins, in bytes from the beginning of the file
	// after decompression and conversion to UTF-8. It is 0 if it is not known.
	Offset int64
	// Err describes what is wrong.
	Err error

	// resync is an offset: the line that ends after it is the last bad one. It
	// is -1 if the scanner is already past the bad record.
	resync int64
	// damaged means that nothing after the fault can be read, so that on_error=skip
	// does not apply.
	damaged bool
	// wrongEncoding means that bytes are not text in the encoding of the file.
	wrongEncoding bool
	remedies      []string
}

// syntaxError returns the error for the byte at index at of the record that the
// scanner is reading. The line that ends after index from is the last bad one.
func (s *scanner) syntaxError(at, from int, format string, args ...any) *ParseError {
	begin := s.offset()
	return &ParseError{File: s.name, Offset: begin + int64(at), Err: fmt.Errorf(format, args...), resync: begin + int64(from)}
}

// recordError returns an error at index at of the record that was read last.
func (s *scanner) recordError(at int32, field, format string, args ...any) *ParseError {
	return &ParseError{File: s.name, Field: field, Offset: s.start + int64(at), Err: fmt.Errorf(format, args...), resync: -1}
}

// fileError returns an error about a whole file, or about one column of it.
func fileError(file, field, format string, args ...any) *ParseError {
	return &ParseError{File: file, Field: field, Err: fmt.Errorf(format, args...), resync: -1, damaged: true}
}

// with adds what the user can do about the error.
func (e *ParseError) with(remedy string) *ParseError {
	e.remedies = append(e.remedies, remedy)
	return e
}

// Error returns the location, the cause and the remedies, as in
//
//	orders.csv:17:4: column "qty": "x" is not a 64-bit integer (at byte 301); REMEDY, or REMEDY
func (e *ParseError) Error() string {
	var b strings.Builder
	b.WriteString(e.location())
	for i, r := range e.remedies {
		if i == 0 {
			b.WriteString("; ")
		} else {
			b.WriteString(", or ")
		}
		b.WriteString(r)
	}
	return b.String()
}

// location returns the error's text without the remedies.
func (e *ParseError) location() string {
	switch {
	case e.Line > 0 && e.damaged: // Err has the byte
		return fmt.Sprintf("%s:%d:%d: %v", e.File, e.Line, e.Column, e.Err)
	case e.Line > 0:
		return fmt.Sprintf("%s:%d:%d: %v (at byte %d)", e.File, e.Line, e.Column, e.Err, e.Offset)
	case !e.damaged:
		return fmt.Sprintf("%s: %v (at byte %d)", e.File, e.Err, e.Offset)
	case e.Offset > 0:
		return fmt.Sprintf("%s: %v (after byte %d)", e.File, e.Err, e.Offset)
	}
	return fmt.Sprintf("%s: %v", e.File, e.Err)
}

// Unwrap returns Err.
func (e *ParseError) Unwrap() error { return e.Err }

// damage is an error in the contents of a file, found while decompressing or
// decoding it, as opposed to an error of the system that reads it.
type damage struct{ error }

// Unwrap returns the cause.
func (d damage) Unwrap() error { return d.error }

// readError returns the error for a read that failed after an offset of a file.
func readError(file string, offset int64, err error) error {
	var d damage
	if errors.As(err, &d) {
		var bytes undecodable
		return &ParseError{File: file, Offset: offset, Err: d.error, resync: -1, damaged: true, wrongEncoding: errors.As(err, &bytes)}
	}
	if offset == 0 {
		return fmt.Errorf("%s: %w", file, err)
	}
	return fmt.Errorf("%s: after byte %d: %w", file, offset, err)
}

// begin returns the index of the cell's first byte in its record, quote
// included.
func (c *cell) begin() int32 {
	if c.quoted {
		return c.from - 1
	}
	return c.from
}

// counted returns a number with its noun, as in "1 field" and "2 fields".
func counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// quoteValue returns a value as errors show it.
func quoteValue(text []byte) string {
	const most = 60
	if len(text) > most {
		return fmt.Sprintf("%q and %d more bytes", text[:most], len(text)-most)
	}
	return fmt.Sprintf("%q", text)
}
