package main

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// The types of columns and literals that CEL has no type for. An opaque type
// compares with nothing but what the environment declares.
var (
	celDecimal = cel.OpaqueType("decimal")
	celDate    = cel.OpaqueType("date")
	celTime    = cel.OpaqueType("time")
	celLocal   = cel.OpaqueType("timestamp without zone")
	celUUID    = cel.OpaqueType("uuid")
	celOther   = cel.OpaqueType("nested value") // can only be tested for NULL
)

// comparableTypes are the groups within which every type compares with every
// other. What is not here, the checker refuses.
var comparableTypes = [][]*cel.Type{
	{cel.IntType, cel.UintType, cel.DoubleType, celDecimal},
	{cel.BoolType},
	{cel.StringType},
	{cel.BytesType},
	{celDate},
	{celTime},
	{cel.TimestampType},
	{cel.DurationType},
}

// literalFor are pairs of a column's type and another type that its literals
// are written in.
var literalFor = [][2]*cel.Type{{celUUID, cel.StringType}, {celLocal, cel.TimestampType}}

// compileWhere turns a CEL expression into a predicate over the table's
// columns. Its literals have the types of their columns. A fault is a usage
// error that shows the expression, by the name that it has for the user, with a
// caret under the place.
func compileWhere(name, expression string, table *sources.Table) (sources.Predicate, error) {
	w := &where{name: name, text: expression, table: table}
	if !utf8.ValidString(expression) {
		return nil, usagef("%s is not valid UTF-8", name)
	}
	env, err := whereEnv(table.Schema)
	if err != nil {
		return nil, fmt.Errorf("preparing %s: %w", name, err)
	}
	parsed, issues := env.Parse(expression)
	if issues.Err() != nil {
		return nil, w.issue(issues)
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, w.issue(issues)
	}
	w.info = checked.NativeRep().SourceInfo()
	return w.predicate(checked.NativeRep().Expr())
}

var identifier = regexp.MustCompile(`^[_a-zA-Z][_a-zA-Z0-9]*$`)

// celReserved cannot be the name of a variable in CEL.
var celReserved = []string{"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in",
	"let", "loop", "package", "namespace", "null", "return", "true", "var", "void", "while"}

func isVariable(column string) bool {
	return identifier.MatchString(column) && !slices.Contains(celReserved, column)
}

func whereEnv(schema *arrow.Schema) (*cel.Env, error) {
	options := []cel.EnvOption{cel.ClearMacros()}
	seen := map[string]bool{}
	for _, f := range schema.Fields() {
		if isVariable(f.Name) && !seen[f.Name] {
			options = append(options, cel.Variable(f.Name, celTypeOf(f.Type)))
		}
		seen[f.Name] = true
	}
	if !seen["row"] {
		options = append(options, cel.Variable("row", cel.MapType(cel.StringType, cel.DynType)))
	}

	declare := func(function string, overloads ...cel.FunctionOpt) {
		options = append(options, cel.Function(function, overloads...))
	}
	number := 0
	name := func() string { number++; return fmt.Sprintf("f%d", number) }
	overload := func(result *cel.Type, args ...*cel.Type) cel.FunctionOpt {
		return cel.Overload(name(), args, result)
	}
	var ordered, equal, in []cel.FunctionOpt
	pair := func(a, b *cel.Type) {
		ordered = append(ordered, overload(cel.BoolType, a, b))
		equal = append(equal, overload(cel.BoolType, a, b))
	}
	all := []*cel.Type{celUUID, celLocal, celOther}
	for _, group := range comparableTypes {
		all = append(all, group...)
		for _, a := range group {
			for _, b := range group {
				pair(a, b)
				in = append(in, overload(cel.BoolType, a, cel.ListType(b)))
			}
		}
	}
	for _, p := range literalFor {
		pair(p[0], p[1])
		pair(p[1], p[0])
		in = append(in, overload(cel.BoolType, p[0], cel.ListType(p[1])))
	}
	for _, t := range all {
		equal = append(equal, overload(cel.BoolType, t, cel.NullType), overload(cel.BoolType, cel.NullType, t))
	}
	for _, op := range []string{operators.Equals, operators.NotEquals} {
		declare(op, equal...)
	}
	for _, op := range []string{operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals} {
		declare(op, ordered...)
	}
	declare(operators.In, in...)
	declare(operators.LogicalAnd, overload(cel.BoolType, cel.BoolType, cel.BoolType))
	declare(operators.LogicalOr, overload(cel.BoolType, cel.BoolType, cel.BoolType))
	declare(operators.LogicalNot, overload(cel.BoolType, cel.BoolType))
	declare(operators.Negate, overload(cel.IntType, cel.IntType), overload(cel.DoubleType, cel.DoubleType))
	declare(operators.Index, overload(cel.DynType, cel.MapType(cel.StringType, cel.DynType), cel.StringType))
	declare("startsWith", cel.MemberOverload(name(), []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType))
	declare("like", overload(cel.BoolType, cel.StringType, cel.StringType))
	for function, result := range map[string]*cel.Type{
		"date": celDate, "time": celTime, "timestamp": cel.TimestampType,
		"decimal": celDecimal, "duration": cel.DurationType,
	} {
		declare(function, overload(result, cel.StringType))
	}
	return cel.NewCustomEnv(options...)
}

// celTypeOf is the type that a column has for the checker.
func celTypeOf(t arrow.DataType) *cel.Type {
	switch t := t.(type) {
	case arrow.ExtensionType:
		if t.ExtensionName() == "arrow.uuid" {
			return celUUID
		}
		return celTypeOf(t.StorageType())
	case *arrow.DictionaryType:
		return celTypeOf(t.ValueType)
	case *arrow.TimestampType:
		if t.TimeZone == "" {
			return celLocal
		}
		return cel.TimestampType
	}
	switch id := t.ID(); {
	case id == arrow.BOOL:
		return cel.BoolType
	case arrow.IsSignedInteger(id):
		return cel.IntType
	case arrow.IsUnsignedInteger(id):
		return cel.UintType
	case arrow.IsFloating(id):
		return cel.DoubleType
	case arrow.IsDecimal(id):
		return celDecimal
	case id == arrow.STRING, id == arrow.LARGE_STRING:
		return cel.StringType
	case id == arrow.BINARY, id == arrow.LARGE_BINARY, id == arrow.FIXED_SIZE_BINARY:
		return cel.BytesType
	case id == arrow.DATE32, id == arrow.DATE64:
		return celDate
	case id == arrow.TIME32, id == arrow.TIME64:
		return celTime
	case id == arrow.DURATION:
		return cel.DurationType
	}
	return celOther
}

// where translates one checked expression.
type where struct {
	name  string
	text  string
	table *sources.Table
	info  *celast.SourceInfo
}

// fault is an error at an expression.
func (w *where) fault(e celast.Expr, format string, args ...any) error {
	at := w.info.GetStartLocation(e.ID())
	return w.faultAt(at.Line(), at.Column(), fmt.Sprintf(format, args...))
}

// faultAt shows the line (from 1) with a caret under the column (from 0, in
// characters).
func (w *where) faultAt(line, column int, message string) error {
	lines := strings.Split(w.text, "\n")
	line = min(max(line, 1), len(lines))
	shown := []rune(strings.TrimRight(lines[line-1], "\r"))
	column = min(max(column, 0), len(shown))
	pad := strings.Repeat(" ", textWidth(printable(string(shown[:column]))))
	return &usageError{
		message: fmt.Sprintf("%s, line %d, column %d: %s", w.name, line, column+1, message),
		detail:  "  " + printable(string(shown)) + "\n  " + pad + "^",
	}
}

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	noOverload = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'`)
)

// issue puts the first fault that the parser or the checker found into words
// for someone who does not know CEL's insides.
func (w *where) issue(issues *cel.Issues) error {
	var first *common.Error
	for _, e := range issues.Errors() {
		if first == nil || e.Location.Line() < first.Location.Line() ||
			e.Location.Line() == first.Location.Line() && e.Location.Column() < first.Location.Column() {
			first = e
		}
	}
	line, column := first.Location.Line(), first.Location.Column()
	message := strings.Join(strings.Fields(first.Message), " ")
	if m := undeclared.FindStringSubmatch(message); m != nil {
		return w.faultAt(line, column, w.unknown(m[1], line, column))
	}
	if m := noOverload.FindStringSubmatch(message); m != nil {
		operator, ok := operators.FindReverse(m[1])
		if !ok || operator == "" {
			operator = m[1]
		}
		args := strings.NewReplacer("(", "", ")", "", ", ", " and ").Replace(m[2])
		if strings.Contains(m[2], ".(") {
			args = m[2]
		}
		return w.faultAt(line, column, fmt.Sprintf("%s does not work on %s", operator, args))
	}
	return w.faultAt(line, column, strings.TrimPrefix(message, "Syntax error: "))
}

// unknown explains a name that the environment does not have.
func (w *where) unknown(name string, line, column int) string {
	if operator, ok := operators.FindReverse(name); ok && operator != "" {
		return fmt.Sprintf("%s is not supported here: a condition compares a column with a literal", operator)
	}
	if name == operators.Conditional {
		return "? : is not supported here: a condition compares a column with a literal"
	}
	lines := strings.Split(w.text, "\n")
	if line-1 < len(lines) {
		rest := []rune(lines[line-1])
		after := strings.TrimLeft(string(rest[min(column, len(rest)):]), " \t")
		if after = strings.TrimPrefix(after, name); strings.HasPrefix(after, "(") || strings.HasPrefix(after, ".") {
			if i := w.table.Column(name); i < 0 && strings.HasPrefix(after, "(") {
				return fmt.Sprintf("there is no function %q", name) + sources.Suggest(name, whereFunctions)
			}
		}
		if strings.HasPrefix(after, "(") || slices.Contains([]string{"has", "all", "exists", "matches", "contains", "endsWith", "size"}, name) {
			return fmt.Sprintf("there is no function %q", name) + sources.Suggest(name, whereFunctions)
		}
	}
	return fmt.Sprintf("table %q has no column %q", w.table.Name, name) + sources.Suggest(name, w.columns())
}

var whereFunctions = []string{"date", "time", "timestamp", "decimal", "duration", "like", "startsWith"}

func (w *where) columns() []string {
	names := make([]string, w.table.Schema.NumFields())
	for i, f := range w.table.Schema.Fields() {
		names[i] = f.Name
	}
	return names
}

// predicate translates an expression of type bool.
func (w *where) predicate(e celast.Expr) (sources.Predicate, error) {
	if field, ok, err := w.column(e); err != nil {
		return nil, err
	} else if ok {
		if celTypeOf(field.Type) != cel.BoolType {
			return nil, w.fault(e, "column %q is not boolean: compare it with something", field.Name)
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
		return w.call(e, e.AsCall())
	}
	return nil, w.fault(e, "this is not a condition")
}

var comparisonOps = map[string]sources.Op{
	operators.Equals: sources.OpEq, operators.NotEquals: sources.OpNe,
	operators.Less: sources.OpLt, operators.LessEquals: sources.OpLe,
	operators.Greater: sources.OpGt, operators.GreaterEquals: sources.OpGe,
}

// turned is the operator with its sides exchanged.
var turned = map[sources.Op]sources.Op{
	sources.OpEq: sources.OpEq, sources.OpNe: sources.OpNe,
	sources.OpLt: sources.OpGt, sources.OpLe: sources.OpGe, sources.OpGt: sources.OpLt, sources.OpGe: sources.OpLe,
}

func (w *where) call(e celast.Expr, call celast.CallExpr) (sources.Predicate, error) {
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		return w.junction(name, args)
	case operators.LogicalNot:
		p, err := w.predicate(args[0])
		if err != nil {
			return nil, err
		}
		return sources.Not{Predicate: p}, nil
	case operators.In:
		return w.in(e, args[0], args[1])
	case "startsWith", "like":
		subject, pattern := call.Target(), args[0]
		if name == "like" {
			subject, pattern = args[0], args[1]
		}
		field, err := w.wantColumn(subject)
		if err != nil {
			return nil, err
		}
		if celTypeOf(field.Type) != cel.StringType {
			return nil, w.fault(subject, "%s wants a text column, %q is %s", name, field.Name, field.Type)
		}
		text, ok := asText(pattern)
		if !ok {
			return nil, w.fault(pattern, "%s wants a text in quotes here", name)
		}
		if name == "like" {
			return sources.Like{Column: field.Name, Pattern: text}, nil
		}
		return sources.HasPrefix{Column: field.Name, Prefix: text}, nil
	default:
		if op, ok := comparisonOps[name]; ok {
			return w.comparison(e, op, args[0], args[1])
		}
		return nil, w.fault(e, "%s is not a condition", name)
	}
}

// junction joins the terms of && or ||, and those of the same operator within
// them, into one list.
func (w *where) junction(name string, args []celast.Expr) (sources.Predicate, error) {
	var terms []sources.Predicate
	for _, arg := range args {
		p, err := w.predicate(arg)
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

func (w *where) comparison(e celast.Expr, op sources.Op, left, right celast.Expr) (sources.Predicate, error) {
	l, leftColumn, err := w.column(left)
	if err != nil {
		return nil, err
	}
	r, rightColumn, err := w.column(right)
	switch {
	case err != nil:
		return nil, err
	case leftColumn && rightColumn:
		return nil, w.fault(e, "column %q is compared with column %q: one side must be a literal", l.Name, r.Name)
	case !leftColumn && !rightColumn:
		return nil, w.fault(e, "one side must be a column of table %q", w.table.Name)
	case rightColumn:
		l, right, op = r, left, turned[op]
	}
	if isNull(right) {
		if op != sources.OpEq && op != sources.OpNe {
			return nil, w.fault(e, "NULL has no order: use == null or != null")
		}
		return sources.IsNull{Column: l.Name, Not: op == sources.OpNe}, nil
	}
	value, err := w.literal(right, l)
	if err != nil {
		return nil, err
	}
	return value.compare(l.Name, op), nil
}

func (w *where) in(e, left, right celast.Expr) (sources.Predicate, error) {
	field, err := w.wantColumn(left)
	if err != nil {
		return nil, err
	}
	if right.Kind() != celast.ListKind {
		return nil, w.fault(right, "in wants a list of literals, as in [1, 2, 3]")
	}
	if celTypeOf(field.Type) == celOther {
		return nil, w.fault(e, "values of column %q (%s) do not compare", field.Name, field.Type)
	}
	in := sources.In{Column: field.Name}
	none := bound{value: typedAs(field.Type, zeroOf(field.Type))}
	for _, element := range right.AsList().Elements() {
		if isNull(element) {
			in.Values = append(in.Values, sources.Null(storageOf(field.Type)))
			continue
		}
		value, err := w.literal(element, field)
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

// column returns the field that an expression names; false where it is not the
// name of a column.
func (w *where) column(e celast.Expr) (arrow.Field, bool, error) {
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
			return arrow.Field{}, false, w.fault(e, `a column is row["name"], with the name in quotes`)
		}
	default:
		return arrow.Field{}, false, nil
	}
	i := w.table.Column(name)
	if i < 0 {
		if e.Kind() == celast.IdentKind && name == "row" {
			return arrow.Field{}, false, w.fault(e, `a column is row["name"], with the name in quotes`)
		}
		return arrow.Field{}, false, w.fault(e, "table %q has no column %q%s", w.table.Name, name, sources.Suggest(name, w.columns()))
	}
	return w.table.Schema.Field(i), true, nil
}

func (w *where) wantColumn(e celast.Expr) (arrow.Field, error) {
	field, ok, err := w.column(e)
	if err == nil && !ok {
		err = w.fault(e, "this must be a column of table %q", w.table.Name)
	}
	return field, err
}

// number returns the exact value of a number as it was written. CEL keeps a
// float64 of 1.10; a decimal column wants the digits.
func (w *where) number(e celast.Expr, value ref.Val) (*big.Rat, error) {
	switch v := value.(type) {
	case types.Int:
		return new(big.Rat).SetInt64(int64(v)), nil
	case types.Uint:
		return new(big.Rat).SetUint64(uint64(v)), nil
	}
	at, ok := w.info.GetOffsetRange(e.ID())
	text := []rune(w.text)
	if !ok || int(at.Start) > len(text) {
		return nil, w.fault(e, "this number has no place in the text")
	}
	written := doubleText.FindString(string(text[at.Start:]))
	r, ok := parseDecimal(strings.ReplaceAll(written, " ", ""))
	if !ok {
		return nil, w.fault(e, "this number is too long or too small")
	}
	return r, nil
}

var doubleText = regexp.MustCompile(`^-?\s*(\d+(\.\d+)?|\.\d+)([eE][-+]?\d+)?`)
