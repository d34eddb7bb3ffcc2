package celfilter

import (
	"fmt"
	"regexp"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// Types of columns and literals that CEL lacks. An opaque type compares only with
// the types that newEnv declares for it.
var (
	celDecimal = cel.OpaqueType("decimal")
	celDate    = cel.OpaqueType("date")
	celTime    = cel.OpaqueType("time")
	celLocal   = cel.OpaqueType("timestamp without zone")
	celUUID    = cel.OpaqueType("uuid")
	celExact   = cel.OpaqueType("number")       // exact numbers in text; see sources.Number
	celOther   = cel.OpaqueType("nested value") // can only be tested for NULL
)

// comparableTypes lists groups of types. The types of a group compare with each
// other, and with no type of another group.
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

// literalFor lists pairs of a column's type and the different type of its
// literals.
var literalFor = [][2]*cel.Type{
	{celUUID, cel.StringType}, {celUUID, cel.BytesType}, {celLocal, cel.TimestampType},
	{celExact, cel.IntType}, {celExact, cel.UintType}, {celExact, cel.DoubleType}, {celExact, celDecimal}, {celExact, cel.StringType},
}

var identifier = regexp.MustCompile(`^[_a-zA-Z][_a-zA-Z0-9]*$`)

// celReserved lists the words that cannot name a variable in CEL.
var celReserved = []string{"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in",
	"let", "loop", "package", "namespace", "null", "return", "true", "var", "void", "while"}

func isVariable(column string) bool {
	return identifier.MatchString(column) && !slices.Contains(celReserved, column)
}

// newEnv declares the columns of a schema, and the operators and functions that
// have a predicate. The checker refuses everything else.
func newEnv(schema *arrow.Schema) (*cel.Env, error) {
	options := []cel.EnvOption{cel.ClearMacros()}
	seen := map[string]bool{}
	for _, f := range schema.Fields() {
		if isVariable(f.Name) && !seen[f.Name] {
			options = append(options, cel.Variable(f.Name, celTypeOf(f)))
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
	all := []*cel.Type{celUUID, celLocal, celExact, celOther}
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
	member := func(text *cel.Type) cel.FunctionOpt {
		return cel.MemberOverload(name(), []*cel.Type{text, cel.StringType}, cel.BoolType)
	}
	declare("startsWith", member(cel.StringType), member(celExact))
	declare("like", overload(cel.BoolType, cel.StringType, cel.StringType), overload(cel.BoolType, celExact, cel.StringType))
	for function, result := range map[string]*cel.Type{
		"date": celDate, "time": celTime, "timestamp": cel.TimestampType,
		"decimal": celDecimal, "duration": cel.DurationType,
	} {
		declare(function, overload(result, cel.StringType))
	}
	return cel.NewCustomEnv(options...)
}

// celTypeOf returns the type that a column has for the checker.
func celTypeOf(f arrow.Field) *cel.Type {
	switch {
	case sources.IsUUID(f):
		return celUUID
	case sources.FieldType(f) == sources.Number:
		return celExact
	}
	t := sources.ValueType(f.Type)
	if t, ok := t.(*arrow.TimestampType); ok {
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

// typeName returns the type of a column as errors write it.
func typeName(f arrow.Field) string {
	switch {
	case sources.IsUUID(f):
		return "uuid"
	case sources.FieldType(f) == sources.Number:
		return sources.Number.String()
	}
	return f.Type.String()
}
