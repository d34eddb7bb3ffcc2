package wire_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// exact compares decoded values: types and records by their own rules, and floats so
// that NaN equals NaN and -0 does not equal 0.
var exact = cmp.Options{
	cmp.Comparer(func(a, b *arrow.Schema) bool {
		return a == b || a != nil && b != nil && a.Equal(b) && a.Metadata().Equal(b.Metadata())
	}),
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Type" }, cmp.Comparer(func(a, b arrow.DataType) bool {
		return a == nil && b == nil || a != nil && b != nil && arrow.TypeEqual(a, b, arrow.CheckMetadata())
	})),
	cmp.Comparer(func(a, b arrow.RecordBatch) bool {
		return a == nil && b == nil || a != nil && b != nil && array.RecordEqual(a, b)
	}),
	cmp.Comparer(func(a, b float64) bool {
		return math.IsNaN(a) && math.IsNaN(b) || math.Float64bits(a) == math.Float64bits(b)
	}),
	cmp.Comparer(func(a, b decimal128.Num) bool { return a == b }),
	cmp.Comparer(func(a, b decimal256.Num) bool { return a == b }),
	cmp.Comparer(func(a, b *sources.Error) bool {
		return a == nil && b == nil || a != nil && b != nil && a.Error() == b.Error() && a.Kind == b.Kind && a.Op == b.Op && a.Table == b.Table
	}),
}

func bigNum(t testing.TB, s string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		t.Fatal(s)
	}
	return n
}

func everyValue(t testing.TB) []sources.Value {
	return []sources.Value{
		{},
		sources.Null(arrow.PrimitiveTypes.Int64),
		sources.Bool(true), sources.Bool(false),
		{Type: arrow.PrimitiveTypes.Int8, V: int64(-128)},
		{Type: arrow.PrimitiveTypes.Int16, V: int64(-32768)},
		{Type: arrow.PrimitiveTypes.Int32, V: int64(math.MinInt32)},
		sources.Int(math.MinInt64), sources.Int(math.MaxInt64), sources.Int(1<<53 + 1),
		{Type: arrow.PrimitiveTypes.Uint8, V: uint64(255)},
		sources.Uint(math.MaxUint64),
		sources.Float(math.NaN()), sources.Float(math.Inf(1)), sources.Float(math.Inf(-1)),
		sources.Float(math.Copysign(0, -1)), sources.Float(math.SmallestNonzeroFloat64), sources.Float(math.MaxFloat64), sources.Float(0.1),
		{Type: arrow.PrimitiveTypes.Float32, V: float64(float32(0.1))},
		{Type: arrow.FixedWidthTypes.Float16, V: 0.5},
		sources.Decimal(decimal128.FromBigInt(bigNum(t, "-99999999999999999999999999999999999999")), 10),
		{Type: &arrow.Decimal32Type{Precision: 9, Scale: 2}, V: decimal128.FromI64(-123456789)},
		{Type: &arrow.Decimal256Type{Precision: 76, Scale: -3}, V: decimal256.FromBigInt(bigNum(t, strings.Repeat("9", 76)))},
		sources.Text(""), sources.Text("a\"b\\c\n\u2028<é>\x00"), sources.Text("\xff\xfe not UTF-8"),
		{Type: arrow.BinaryTypes.LargeString, V: "large"},
		sources.Bytes(nil), sources.Bytes([]byte{0, 255, '"'}),
		{Type: &arrow.FixedSizeBinaryType{ByteWidth: 2}, V: "\x00\xff"},
		{Type: arrow.FixedWidthTypes.Date32, V: int64(-719162)},
		{Type: arrow.FixedWidthTypes.Date64, V: int64(86400000)},
		{Type: arrow.FixedWidthTypes.Time32ms, V: int64(1)},
		{Type: arrow.FixedWidthTypes.Time64ns, V: int64(86399999999999)},
		{Type: &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "Europe/Paris"}, V: int64(math.MinInt64)},
		{Type: &arrow.TimestampType{Unit: arrow.Second}, V: int64(5)},
		{Type: &arrow.TimestampType{Unit: arrow.Second, TimeZone: "odd]zone"}, V: int64(5)},
		{Type: arrow.FixedWidthTypes.Duration_ms, V: int64(-1)},
		{Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}, V: "0123456789abcdef"},
		{Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, V: "entry"},
		{Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), V: "[1,2]"},
		sources.Null(arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true})),
	}
}

func keys(mem memory.Allocator) arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "code", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).AppendValues([]int64{1, math.MaxInt64, -1}, nil)
	d := b.Field(1).(*array.BinaryDictionaryBuilder)
	for _, s := range []string{"a", "b", "a"} {
		if err := d.AppendString(s); err != nil {
			panic(err)
		}
	}
	return b.NewRecordBatch()
}

func queries(t testing.TB, mem memory.Allocator) []*sources.Query {
	values := everyValue(t)
	comparisons := sources.And{}
	for i, v := range values {
		comparisons = append(comparisons, sources.Comparison{Column: fmt.Sprintf("c%d", i), Op: sources.Op(i % 6), Value: v})
	}
	return []*sources.Query{
		{Table: "plain"},
		{Table: "", Columns: []string{}},
		{Table: "odd \xff name", Columns: []string{"a", "\xfe", ""}, After: sources.Cursor{}, Part: sources.Part{}},
		{
			Table: "full", Columns: []string{"a", "b"}, Limit: math.MaxInt64, After: sources.Cursor("\x00\xff"), Part: sources.Part("p"),
			OrderBy: []sources.Sort{{Column: "a", Desc: true}, {Column: "b", NullsFirst: true}},
			Keys:    &sources.Keys{Columns: []string{"id", "code"}, Values: keys(mem), LimitPerKey: 7},
			Where: sources.And{
				comparisons,
				sources.Or{sources.In{Column: "v", Values: values}, sources.In{Column: "none", Values: []sources.Value{}}, sources.Or{}, sources.And{}},
				sources.Not{Predicate: sources.IsNull{Column: "n", Not: true}},
				sources.IsNull{Column: "n"},
				sources.HasPrefix{Column: "s", Prefix: "\xff<"},
				sources.Like{Column: "s", Pattern: ""},
			},
		},
	}
}

func TestQueryRoundTrip(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	for _, q := range queries(t, mem) {
		for _, op := range []wire.Op{wire.OpPlan, wire.OpScan} {
			b, err := wire.MarshalRequest(wire.Request{Op: op, Session: math.MaxUint64, Query: q})
			if err != nil {
				t.Fatal(err)
			}
			got, err := wire.UnmarshalRequest(b, mem)
			if err != nil {
				t.Fatalf("%v\n%s", err, b)
			}
			if diff := cmp.Diff(wire.Request{Op: op, Session: math.MaxUint64, Query: q}, got, exact); diff != "" {
				t.Errorf("query %q changed (-sent +received):\n%s", q.Table, diff)
			}
			got.Release()
		}
		if q.Keys != nil {
			q.Keys.Values.Release()
		}
	}
}

func TestNilAndEmptyColumnsStayApart(t *testing.T) {
	for _, columns := range [][]string{nil, {}} {
		b, err := wire.MarshalRequest(wire.Request{Op: wire.OpScan, Query: &sources.Query{Table: "t", Columns: columns}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.UnmarshalRequest(b, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		if (got.Query.Columns == nil) != (columns == nil) {
			t.Errorf("columns %#v became %#v", columns, got.Query.Columns)
		}
	}
}

func TestConfigAndEnvRoundTrip(t *testing.T) {
	sent := []wire.Request{
		{Op: wire.OpOpen, Version: wire.Version, Config: &sources.Config{URI: "dir\xff", Options: map[string]string{"a": "<&>", "b": "\xff", "": ""}}},
		{Op: wire.OpOpen, Version: 99, Config: &sources.Config{}},
		{Op: wire.OpBegin, Env: &sources.Env{Page: sources.Limits{Bytes: 1, Rows: math.MaxInt64}, Snapshot: "snap\x00", Scratch: "/tmp/\xff", MaxScans: 5, Stream: "orders-1", FlushAfter: 250 * time.Millisecond}},
		{Op: wire.OpBegin, Env: &sources.Env{}},
		{Op: wire.OpBegin, Env: &sources.Env{FlushAfter: -time.Millisecond}},
		{Op: wire.OpCatalog}, {Op: wire.OpCatalog, Tables: []string{}}, {Op: wire.OpCatalog, Tables: []string{"a", "b\xff"}}, {Op: wire.OpEnd, Session: 3}, {Op: wire.OpClose},
	}
	for _, r := range sent {
		b, err := wire.MarshalRequest(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.UnmarshalRequest(b, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got, exact, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	}
}

func catalog() *sources.Catalog {
	meta := arrow.NewMetadata([]string{"k"}, []string{"v"})
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64, Metadata: arrow.NewMetadata([]string{sources.MetaComment, sources.MetaType}, []string{"the key", "bigserial"})},
		{Name: "uuid", Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}, Nullable: true, Metadata: arrow.NewMetadata([]string{sources.MetaExtension}, []string{sources.ExtensionUUID})},
		{Name: "price", Type: &arrow.Decimal128Type{Precision: 20, Scale: 4}, Nullable: true},
		{Name: "kind", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}, Nullable: true},
		{Name: "tags", Type: arrow.ListOf(arrow.StructOf(arrow.Field{Name: "n", Type: arrow.FixedWidthTypes.Timestamp_us}))},
	}, &meta)
	other := arrow.NewSchema([]arrow.Field{{Name: "near", Type: arrow.PrimitiveTypes.Int64}, {Name: "far", Type: arrow.PrimitiveTypes.Int64}}, nil)
	return &sources.Catalog{Unreadable: []sources.TableError{{Table: "broken", Kind: sources.Invalid, Reason: "a link leads nowhere"}}, Tables: []sources.Table{
		{
			Name: "a", Schema: schema, Key: []string{"id"}, Unique: [][]string{{"uuid"}, {"price", "kind"}},
			Relations: []sources.Relation{
				{Name: "a", Kind: sources.BelongsTo, Columns: []string{"id"}, TargetTable: "a", TargetColumns: []string{"id"}},
				{Name: "j", Kind: sources.HasMany, Columns: []string{"id"}, TargetTable: "j", TargetColumns: []string{"near"}, Aliases: []string{"js", "\xff"}, Unusable: "near has another type"},
				{Name: "one", Kind: sources.HasOne, Columns: []string{"id"}, TargetTable: "j", TargetColumns: []string{"far"}},
				{Name: "far", Kind: sources.ManyToMany, Columns: []string{"id"}, TargetTable: "a", TargetColumns: []string{"id"}, Through: &sources.Through{Table: "j", Near: []string{"near"}, Far: []string{"far"}}},
			},
			Capabilities: sources.CapProject | sources.CapSort | sources.CapLimit | sources.CapResume | sources.CapStable | sources.CapPartition | sources.CapSnapshot | sources.CapLogic,
			Filters:      map[string]sources.Ops{"id": sources.OpsOf(sources.OpEq, sources.OpNe, sources.OpLt, sources.OpLe, sources.OpGt, sources.OpGe, sources.OpIn), "kind": sources.OpsOf(sources.OpIsNull, sources.OpNotNull, sources.OpPrefix, sources.OpLike), "price": 0},
			Lookups:      []sources.Lookup{{Columns: []string{"id"}, MaxKeys: 500}, {Columns: []string{"uuid", "price"}, Ordinals: true}},
			MaxScans:     3, Rows: math.MaxInt64, Comment: "all of it",
			Denied: map[string]string{"secret": "no privilege"},
		},
		{Name: "j", Schema: other, Rows: -1, Key: []string{"near", "far"}},
		{Name: "odd \xff", Schema: arrow.NewSchema(nil, nil), Rows: 0},
		{Name: "later", Schema: arrow.NewSchema(nil, nil), Rows: -1, Pending: true},
	}, Identity: "role 7 \xff"}
}

func TestCatalogRoundTrip(t *testing.T) {
	want := catalog()
	b, err := wire.MarshalReply(wire.Reply{Catalog: want})
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.UnmarshalReply(wire.OpCatalog, b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.Catalog, exact); diff != "" {
		t.Errorf("catalog changed (-sent +received):\n%s", diff)
	}
	for i, f := range want.Tables[0].Schema.Fields() {
		if !got.Catalog.Tables[0].Schema.Field(i).Equal(f) {
			t.Errorf("field %s became %s", f, got.Catalog.Tables[0].Schema.Field(i))
		}
	}
}

func TestColumnsInsteadOfASchema(t *testing.T) {
	b := []byte(`{"catalog":{"tables":[{"name":"t","later":true,"can":["project","fly"],"filters":{"id":["=","sounds like"]},
		"columns":[{"name":"id","type":"int64","required":true,"comment":"c"},{"name":"at","type":"timestamp[ms, UTC]"},{"name":"d","type":"decimal128[10,2]"}]}]}}`)
	got, err := wire.UnmarshalReply(wire.OpCatalog, b)
	if err != nil {
		t.Fatal(err)
	}
	want := &sources.Catalog{Tables: []sources.Table{{
		Name: "t", Rows: -1, Capabilities: sources.CapProject, Filters: map[string]sources.Ops{"id": sources.OpsOf(sources.OpEq)},
		Schema: arrow.NewSchema([]arrow.Field{
			{Name: "id", Type: arrow.PrimitiveTypes.Int64, Metadata: arrow.NewMetadata([]string{sources.MetaComment}, []string{"c"})},
			{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}, Nullable: true},
			{Name: "d", Type: &arrow.Decimal128Type{Precision: 10, Scale: 2}, Nullable: true},
		}, nil),
	}}}
	if diff := cmp.Diff(want, got.Catalog, exact); diff != "" {
		t.Error(diff)
	}
}

func TestCatalogMustAgreeWithItself(t *testing.T) {
	for name, change := range map[string]func(*sources.Catalog){
		"key":            func(c *sources.Catalog) { c.Tables[0].Key = []string{"nope"} },
		"unique":         func(c *sources.Catalog) { c.Tables[0].Unique = [][]string{{"nope"}} },
		"lookup":         func(c *sources.Catalog) { c.Tables[0].Lookups = []sources.Lookup{{Columns: []string{"nope"}}} },
		"filter":         func(c *sources.Catalog) { c.Tables[0].Filters = map[string]sources.Ops{"nope": 1} },
		"relation":       func(c *sources.Catalog) { c.Tables[0].Relations[0].Columns = []string{"nope"} },
		"target":         func(c *sources.Catalog) { c.Tables[0].Relations[0].TargetTable = "nope" },
		"target columns": func(c *sources.Catalog) { c.Tables[0].Relations[0].TargetColumns = []string{"id", "uuid"} },
		"through":        func(c *sources.Catalog) { c.Tables[0].Relations[3].Through.Near = nil },
		"no through":     func(c *sources.Catalog) { c.Tables[0].Relations[3].Through = nil },
		"same relation":  func(c *sources.Catalog) { c.Tables[0].Relations[1].Name = c.Tables[0].Relations[0].Name },
		"twice":          func(c *sources.Catalog) { c.Tables[1].Name = "a" },
		"scans":          func(c *sources.Catalog) { c.Tables[1].MaxScans = -1 },
	} {
		c := catalog()
		change(c)
		b, err := wire.MarshalReply(wire.Reply{Catalog: c})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wire.UnmarshalReply(wire.OpCatalog, b); sources.KindOf(err) != sources.Invalid {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}

// TestUnusableRelations checks that a relation that says why it is unusable may name what
// does not exist.
func TestUnusableRelations(t *testing.T) {
	want := catalog()
	want.Tables[0].Relations[0].TargetTable, want.Tables[0].Relations[0].Unusable = "nope", "there is no table nope"
	b, err := wire.MarshalReply(wire.Reply{Catalog: want})
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.UnmarshalReply(wire.OpCatalog, b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Tables[0].Relations, got.Catalog.Tables[0].Relations); diff != "" {
		t.Error(diff)
	}
}

func TestPlanRoundTrip(t *testing.T) {
	for _, want := range []*sources.Plan{
		{Rows: -1, Bytes: -1},
		{Rows: 0, Bytes: 1 << 60, Version: "v\xff", State: "s\x00", Parts: []sources.Part{{}, []byte("\xff\x00")}, Snapshot: "0-1", Detail: "select 1"},
		{Parts: []sources.Part{}},
	} {
		b, err := wire.MarshalReply(wire.Reply{Plan: want})
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.UnmarshalReply(wire.OpPlan, b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Plan); diff != "" {
			t.Error(diff)
		}
	}
}

func TestErrorsKeepKindAndWords(t *testing.T) {
	for _, sent := range []error{
		sources.Errorf(sources.Exhausted, "scan", "t", "while reading: %w", errors.New("no room\nat all")),
		&sources.Error{Kind: sources.Denied},
		sources.Errorf(sources.Unavailable, "open", "", "bad \xff byte"),
	} {
		b, err := wire.MarshalReply(wire.Reply{Err: sent})
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.UnmarshalReply(wire.OpCatalog, b)
		if err != nil {
			t.Fatal(err)
		}
		again, ok := wire.UnmarshalError(wire.MarshalError(sent))
		if !ok {
			t.Fatalf("%v did not come back", sent)
		}
		for _, e := range []error{got.Err, again} {
			if diff := cmp.Diff(sent, e, exact); diff != "" {
				t.Error(diff)
			}
		}
	}
	wrapped := fmt.Errorf("opening: %w", fs.ErrNotExist)
	if e, _ := wire.UnmarshalError(wire.MarshalError(wrapped)); e.Kind != sources.NotFound || e.Err.Error() != wrapped.Error() {
		t.Errorf("%v became %v", wrapped, e)
	}
	if e, ok := wire.UnmarshalError([]byte(`{"kind":"from the future","message":"x"}`)); !ok || e.Kind != sources.Internal {
		t.Errorf("a newer peer's kind became %v", e)
	}
	if got := wire.MarshalError(errors.New(strings.Repeat("é", 1<<20))); len(got) > 70<<10 {
		t.Errorf("an error of %d bytes was sent", len(got))
	}
	if e, ok := wire.UnmarshalError([]byte(`not an error`)); ok {
		t.Errorf("%v came of nothing", e)
	}
}

func TestMetaRoundTrip(t *testing.T) {
	for _, want := range []wire.Meta{
		{Page: &wire.Page{}},
		{Page: &wire.Page{Rows: 5, Cursor: sources.Cursor{}, Due: true}},
		{Page: &wire.Page{Rows: 1, Skipped: sources.Skipped{Records: 3, Locations: []string{"t.csv:1:2: \xff", "b"}}}},
		{Page: &wire.Page{Rows: math.MaxInt64, Cursor: sources.Cursor("\x00\xff")}},
		{Trailer: &wire.Trailer{Rows: 1, Batches: 2, Sum: "fletcher64:00"}},
		{Trailer: &wire.Trailer{Err: sources.Errorf(sources.Unavailable, "scan", "", "gone")}},
	} {
		got, err := wire.UnmarshalMeta(wire.MarshalMeta(want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, exact); diff != "" {
			t.Errorf("%s changed:\n%s", want, diff)
		}
	}
	for _, bad := range []string{
		`{}`, `{"page":{"rows":-1}}`, `{"page":{"rows":1},"trailer":{"rows":1,"batches":1,"complete":true}}`,
		`{"page":{"rows":1,"skipped":{"records":-1}}}`, `{"page":{"rows":1,"skipped":{"records":1,"first":["a","b"]}}}`,
		`{"trailer":{"rows":1,"batches":1}}`, `{"trailer":{"rows":1,"batches":1,"complete":true,"error":{"kind":"internal"}}}`,
		`{"trailer":{"rows":1,"batches":-1,"complete":true}}`, `{"page":{"rows":1}} ` + "\x00", `[]`, ``,
	} {
		if m, err := wire.UnmarshalMeta([]byte(bad)); sources.KindOf(err) != sources.Invalid {
			t.Errorf("%q was taken as a %s (%v)", bad, m, err)
		}
	}
}

func TestPredicateDepthIsLimited(t *testing.T) {
	nest := func(n int) sources.Predicate {
		var p sources.Predicate = sources.IsNull{Column: "a"}
		for range n {
			p = sources.And{p}
		}
		return p
	}
	request := func(p sources.Predicate) error {
		b, err := wire.MarshalRequest(wire.Request{Op: wire.OpScan, Query: &sources.Query{Table: "t", Where: p}})
		if err == nil {
			_, err = wire.UnmarshalRequest(b, memory.DefaultAllocator)
		}
		return err
	}
	if err := request(nest(99)); err != nil {
		t.Errorf("100 levels: %v", err)
	}
	if err := request(nest(100)); sources.KindOf(err) != sources.Invalid {
		t.Errorf("101 levels: %v", err)
	}
	deep := `{"op":"scan","query":{"table":"t","where":` + strings.Repeat(`{"op":"and","of":[`, 200000) + `]`
	if _, err := wire.UnmarshalRequest([]byte(deep), memory.DefaultAllocator); sources.KindOf(err) != sources.Invalid {
		t.Errorf("a message of 200000 levels: %v", err)
	}
}

func TestRefused(t *testing.T) {
	for name, b := range map[string]string{
		"empty":            ``,
		"garbage behind":   `{"op":"catalog"} {`,
		"unknown op":       `{"op":"destroy"}`,
		"scan of nothing":  `{"op":"scan"}`,
		"open of nothing":  `{"op":"open"}`,
		"not UTF-8":        "{\"op\":\"scan\",\"query\":{\"table\":\"\xff\"}}",
		"int8 too large":   `{"op":"scan","query":{"table":"t","where":{"op":"=","column":"a","value":{"type":"int8","value":"128"}}}}`,
		"no type":          `{"op":"scan","query":{"table":"t","where":{"op":"=","column":"a","value":{"value":"128"}}}}`,
		"unknown type":     `{"op":"scan","query":{"table":"t","where":{"op":"=","column":"a","value":{"type":"int9","value":"1"}}}}`,
		"unknown operator": `{"op":"scan","query":{"table":"t","where":{"op":"~","column":"a"}}}`,
		"long decimal":     `{"op":"scan","query":{"table":"t","where":{"op":"=","column":"a","value":{"type":"decimal128[38,2]","value":"1` + strings.Repeat("0", 39) + `"}}}}`,
		"keys not Arrow":   `{"op":"scan","query":{"table":"t","keys":{"columns":["a"],"values":"AAAA"}}}`,
		"not of two":       `{"op":"scan","query":{"table":"t","where":{"op":"not","of":[null,null]}}}`,
	} {
		if _, err := wire.UnmarshalRequest([]byte(b), memory.DefaultAllocator); sources.KindOf(err) != sources.Invalid {
			t.Errorf("%s: %v, want invalid", name, err)
		} else if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "json") {
			t.Errorf("%s: the error reads %q", name, err)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	if err := wire.CheckVersion("x", wire.Version); err != nil {
		t.Error(err)
	}
	for _, v := range []int{wire.Version - 1, wire.Version + 1} {
		err := wire.CheckVersion("csv.wasm", v)
		if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), fmt.Sprint(v)) || !strings.Contains(err.Error(), fmt.Sprint(wire.Version)) || !strings.Contains(err.Error(), "csv.wasm") {
			t.Errorf("version %d: %v", v, err)
		}
	}
}
