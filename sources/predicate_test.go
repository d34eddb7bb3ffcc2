package sources

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
)

func TestEval(t *testing.T) {
	row := map[string]Value{"n": Int(5), "s": Text("hello"), "none": Null(arrow.PrimitiveTypes.Int64), "nothing": Null(arrow.BinaryTypes.String)}
	null := Null(arrow.PrimitiveTypes.Int64)
	for _, c := range []struct {
		p    Predicate
		want Truth
	}{
		{nil, True},
		{Comparison{"n", OpEq, Int(5)}, True}, {Comparison{"n", OpEq, Int(4)}, False},
		{Comparison{"n", OpNe, Int(5)}, False}, {Comparison{"n", OpNe, Int(4)}, True},
		{Comparison{"n", OpLt, Int(5)}, False}, {Comparison{"n", OpLt, Int(6)}, True},
		{Comparison{"n", OpLe, Int(5)}, True}, {Comparison{"n", OpLe, Int(4)}, False},
		{Comparison{"n", OpGt, Int(5)}, False}, {Comparison{"n", OpGt, Int(4)}, True},
		{Comparison{"n", OpGe, Int(5)}, True}, {Comparison{"n", OpGe, Int(6)}, False},
		{Comparison{"n", OpEq, Float(5)}, True}, {Comparison{"n", OpLt, Float(5.5)}, True},
		{Comparison{"n", OpEq, null}, Unknown}, {Comparison{"none", OpEq, Int(5)}, Unknown},
		{Comparison{"none", OpNe, Int(5)}, Unknown}, {Comparison{"none", OpEq, null}, Unknown},
		{In{"n", nil}, False}, {In{"none", nil}, False},
		{In{"n", []Value{Int(4), Int(5)}}, True}, {In{"n", []Value{Int(4)}}, False},
		{In{"n", []Value{Int(4), null}}, Unknown}, {In{"n", []Value{null, Int(5)}}, True},
		{In{"none", []Value{Int(5)}}, Unknown},
		{IsNull{"none", false}, True}, {IsNull{"none", true}, False},
		{IsNull{"n", false}, False}, {IsNull{"n", true}, True},
		{HasPrefix{"s", "hel"}, True}, {HasPrefix{"s", ""}, True}, {HasPrefix{"s", "el"}, False}, {HasPrefix{"nothing", ""}, Unknown},
		{Like{"s", "h%o"}, True}, {Like{"s", "h"}, False}, {Like{"nothing", "%"}, Unknown},
		{And{}, True}, {Or{}, False}, {Not{nil}, False},
	} {
		if got := Eval(c.p, func(column string) Value { return row[column] }); got != c.want {
			t.Errorf("%v is %d, want %d", c.p, got, c.want)
		}
	}
}

// TestEvalLogic checks SQL's truth tables.
func TestEvalLogic(t *testing.T) {
	row := map[string]Value{"n": Int(1), "none": Null(arrow.PrimitiveTypes.Int64)}
	at := func(column string) Value { return row[column] }
	of := map[Truth]Predicate{True: Comparison{"n", OpEq, Int(1)}, False: Comparison{"n", OpEq, Int(2)}, Unknown: Comparison{"none", OpEq, Int(1)}}
	for _, c := range []struct{ a, b, and, or Truth }{
		{True, True, True, True}, {True, Unknown, Unknown, True}, {True, False, False, True},
		{Unknown, True, Unknown, True}, {Unknown, Unknown, Unknown, Unknown}, {Unknown, False, False, Unknown},
		{False, True, False, True}, {False, Unknown, False, Unknown}, {False, False, False, False},
	} {
		if got := Eval(And{of[c.a], of[c.b]}, at); got != c.and {
			t.Errorf("%d and %d is %d, want %d", c.a, c.b, got, c.and)
		}
		if got := Eval(Or{of[c.a], of[c.b]}, at); got != c.or {
			t.Errorf("%d or %d is %d, want %d", c.a, c.b, got, c.or)
		}
	}
	for a, want := range map[Truth]Truth{True: False, False: True, Unknown: Unknown} {
		if got := Eval(Not{of[a]}, at); got != want {
			t.Errorf("not %d is %d, want %d", a, got, want)
		}
	}
}

func TestHolds(t *testing.T) {
	for op, want := range map[Op][3]bool{
		OpEq: {false, true, false}, OpNe: {true, false, true}, OpLt: {true, false, false},
		OpLe: {true, true, false}, OpGt: {false, false, true}, OpGe: {false, true, true}, OpIn: {},
	} {
		if got := [3]bool{op.Holds(-1), op.Holds(0), op.Holds(1)}; got != want {
			t.Errorf("%s holds for less, equal, more: %v, want %v", op, got, want)
		}
	}
}

func TestPredicateText(t *testing.T) {
	p := And{
		Comparison{"n", OpGe, Int(5)}, Or{In{"s", []Value{Text("a"), Null(nil)}}, IsNull{"s", false}},
		Not{Like{"s", "a%"}}, IsNull{"n", true}, HasPrefix{"s", "x"}, And{}, Or{},
	}
	want := `(n >= 5 and (s in ("a", NULL) or s is null) and not (s like "a%") and n is not null and s has prefix "x" and true and false)`
	if diff := cmp.Diff(want, p.String()); diff != "" {
		t.Error(diff)
	}
	var columns []string
	Leaves(p, func(p Predicate) { c, op, _ := Leaf(p); columns = append(columns, c+" "+op.String()) })
	if diff := cmp.Diff([]string{"n >=", "s in", "s is null", "s like", "n is not null", "s has prefix"}, columns); diff != "" {
		t.Error(diff)
	}
	nested := And{And{Comparison{"n", OpEq, Int(1)}}, nil, Or{}, And{And{IsNull{"s", false}}}}
	var texts []string
	for _, c := range Conjuncts(nested) {
		texts = append(texts, c.String())
	}
	if diff := cmp.Diff([]string{"n = 1", "false", "s is null"}, texts); diff != "" {
		t.Error(diff)
	}
	if got := OpsOf(OpEq, OpLike); !got.Has(OpEq) || got.Has(OpNe) || got.String() != "=, like" {
		t.Errorf("the set is %q", got)
	}
}

func TestAccepts(t *testing.T) {
	table := Table{Filters: map[string]Ops{"n": OpsOf(OpEq, OpIsNull)}}
	equal, less, null := Comparison{"n", OpEq, Int(1)}, Comparison{"n", OpLt, Int(1)}, IsNull{"n", false}
	for _, c := range []struct {
		p           Predicate
		plain, full bool // without and with Logic
	}{
		{equal, true, true}, {less, false, false}, {null, true, true}, {IsNull{"n", true}, false, false},
		{Comparison{"m", OpEq, Int(1)}, false, false},
		{Or{equal, null}, false, true}, {Or{equal, less}, false, false}, {Not{And{equal, Or{null}}}, false, true},
	} {
		table.Capabilities = 0
		if got := table.Accepts(c.p); got != c.plain {
			t.Errorf("%s: %t", c.p, got)
		}
		table.Capabilities = CapLogic
		if got := table.Accepts(c.p); got != c.full {
			t.Errorf("%s with logic: %t", c.p, got)
		}
	}
}

func TestMatchLike(t *testing.T) {
	for _, c := range []struct {
		s, pattern string
		want       bool
	}{
		{"", "", true}, {"", "%", true}, {"", "_", false}, {"a", "", false},
		{"abc", "abc", true}, {"abc", "ABC", false}, {"abc", "a_c", true}, {"abc", "a_", false},
		{"abc", "%c", true}, {"abc", "a%", true}, {"abc", "%b%", true}, {"abcabc", "%abc", true}, {"ac", "a%b%c", false},
		{"ä", "_", true}, {"äb", "_b", true}, {"日本", "__", true}, {"日本", "___", false},
		{"100%", `100\%`, true}, {"1000", `100\%`, false}, {"a_b", `a\_b`, true}, {"axb", `a\_b`, false},
		{`a\`, `a\\`, true}, {"ab", `a\b`, true}, {`a\`, `a\`, false}, {"a", `a\`, false}, {"a", `%\`, false}, {"", `\`, false},
		{"a\nb", "a_b", true}, {"\xff", "_", true}, {"a\xffb", "a%b", true},
	} {
		if got := MatchLike(c.s, c.pattern); got != c.want {
			t.Errorf("%q like %q is %t", c.s, c.pattern, got)
		}
	}
	// An algorithm that tried every division among many % would not finish.
	if MatchLike(strings.Repeat("a", 20000), strings.Repeat("%a", 100)+"b") {
		t.Error("it matches")
	}
}

// likeRegexp converts a LIKE pattern to a regular expression, or returns false for
// one that matches nothing.
func likeRegexp(pattern string) (*regexp.Regexp, bool) {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	runes := []rune(pattern)
	for i := 0; i < len(runes); i++ {
		switch runes[i] {
		case '%':
			b.WriteString(".*")
		case '_':
			b.WriteString(".")
		case '\\':
			if i++; i == len(runes) {
				return nil, false
			}
			fallthrough
		default:
			b.WriteString(regexp.QuoteMeta(string(runes[i])))
		}
	}
	b.WriteString(`\z`)
	return regexp.MustCompile(b.String()), true
}

func FuzzMatchLike(f *testing.F) {
	for _, seed := range []string{"", "a%b", `a\%_`, "%ä%_", `\`, "%%__%"} {
		for _, s := range []string{"", "ab", "a%x", "xäyz", "a\xffb"} {
			f.Add(s, seed)
		}
	}
	f.Fuzz(func(t *testing.T, s, pattern string) {
		// A pattern that is not UTF-8, or the character that stands for what is
		// not, means something else to a regular expression.
		if !utf8.ValidString(pattern) || strings.ContainsRune(pattern, utf8.RuneError) || len(pattern) > 200 {
			t.Skip()
		}
		want := false
		if r, ok := likeRegexp(pattern); ok {
			want = r.MatchString(s)
		}
		if got := MatchLike(s, pattern); got != want {
			t.Fatalf("%q like %q is %t, want %t", s, pattern, got, want)
		}
	})
}

func TestCheck(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		{Name: "colour", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}},
	}, nil)
	able := Table{
		Name: "people", Schema: schema, Capabilities: CapProject | CapSort | CapLimit | CapResume | CapPartition | CapLogic,
		Filters: map[string]Ops{"id": OpsOf(OpEq, OpIn), "name": ^Ops(0), "tags": OpsOf(OpIsNull, OpEq), "colour": OpsOf(OpEq)},
		Lookups: []Lookup{{Columns: []string{"id"}, MaxKeys: 2}},
		Denied:  map[string]string{"secret": "no privilege"},
	}
	weak := Table{Name: "log", Schema: schema}
	catalog := &Catalog{Tables: []Table{able, weak}}
	keys := func(values ...Value) *Keys {
		r := record(t, arrow.NewSchema([]arrow.Field{{Name: "id", Type: values[0].Type}}, nil), values)
		t.Cleanup(r.Release)
		return &Keys{Columns: []string{"id"}, Values: r}
	}
	for _, c := range []struct {
		name string
		q    Query
		kind Kind
		want []string // each in the error; none: no error
	}{
		{name: "everything", q: Query{Table: "people", Columns: []string{"name"}, Limit: 5, After: Cursor{}, Part: Part{},
			Where:   And{Comparison{"id", OpEq, Int(1)}, Or{Like{"name", "a%"}, Comparison{"colour", OpEq, Text("red")}}, IsNull{"tags", false}},
			OrderBy: []Sort{{Column: "id"}}, Keys: keys(Int(1), Int(2))}},
		{name: "a null literal", q: Query{Table: "people", Where: Comparison{"id", OpEq, Null(nil)}}},
		{name: "no table", q: Query{Table: "poeple"}, kind: NotFound, want: []string{`no such table; the nearest is "people"`}},
		{name: "no column", q: Query{Table: "people", Columns: []string{"nme"}, Where: IsNull{"xxxxx", false}}, kind: NotFound,
			want: []string{`columns: there is no column "nme"; the nearest is "name"`, `where: there is no column "xxxxx"; there are id, name`}},
		{name: "a column that may not be read", q: Query{Table: "people", OrderBy: []Sort{{Column: "secret"}}}, kind: Denied,
			want: []string{`order: column "secret" may not be read: no privilege`}},
		{name: "twice", q: Query{Table: "people", Columns: []string{"id", "id"}}, kind: Invalid, want: []string{`"id" is there twice`}},
		{name: "not taken", q: Query{Table: "people", Where: Comparison{"id", OpLt, Int(1)}}, kind: Invalid, want: []string{"does not accept id < 1"}},
		{name: "another type", q: Query{Table: "people", Where: In{"id", []Value{Int(1), Text("x")}}}, kind: Invalid, want: []string{`literal "x"`, "utf8", "int64"}},
		{name: "not converted", q: Query{Table: "people", Where: Comparison{"id", OpEq, Float(1)}}, kind: Invalid, want: []string{"literal 1", "float64"}},
		{name: "no comparison", q: Query{Table: "people", Where: Comparison{"name", OpLike, Text("x")}}, kind: Invalid, want: []string{"like is not a comparison"}},
		{name: "not text", q: Query{Table: "people", Where: HasPrefix{"id", "x"}}, kind: Invalid, want: []string{"wants text"}},
		{name: "no order", q: Query{Table: "people", OrderBy: []Sort{{Column: "tags"}}}, kind: Invalid, want: []string{`"tags"`, "cannot be compared"}},
		{name: "negative", q: Query{Table: "people", Limit: -1}, kind: Invalid, want: []string{"-1 is negative"}},
		{name: "no lookup", q: Query{Table: "people", Keys: &Keys{Columns: []string{"name"}}}, kind: Invalid, want: []string{`no lookup by ["name"]`}},
		{name: "no keys", q: Query{Table: "people", Keys: &Keys{Columns: []string{"id"}}}, kind: Invalid, want: []string{"a column for each"}},
		{name: "many keys", q: Query{Table: "people", Keys: keys(Int(1), Int(2), Int(3))}, kind: Invalid, want: []string{"3 keys, but the table accepts at most 2"}},
		{name: "keys of another type", q: Query{Table: "people", Keys: keys(Text("1"))}, kind: Invalid, want: []string{`for "id" have type utf8`}},
		{name: "per key", q: Query{Table: "people", Keys: &Keys{Columns: []string{"id"}, Values: keys(Int(1)).Values, LimitPerKey: -1}}, kind: Invalid, want: []string{"rows for each key must not be negative (got -1)"}},
		{name: "a table that takes nothing", q: Query{Table: "log", Columns: []string{}, OrderBy: []Sort{{Column: "id"}}, Limit: 1, After: Cursor{}, Part: Part{}}, kind: Invalid,
			want: []string{"columns: the table", "order: the table", "limit: the table", "cursor: the table", "partition: the table"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, err := catalog.Check(&c.q)
			if len(c.want) == 0 {
				if err != nil || table != catalog.Table(c.q.Table) {
					t.Fatalf("%v, %v", table, err)
				}
				return
			}
			if err == nil || table != nil {
				t.Fatal("it is taken")
			}
			if KindOf(err) != c.kind {
				t.Errorf("the kind is %s, want %s", KindOf(err), c.kind)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
	names := func(s *arrow.Schema) (names []string) {
		for _, f := range s.Fields() {
			names = append(names, f.Name)
		}
		return names
	}
	if got := names(able.ScanSchema([]string{"name", "id"})); !slices.Equal(got, []string{"name", "id"}) {
		t.Errorf("the scan's columns are %q", got)
	}
	if able.ScanSchema(nil) != schema || able.ScanSchema([]string{}).NumFields() != 0 {
		t.Error("nil is all columns, an empty list none")
	}
}
