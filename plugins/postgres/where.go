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
		// In the array, a value that equals nothing would be NULL.
		values := slices.DeleteFunc(slices.Clone(p.Values), func(v sources.Value) bool {
			_, err := encode(c, c.equalWire, v)
			return errors.Is(err, errEqualsNothing)
		})
		if len(values) == 0 && len(p.Values) > 0 {
			return never, nil
		}
		array, err := b.arrayParam(c, c.equalWire, values)
		return "(" + c.equalsAny(array) + ")", err
	case sources.IsNull:
		if p.Not {
			return "(NOT (" + c.nullExpr + "))", nil
		}
		return "(" + c.nullExpr + ")", nil
	case sources.HasPrefix:
		raw, err := encode(c, textWireType, sources.Text(p.Prefix))
		if !utf8.ValidString(p.Prefix) {
			// The prefix may end inside a character, which a text parameter cannot represent.
			return "pg_catalog.starts_with(pg_catalog.encode(pg_catalog.convert_to(" + c.textExpr + ", 'UTF8'), 'hex'), " +
				b.param(oidText, fmt.Appendf(nil, "%x", p.Prefix)) + "::pg_catalog.text)", nil
		}
		if errors.Is(err, errEqualsNothing) {
			return never, nil
		}
		if err != nil {
			return "", err
		}
		return "pg_catalog.starts_with(" + c.textExpr + ", " + b.scalarParam(textWireType, raw) + ")", nil
	case sources.Like:
		raw, err := encode(c, textWireType, sources.Text(p.Pattern))
		if errors.Is(err, errEqualsNothing) || loneEscape(p.Pattern) {
			return never, nil
		}
		if err != nil {
			return "", err
		}
		return "(" + c.textExpr + " LIKE " + b.scalarParam(textWireType, raw) + ` ESCAPE '\')`, nil
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
	op, expr, wire := p.Op, c.compareExpr, c.wire
	if op == sources.OpEq || op == sources.OpNe {
		expr, wire = c.equalExpr, c.equalWire
	}
	if d, ok := p.Value.V.(sources.Digits); ok && op != sources.OpEq && op != sources.OpNe {
		op, d = c.numberBound(op, d)
		p.Value.V = d
	}
	raw, err := encode(c, wire, p.Value)
	if errors.Is(err, errEqualsNothing) {
		switch text, isText := p.Value.V.(string); {
		case op == sources.OpEq:
			return never, nil
		case op == sources.OpNe:
			return always, nil
		case isText && wire.own == nil:
			// A text is less if and only if it is not greater than the part before the zero byte.
			head, _, _ := strings.Cut(text, "\x00")
			raw, err = encode(c, wire, sources.Text(head))
			switch op {
			case sources.OpLt:
				op = sources.OpLe
			case sources.OpGe:
				op = sources.OpGt
			}
		default:
			err = fmt.Errorf("column %q: %s has no place in the order of type %s", c.name, p.Value, c.typeName)
		}
	}
	if err != nil {
		return "", err
	}
	if op == sources.OpNe && wire.own != nil { // an operator class has no <>
		return "(NOT (" + expr + wire.operator(sources.OpEq) + b.scalarParam(wire, raw) + "))", nil
	}
	return "(" + expr + wire.operator(op) + b.scalarParam(wire, raw) + ")", nil
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
