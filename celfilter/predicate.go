package celfilter

import (
	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// predicate translates an expression of type bool.
func (tr *translator) predicate(e celast.Expr) (sources.Predicate, error) {
	if field, ok, err := tr.column(e); err != nil {
		return nil, err
	} else if ok {
		if celTypeOf(field) != cel.BoolType {
			return nil, tr.fault(e, "column %q is not boolean: compare it with a literal", field.Name)
		}
		return sources.Comparison{Column: field.Name, Op: sources.OpEq, Value: typedAs(field.Type, true)}, nil
	}
	switch e.Kind() {
	case celast.LiteralKind:
		if b, ok := e.AsLiteral().(types.Bool); ok {
			if b {
				return sources.And{}, nil
			}
			return sources.Or{}, nil
		}
	case celast.CallKind:
		return tr.call(e, e.AsCall())
	}
	return nil, tr.fault(e, "this is not a condition")
}

var comparisonOps = map[string]sources.Op{
	operators.Equals: sources.OpEq, operators.NotEquals: sources.OpNe,
	operators.Less: sources.OpLt, operators.LessEquals: sources.OpLe,
	operators.Greater: sources.OpGt, operators.GreaterEquals: sources.OpGe,
}

// swapped maps an operator to the one for exchanged sides.
var swapped = map[sources.Op]sources.Op{
	sources.OpEq: sources.OpEq, sources.OpNe: sources.OpNe,
	sources.OpLt: sources.OpGt, sources.OpLe: sources.OpGe, sources.OpGt: sources.OpLt, sources.OpGe: sources.OpLe,
}

func (tr *translator) call(e celast.Expr, call celast.CallExpr) (sources.Predicate, error) {
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		return tr.junction(name, args)
	case operators.LogicalNot:
		p, err := tr.predicate(args[0])
		if err != nil {
			return nil, err
		}
		return sources.Not{Predicate: p}, nil
	case operators.In:
		return tr.in(e, args[0], args[1])
	case "startsWith", "like":
		subject, pattern := call.Target(), args[0]
		if name == "like" {
			subject, pattern = args[0], args[1]
		}
		field, err := tr.wantColumn(subject)
		if err != nil {
			return nil, err
		}
		if t := celTypeOf(field); t != cel.StringType && t != celExact {
			return nil, tr.fault(subject, "%s needs a text column, but %q is %s", name, field.Name, typeName(field))
		}
		text, ok := asText(pattern)
		if !ok {
			return nil, tr.fault(pattern, "%s needs a text in quotes here", name)
		}
		if name == "like" {
			return sources.Like{Column: field.Name, Pattern: text}, nil
		}
		return sources.HasPrefix{Column: field.Name, Prefix: text}, nil
	default:
		if op, ok := comparisonOps[name]; ok {
			return tr.comparison(e, op, args[0], args[1])
		}
		return nil, tr.fault(e, "%s is not a condition", name)
	}
}

// junction joins the terms of && or || into one list, with those of the same
// operator within them.
func (tr *translator) junction(name string, args []celast.Expr) (sources.Predicate, error) {
	var terms []sources.Predicate
	for _, arg := range args {
		p, err := tr.predicate(arg)
		if err != nil {
			return nil, err
		}
		and, isAnd := p.(sources.And)
		or, isOr := p.(sources.Or)
		switch {
		case name == operators.LogicalAnd && isAnd:
			terms = append(terms, and...)
		case name == operators.LogicalOr && isOr:
			terms = append(terms, or...)
		default:
			terms = append(terms, p)
		}
	}
	if name == operators.LogicalAnd {
		return sources.And(terms), nil
	}
	return sources.Or(terms), nil
}

func (tr *translator) comparison(e celast.Expr, op sources.Op, left, right celast.Expr) (sources.Predicate, error) {
	l, leftColumn, err := tr.column(left)
	if err != nil {
		return nil, err
	}
	r, rightColumn, err := tr.column(right)
	switch {
	case err != nil:
		return nil, err
	case leftColumn && rightColumn:
		return nil, tr.fault(e, "column %q is compared with column %q: one side must be a literal", l.Name, r.Name)
	case !leftColumn && !rightColumn:
		return nil, tr.fault(e, "one side must be a column of table %q", tr.table.Name)
	case rightColumn:
		l, right, op = r, left, swapped[op]
	}
	if isNull(right) {
		if op != sources.OpEq && op != sources.OpNe {
			return nil, tr.fault(e, "NULL has no order: use == null or != null")
		}
		return sources.IsNull{Column: l.Name, Not: op == sources.OpNe}, nil
	}
	value, err := tr.literal(right, l)
	if err != nil {
		return nil, err
	}
	return value.compare(l.Name, op), nil
}

func (tr *translator) in(e, left, right celast.Expr) (sources.Predicate, error) {
	field, err := tr.wantColumn(left)
	if err != nil {
		return nil, err
	}
	if right.Kind() != celast.ListKind {
		return nil, tr.fault(right, "in needs a list of literals, such as [1, 2, 3]")
	}
	if celTypeOf(field) == celOther {
		return nil, tr.fault(e, "column %q is %s, whose values cannot be compared", field.Name, typeName(field))
	}
	in := sources.In{Column: field.Name}
	none := bound{value: typedAs(field.Type, zeroOf(field.Type))} // not used for numbers in text, which are all exact
	for _, element := range right.AsList().Elements() {
		if isNull(element) {
			in.Values = append(in.Values, sources.Null(sources.FieldType(field)))
			continue
		}
		value, err := tr.literal(element, field)
		if err != nil {
			return nil, err
		}
		if value.exact {
			in.Values = append(in.Values, value.value)
		}
	}
	if len(in.Values) == 0 && right.AsList().Size() > 0 {
		return none.compare(field.Name, sources.OpEq), nil
	}
	return in, nil
}

func isNull(e celast.Expr) bool {
	if e.Kind() != celast.LiteralKind {
		return false
	}
	_, null := e.AsLiteral().(types.Null)
	return null
}

func asText(e celast.Expr) (string, bool) {
	if e.Kind() != celast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
}

// column returns the field that an expression names; false if the expression is
// not a name.
func (tr *translator) column(e celast.Expr) (arrow.Field, bool, error) {
	var name string
	switch e.Kind() {
	case celast.IdentKind:
		name = e.AsIdent()
	case celast.CallKind:
		call := e.AsCall()
		if call.FunctionName() != operators.Index {
			return arrow.Field{}, false, nil
		}
		var ok bool
		if name, ok = asText(call.Args()[1]); !ok || call.Args()[0].Kind() != celast.IdentKind {
			return arrow.Field{}, false, tr.fault(e, `row needs the name of a column in quotes, as in row["name"]`)
		}
	default:
		return arrow.Field{}, false, nil
	}
	i := tr.table.Column(name)
	if i < 0 {
		if e.Kind() == celast.IdentKind && name == "row" {
			return arrow.Field{}, false, tr.fault(e, `row needs the name of a column in quotes, as in row["name"]`)
		}
		return arrow.Field{}, false, tr.fault(e, "%s", tr.noColumn(name))
	}
	return tr.table.Schema.Field(i), true, nil
}

func (tr *translator) wantColumn(e celast.Expr) (arrow.Field, error) {
	field, ok, err := tr.column(e)
	if err == nil && !ok {
		err = tr.fault(e, "this must be a column of table %q", tr.table.Name)
	}
	return field, err
}
