package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/penstock-data/penstock/sources"
)

var operators = map[sources.Op]string{
	sources.OpEq: " = ", sources.OpNe: " <> ", sources.OpLt: " < ", sources.OpLe: " <= ", sources.OpGt: " > ", sources.OpGe: " >= ",
}

// predicate writes a predicate in SQL, with the three values of sources.Eval.
func (b *statement) predicate(t *table, p sources.Predicate) (string, error) {
	switch p := p.(type) {
	case sources.And:
		return b.junction(t, p, " AND ", "true")
	case sources.Or:
		return b.junction(t, p, " OR ", "false")
	case sources.Not:
		s, err := b.predicate(t, p.Predicate)
		return "(NOT " + s + ")", err
	case nil:
		return "true", nil
	}
	name, _, _ := sources.Leaf(p)
	c := t.columns[name]
	// False, but unknown for NULL; and true.
	never, always := "("+c.null+" AND NULL::pg_catalog.bool)", "(NOT ("+c.null+") OR NULL::pg_catalog.bool)"
	switch p := p.(type) {
	case sources.Comparison:
		return b.comparison(c, p, never, always)
	case sources.In:
		// A text with a zero byte equals nothing; in the array it would be a NULL.
		values := slices.DeleteFunc(slices.Clone(p.Values), func(v sources.Value) bool {
			return c.wire.text && !v.IsNull() && strings.IndexByte(v.V.(string), 0) >= 0
		})
		if len(values) == 0 && len(p.Values) > 0 {
			return never, nil
		}
		array, err := b.array(c, values)
		return "(" + c.among(array) + ")", err
	case sources.IsNull:
		if p.Not {
			return "(NOT (" + c.null + "))", nil
		}
		return "(" + c.null + ")", nil
	case sources.HasPrefix:
		raw, err := encode(c, sources.Text(p.Prefix))
		if !utf8.ValidString(p.Prefix) {
			// A prefix may end within a character, which no parameter of type text
			// can say.
			return "pg_catalog.starts_with(pg_catalog.encode(pg_catalog.convert_to(" + c.compared + ", 'UTF8'), 'hex'), " +
				b.param(oidText, fmt.Appendf(nil, "%x", p.Prefix)) + "::pg_catalog.text)", nil
		}
		if errors.Is(err, errNul) {
			return never, nil
		}
		if err != nil {
			return "", err
		}
		return "pg_catalog.starts_with(" + c.compared + ", " + b.scalar(c, raw) + ")", nil
	case sources.Like:
		raw, err := encode(c, sources.Text(p.Pattern))
		if errors.Is(err, errNul) || loneEscape(p.Pattern) {
			return never, nil
		}
		if err != nil {
			return "", err
		}
		return "(" + c.compared + " LIKE " + b.scalar(c, raw) + ` ESCAPE '\')`, nil
	}
	return "", fmt.Errorf("a predicate of type %T", p)
}

// loneEscape reports whether a pattern ends in a backslash that takes the
// meaning from nothing. PostgreSQL calls that an error, the contract a pattern
// that matches nothing.
func loneEscape(pattern string) bool {
	n := len(pattern) - len(strings.TrimRight(pattern, `\`))
	return n%2 == 1
}

func (b *statement) comparison(c *column, p sources.Comparison, never, always string) (string, error) {
	if p.Value.IsNull() {
		return "NULL::pg_catalog.bool", nil
	}
	op, expr := p.Op, c.compared
	if op == sources.OpEq || op == sources.OpNe {
		expr = c.equal
	}
	raw, err := encode(c, p.Value)
	if errors.Is(err, errNul) {
		// No text equals it, and one is less exactly where it is not greater than
		// what precedes the zero byte.
		head, _, _ := strings.Cut(p.Value.V.(string), "\x00")
		raw, err = encode(c, sources.Text(head))
		switch op {
		case sources.OpEq:
			return never, nil
		case sources.OpNe:
			return always, nil
		case sources.OpLt:
			op = sources.OpLe
		case sources.OpGe:
			op = sources.OpGt
		}
	}
	if err != nil {
		return "", err
	}
	return "(" + expr + operators[op] + b.scalar(c, raw) + ")", nil
}

func (b *statement) junction(t *table, ps []sources.Predicate, word, none string) (string, error) {
	if len(ps) == 0 {
		return none, nil
	}
	parts := make([]string, len(ps))
	for i, p := range ps {
		var err error
		if parts[i], err = b.predicate(t, p); err != nil {
			return "", err
		}
	}
	return "(" + strings.Join(parts, word) + ")", nil
}
