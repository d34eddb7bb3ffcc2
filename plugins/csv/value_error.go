package csv

import (
	"encoding/json"
	"fmt"
)

// valueError returns the error for a value that is not of its column's type.
func (s *scanner) valueError(c *column, at *cell, text []byte) *ParseError {
	if c.kind == textKind {
		e := s.recordError(at.begin(), c.name, "column %q: %s is not %s", c.name, quoteValue(text), c.describe())
		e.wrongEncoding = true
		return e
	}
	if c.inferred == "" {
		return s.recordError(at.begin(), c.name, "column %q: %s is not %s", c.name, quoteValue(text), c.describe())
	}
	what := "type"
	switch {
	case c.kind == decimalKind && c.source != "":
		what = "scale"
	case c.source != "":
		what = "zone"
	}
	e := s.recordError(at.begin(), c.name, "column %q: %s is not %s, the %s inferred from %s", c.name, quoteValue(text), c.describe(), what, c.inferred)
	if s.lines == nil { // it is not standard input
		_ = e.with("set sample=all to infer types from all records")
	} else {
		_ = e.with("set sample=N to infer types from more records")
	}
	if c.source == "" {
		_ = e.with("types=text to read columns as text")
	}
	return e.with(fmt.Sprintf("declare it in %s, as in %s", packageFile, c.declarationFor(text)))
}

// declarationFor returns a field of a package, in JSON, that reads the column's values so
// far and this one, which is not of the inferred type.
func (c *column) declarationFor(text []byte) string {
	f := fieldJSON{Name: c.name, Type: "string"}
	number := column{kind: decimalKind, source: "number", group: c.group, decimal: c.decimal}
	switch c.kind {
	case integerKind, decimalKind:
		// A code such as 007 would lose its zeros as a number.
		mayBeCode := func(zero bool) bool { return c.source == "" && !isCanonical(text, zero) }
		number.scale = max(number.places(text), c.scale)
		if d, ok := number.parse(text, true); ok {
			if mayBeCode(d.n|d.high == 0) {
				break
			}
			if f.Type, f.Scale = "number", &number.scale; c.source != "" {
				f.GroupChar, f.DecimalChar = c.group, decimalChar(c.decimal)
			}
		} else if _, ok := parseFloat(number.plain(text)); ok && !mayBeCode(false) {
			f.Type, f.Format = "number", "float"
		}
	case localKind, instantKind:
		if c.source != "" {
			f.Type, f.Format = "datetime", "PATTERN"
		}
	}
	line, _ := json.Marshal(f) // texts and numbers cannot fail
	return string(line)
}

func decimalChar(c byte) string {
	if c == 0 {
		return ""
	}
	return string([]byte{c})
}
