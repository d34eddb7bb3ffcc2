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

// predicate returns a predicate in SQL, with the three-valued logic of sources.Eval.
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
	// Conditions that are false and true, but unknown for NULL.
	never, always := "("+c.nullExpr+" AND NULL::pg_catalog.bool)", "(NOT ("+c.nullExpr+") OR NULL::pg_catalog.bool)"
	switch p := p.(type) {
	case sources.Comparison:
		return b.comparison(c, p, never, always)
	case sources.In:
		// Text with a zero byte equals nothing. In the array it would be NULL.
		values := slices.DeleteFunc(slices.Clone(p.Values), func(v sources.Value) bool {
			return c.wire.text && !v.IsNull() && strings.IndexByte(v.V.(string), 0) >= 0
		})
		if len(values) == 0 && len(p.Values) > 0 {
			return never, nil
		}
		array, err := b.arrayParam(c, values)
		return "(" + c.equalsAny(array) + ")", err
	case sources.IsNull:
		if p.Not {
			return "(NOT (" + c.nullExpr + "))", nil
		}
		return "(" + c.nullExpr + ")", nil
	case sources.HasPrefix:
		raw, err := encode(c, sources.Text(p.Prefix))
		if !utf8.ValidString(p.Prefix) {
			// The prefix may end inside a character, which a text parameter cannot represent.
			return "pg_catalog.starts_with(pg_catalog.encode(pg_catalog.convert_to(" + c.compareExpr + ", 'UTF8'), 'hex'), " +
				b.param(oidText, fmt.Appendf(nil, "%x", p.Prefix)) + "::pg_catalog.text)", nil
		}
		if errors.Is(err, errZeroByte) {
			return never, nil
		}
		if err != nil {
			return "", err
		}
		return "pg_catalog.starts_with(" + c.compareExpr + ", " + b.scalarParam(c, raw) + ")", nil
	case sources.Like:
		raw, err := encode(c, sources.Text(p.Pattern))
		if errors.Is(err, errZeroByte) || loneEscape(p.Pattern) {
			return never, nil
		}
		if err != nil {
			return "", err
		}
		return "(" + c.compareExpr + " LIKE " + b.scalarParam(c, raw) + ` ESCAPE '\')`, nil
	}
	return "", fmt.Errorf("predicates of type %T are not supported", p)
}

// loneEscape reports whether a pattern ends with a backslash that escapes nothing. It
// matches nothing, but is an error in PostgreSQL.
func loneEscape(pattern string) bool {
	n := len(pattern) - len(strings.TrimRight(pattern, `\`))
	return n%2 == 1
}

func (b *statement) comparison(c *column, p sources.Comparison, never, always string) (string, error) {
	if p.Value.IsNull() {
		return "NULL::pg_catalog.bool", nil
	}
	op, expr := p.Op, c.compareExpr
	if op == sources.OpEq || op == sources.OpNe {
		expr = c.equalExpr
	}
	raw, err := encode(c, p.Value)
	if errors.Is(err, errZeroByte) {
		// No text equals it. A text is less if and only if it is not greater than the part
		// before the zero byte.
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
	return "(" + expr + operators[op] + b.scalarParam(c, raw) + ")", nil
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
