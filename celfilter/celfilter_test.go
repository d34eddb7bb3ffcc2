package celfilter

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
)

func whereTable() *sources.Table {
	return &sources.Table{
		Name: "orders", Denied: map[string]string{"secret": "no privilege"},
		Schema: arrow.NewSchema([]arrow.Field{
			{Name: "id", Type: arrow.PrimitiveTypes.Int64},
			{Name: "small", Type: arrow.PrimitiveTypes.Int8},
			{Name: "count", Type: arrow.PrimitiveTypes.Uint16},
			{Name: "price", Type: &arrow.Decimal128Type{Precision: 6, Scale: 2}},
			{Name: "weight", Type: arrow.PrimitiveTypes.Float64},
			{Name: "name", Type: arrow.BinaryTypes.String},
			{Name: "kind", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}},
			{Name: "active", Type: arrow.FixedWidthTypes.Boolean},
			{Name: "raw", Type: arrow.BinaryTypes.Binary},
			{Name: "day", Type: arrow.FixedWidthTypes.Date32},
			{Name: "clock", Type: arrow.FixedWidthTypes.Time64us},
			{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_s},
			{Name: "local", Type: &arrow.TimestampType{Unit: arrow.Microsecond}},
			{Name: "took", Type: arrow.FixedWidthTypes.Duration_ms},
			{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String)},
			{Name: "uid", Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}, Metadata: arrow.MetadataFrom(map[string]string{sources.MetaExtension: sources.ExtensionUUID})},
			{Name: "hash", Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}},
			{Name: "doc", Type: arrow.BinaryTypes.String, Metadata: arrow.MetadataFrom(map[string]string{sources.MetaExtension: sources.ExtensionJSON})},
			{Name: "ship via", Type: arrow.BinaryTypes.String},
			{Name: "in", Type: arrow.PrimitiveTypes.Int32},
			{Name: "total", Type: arrow.BinaryTypes.String, Metadata: arrow.MetadataFrom(sources.Meaning{Equality: sources.ByNumber, Order: sources.ByNumber}.Metadata())},
			{Name: "nick", Type: arrow.BinaryTypes.String, Metadata: arrow.MetadataFrom(sources.Meaning{Equality: sources.BySource, Order: sources.BySource}.Metadata())},
		}, nil),
	}
}

func TestWhereBecomesPredicates(t *testing.T) {
	for _, test := range []struct{ where, want string }{
		{`id == 5`, `id = 5`},
		{`total > 500`, `total > 500`},
		{`500.50 <= total`, `total >= 500.5`},
		{`total == 1.50`, `total = 1.5`},
		{`total == "1.50"`, `total = 1.5`},
		{`total != -0.0`, `total <> 0`},
		{`total < decimal("-12345678901234567890.123456789012345678901234567890")`, `total < -12345678901234567890.12345678901234567890123456789`},
		{`total < 1e-30`, `total < 0.000000000000000000000000000001`},
		{`total == "NaN" || total == "-Infinity"`, `(total = NaN or total = -Infinity)`},
		{`total in [1, 2.50, "3.0", null]`, `total in (1, 2.5, 3, NULL)`},
		{`total == null`, `total is null`},
		{`total.startsWith("1.") || like(total, "%.50")`, `(total has prefix "1." or total like "%.50")`},
		{`nick == "Mark" && nick < "x"`, `(nick = "Mark" and nick < "x")`},
		{`5 < id`, `id > 5`},
		{`5 >= id`, `id <= 5`},
		{`id != -5`, `id <> -5`},
		{`id > - 5`, `id > -5`},
		{`count < 7u`, `count < 7`},
		{`price == 1.10`, `price = 1.10`},
		{`price > decimal("-0.05")`, `price > -0.05`},
		{`price >= 3`, `price >= 3.00`},
		{`price == 1.101`, `(price < 1.10 and price > 1.10)`},
		{`price < -1.101`, `price <= -1.11`},
		{`id > 1.5`, `id > 1`},
		{`id >= 1.5`, `id > 1`},
		{`id < 1.5`, `id <= 1`},
		{`id <= -1.5`, `id <= -2`},
		{`id == 1.0`, `id = 1`},
		{`id != 1.5`, `(id <= 1 or id > 1)`},
		{`small < 1000`, `(small <= 127 or small > 127)`},
		{`small > 1000`, `(small < 127 and small > 127)`},
		{`count > -1`, `(count <= 0 or count > 0)`},
		{`weight < 1.1`, `weight < 1.1`},
		{`weight == 2`, `weight = 2`},
		{`name == "a" && id > 1 && id < 9`, `(name = "a" and id > 1 and id < 9)`},
		{`name == "a" || !(id > 1)`, `(name = "a" or not (id > 1))`},
		{`kind == "x"`, `kind = "x"`},
		{`active`, `active = true`},
		{`!active`, `not (active = true)`},
		{`active == false`, `active = false`},
		{`true`, `true`},
		{`name == null`, `name is null`},
		{`null != tags`, `tags is not null`},
		{`row["ship via"] == "rail"`, `ship via = "rail"`},
		{`row["in"] in [1, 2]`, `in in (1, 2)`},
		{`id in [1, 2.5, 3.0, null]`, `id in (1, 3, NULL)`},
		{`id in [2.5]`, `(id < 0 and id > 0)`},
		{`id in []`, `id in ()`},
		{`name.startsWith("ab")`, `name has prefix "ab"`},
		{`like(name, "a%")`, `name like "a%"`},
		{`raw == b"\x01\xff"`, `raw = 0x01ff`},
		{`day >= date("2024-01-31")`, `day >= 2024-01-31`},
		{`at < timestamp("2024-01-31T01:00:00.5+01:00")`, `at <= 2024-01-31T00:00:00Z`},
		{`local == timestamp("2024-01-31 10:00:00")`, `local = 2024-01-31T10:00:00Z`},
		{`clock < time("00:00:01")`, `clock < 1000000`},
		{`took > duration("1s")`, `took > 1000`},
		{`uid == "00000000-0000-0000-0000-0000000000ff"`, `uid = 00000000-0000-0000-0000-0000000000ff`},
		{`"0B5F0000-0000-0000-0000-0000000000FF" > uid`, `uid < 0b5f0000-0000-0000-0000-0000000000ff`},
		{`uid != "0b5f00000000000000000000000000ff"`, `uid <> 0b5f0000-0000-0000-0000-0000000000ff`},
		{`!(uid in ["00000000-0000-0000-0000-000000000001", "00000000000000000000000000000002", null])`, `not (uid in (00000000-0000-0000-0000-000000000001, 00000000-0000-0000-0000-000000000002, NULL))`},
		{`uid == b"0123456789abcdef"`, `uid = 30313233-3435-3637-3839-616263646566`},
		{`uid != null`, `uid is not null`},
		{`hash == b"0123456789abcdef"`, `hash = 0x30313233343536373839616263646566`},
		{`doc == "{}" || doc.startsWith("[")`, `(doc = "{}" or doc has prefix "[")`},
	} {
		p, err := Parse(whereTable(), test.where)
		if err != nil {
			t.Errorf("%s: %v", test.where, err)
			continue
		}
		if diff := cmp.Diff(test.want, sources.DescribePredicate(p, whereTable().Schema)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.where, diff)
		}
	}
}

// A table whose catalog has not been normalized has the same conditions.
func TestWhereKnowsExtensionTypes(t *testing.T) {
	table := &sources.Table{Name: "t", Schema: arrow.NewSchema([]arrow.Field{{Name: "uid", Type: extensions.NewUUIDType()}}, nil)}
	p, err := Parse(table, `uid == "30313233-3435-3637-3839-616263646566"`)
	if err != nil {
		t.Fatal(err)
	}
	want := sources.Comparison{Column: "uid", Value: sources.Value{Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}, V: "0123456789abcdef"}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func isFault(err error) bool {
	var fault *Error
	return errors.As(err, &fault)
}

// The literal of every leaf must have its column's type, as Query.Where says.
func checkLiterals(table *sources.Table, p sources.Predicate) error {
	all := *table
	all.Capabilities = sources.CapLogic
	all.Filters = map[string]sources.Ops{}
	for _, f := range table.Schema.Fields() {
		all.Filters[f.Name] = ^sources.Ops(0)
	}
	catalog := &sources.Catalog{Tables: []sources.Table{all}}
	_, err := catalog.Check(&sources.Query{Table: all.Name, Where: p})
	return err
}

func TestWhereFaultsHaveACaret(t *testing.T) {
	for _, test := range []struct{ where, message, caret string }{
		{`nam == "x"`, `column 1: table "orders" has no column "nam"; the nearest is "name"`, "^"},
		{`row["shipvia"] == "x"`, `has no column "shipvia"; the nearest is "ship via"`, "   ^"},
		{`secret == "x"`, `column 1: table "orders": column "secret" may not be read: no privilege`, "^"},
		{`row["secret"] == "x"`, `table "orders": column "secret" may not be read: no privilege`, "   ^"},
		{`id == "5"`, `== does not work on int and string`, "   ^"},
		{`id == count`, `column "id" is compared with column "count"`, "   ^"},
		{`id + 1 == 2`, `+ is not supported`, "   ^"},
		{`-id == 2`, `one side must be a column`, "    ^"},
		{`name.startWith("x")`, `there is no function "startWith"; the nearest is "startsWith"`, "              ^"},
		{`date("2024-02-30") == day`, `"2024-02-30" is not a date: write it as 2024-01-31`, "    ^"},
		{`id`, `column "id" is not boolean`, "^"},
		{`total == "1,5"`, `column "total" holds numbers, and "1,5" is not a number`, "         ^"},
		{`total in [1, "2", "x"]`, `column "total" holds numbers, and "x" is not a number`, "                  ^"},
		{`total > ""`, `"" is not a number`, "        ^"},
		{`total == true`, `column "total" is number and does not compare with a boolean`, "         ^"},
		{`row["total"] == true`, `column "total" is number and does not compare with a boolean`, "                ^"},
		{`row["total"] < date("2024-01-31")`, `column "total" is number and does not compare with a date`, "                   ^"},
		{`total`, `column "total" is not boolean`, "^"},
		{`1 == 1`, `one side must be a column`, "  ^"},
		{`id ==`, `line 1, column 6: `, "     ^"},
		{`active ? true : false`, `? : is not supported`, "       ^"},
		{`at > timestamp("2024-01-31T00:00:00")`, `add the zone`, "              ^"},
		{`local > timestamp("2024-01-31T00:00:00Z")`, `has no zone`, "                 ^"},
		{`tags == ["a"]`, `does not work on`, "     ^"},
		{`row["tags"] == "a"`, `does not compare with a text`, "               ^"},
		{"active &&\n  nme == \"ü\"", `line 2, column 3: table "orders" has no column "nme"`, "  ^"},
		{`uid == "0b5f"`, `"0b5f" is not a uuid: write it as 00112233-4455-6677-8899-aabbccddeeff`, "       ^"},
		{`uid in ["00000000-0000-0000-0000-000000000001", "x"]`, `"x" is not a uuid`, "                                                ^"},
		{`uid == b"0"`, `column "uid" has values of 16 bytes, but the literal has 1`, "       ^"},
		{`row["uid"] == 5`, `column "uid" is uuid and does not compare with a number`, "              ^"},
		{`like(row["uid"], "0%")`, `like needs a text column, but "uid" is uuid`, "        ^"},
		{`hash == "00000000-0000-0000-0000-000000000001"`, `does not work on`, "     ^"},
		{`name == "日本" && idd == 1`, `has no column "idd"`, "                  ^"},
		{"active &&\n  name == \"\xff\"", `line 2, column 12: the text is not valid UTF-8`, "           ^"},
	} {
		_, err := Parse(whereTable(), test.where)
		if err == nil {
			t.Errorf("%s: no error", test.where)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if !isFault(err) || len(lines) != 3 || !strings.Contains(lines[0], test.message) || lines[2] != "  "+test.caret {
			t.Errorf("%s: want %q and caret %q, got:\n%s", test.where, test.message, test.caret, err)
		}
	}
}

// Whatever the literal, the predicate answers as exact arithmetic does.
func TestWhereComparesExactly(t *testing.T) {
	literals := []string{"-1000.0", "-2.0", "-1.5", "0.0", "1.0", "1.004", "1.5", "127.0", "128.0", "99999.0"}
	values := []int64{-128, -2, -1, 0, 1, 2, 127}
	for _, literal := range literals {
		exact, _ := parseDecimal(literal)
		for op, holds := range map[string]func(int) bool{
			"==": func(c int) bool { return c == 0 }, "!=": func(c int) bool { return c != 0 },
			"<": func(c int) bool { return c < 0 }, "<=": func(c int) bool { return c <= 0 },
			">": func(c int) bool { return c > 0 }, ">=": func(c int) bool { return c >= 0 },
		} {
			p, err := Parse(whereTable(), fmt.Sprintf("small %s %s", op, literal))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range values {
				want := sources.False
				n, _ := parseDecimal(fmt.Sprint(v))
				if holds(n.Cmp(exact)) {
					want = sources.True
				}
				at := func(string) sources.Value { return sources.Value{Type: arrow.PrimitiveTypes.Int8, V: v} }
				if got := sources.Eval(p, at); got != want {
					t.Errorf("%d %s %s is %v, want %v", v, op, literal, got, want)
				}
			}
			null := func(string) sources.Value { return sources.Null(arrow.PrimitiveTypes.Int8) }
			if got := sources.Eval(p, null); got != sources.Unknown {
				t.Errorf("NULL %s %s is %v, want unknown", op, literal, got)
			}
		}
	}
}

func FuzzWhere(f *testing.F) {
	for _, seed := range []string{
		`id == 5 && price > 1.10 || !active`, `name.startsWith("a") && like(name, "%")`, `day in [date("2024-01-31")]`,
		`row["ship via"] == null`, `at > timestamp("2024-01-31T00:00:00Z")`, `weight < 1e308`, `id == -9223372036854775808`,
		`price == 1e-400`, "a ?\n b", `uid == "x"`, `raw == b"\xff"`, `total > 1e-7 && total in ["2.50", null]`, `id in [1, null, 2.5]`, `- -1.5 < id`,
	} {
		f.Add(seed)
	}
	table := whereTable()
	f.Fuzz(func(t *testing.T, expression string) {
		p, err := Parse(table, expression)
		if err != nil {
			if !isFault(err) {
				t.Fatalf("%q: not an *Error: %v", expression, err)
			}
			return
		}
		if err := checkLiterals(table, p); err != nil {
			t.Fatalf("%q became %s, which the contract refuses: %v", expression, p, err)
		}
	})
}
