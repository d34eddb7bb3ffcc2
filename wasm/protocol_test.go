package wasm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
	"github.com/penstock-data/penstock/wasm"
)

// In these tests the module writes what the test has put into files.

func frame(kind wire.FrameKind, contents string) string {
	var b bytes.Buffer
	if err := wire.NewFrameWriter(&b).Write(kind, []byte(contents)); err != nil {
		panic(err)
	}
	return b.String()
}

func page(rows int) string {
	return frame(wire.FramePage, fmt.Sprintf(`{"page":{"rows":%d}}`, rows))
}

func trailer(rows, batches int) string {
	return frame(wire.FrameTrailer, fmt.Sprintf(`{"trailer":{"rows":%d,"batches":%d,"complete":true}}`, rows, batches))
}

var (
	opened    = frame(wire.FrameReply, `{"version":2}`)
	cataloged = frame(wire.FrameReply, `{"catalog":{"tables":[{"name":"t","columns":[{"name":"n","type":"int64","required":true},{"name":"s","type":"utf8"}]}]}}`)
	begun     = frame(wire.FrameReply, `{}`)
)

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "n", Type: arrow.PrimitiveTypes.Int64},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// arrows returns an Arrow IPC stream of records with that many rows, without its end
// mark; without rows, only the schema.
func arrows(schema *arrow.Schema, rows []int, opts ...ipc.Option) string {
	if len(rows) == 0 {
		b, err := wire.MarshalSchema(schema)
		if err != nil {
			panic(err)
		}
		return string(b)
	}
	var out bytes.Buffer
	w := ipc.NewWriter(&out, append(opts, ipc.WithSchema(schema))...)
	for _, n := range rows {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for i := range n {
			for _, f := range b.Fields() {
				if err := f.AppendValueFromString(fmt.Sprint(i)); err != nil {
					panic(err)
				}
			}
		}
		if err := w.Write(b.NewRecordBatch()); err != nil {
			panic(err)
		}
	}
	return out.String()
}

// script writes the module's replies to a directory, in their order. After a reply
// that ends in a mark the module waits, or computes for ever.
func script(t testing.TB, o wasm.Options, answers ...string) wasm.Options {
	t.Helper()
	dir := t.TempDir()
	for i, a := range answers {
		name := fmt.Sprint(i + 1)
		for _, mark := range []string{wait, spin} {
			if rest, ok := strings.CutSuffix(a, mark); ok {
				a, name = rest, name+mark
			}
		}
		write(t, filepath.Join(dir, name), a)
	}
	o.Dirs = []wasm.Dir{{Host: dir, Guest: "/data"}}
	return o
}

const (
	wait = ".wait"
	spin = ".spin"
)

func replay(t testing.TB, answers ...string) (sources.Source, error) {
	t.Helper()
	o := script(t, options(t, "replay"), answers...)
	o.StallTimeout = 2 * time.Second
	return wasm.Open(t.Context(), o, sources.Config{})
}

func TestGoodScript(t *testing.T) {
	for name, scan := range map[string]string{
		"one frame":       frame(wire.FrameArrow, arrows(schema, []int{3})) + page(3) + trailer(3, 1),
		"schema apart":    frame(wire.FrameArrow, arrows(schema, nil)) + frame(wire.FrameArrow, arrows(schema, []int{3})[len(arrows(schema, nil)):]) + page(3) + trailer(3, 1),
		"an end mark":     frame(wire.FrameArrow, arrows(schema, []int{3})+"\xff\xff\xff\xff\x00\x00\x00\x00") + page(3) + trailer(3, 1),
		"rows":            frame(wire.FrameRows, `[0,"0"]`) + frame(wire.FrameRows, "[1,\"1\"]\r\n\n{\"n\":\"2\",\"s\":\"2\"}") + page(3) + trailer(3, 1),
		"an empty before": frame(wire.FramePage, `{"page":{"rows":0}}`) + frame(wire.FrameRows, "[0,\"0\"]\n[1,\"1\"]\n[2,\"2\"]") + page(3) + trailer(3, 2),
	} {
		s, err := replay(t, opened, cataloged, begun, scan, begun)
		if err != nil {
			t.Fatal(err)
		}
		session := begin(t, s, sources.Limits{})
		rows, _, err := read(t.Context(), session, &sources.Query{Table: "t"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff([]string{`0|"0"`, `1|"1"`, `2|"2"`}, rows); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if err := errors.Join(session.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestLiesInAScan(t *testing.T) {
	good := arrows(schema, []int{3})
	flipped := []byte(good)
	flipped[len(flipped)-1] ^= 0xff
	other := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.PrimitiveTypes.Int32, Nullable: true}}, nil)
	nullable := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	narrow := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	for name, c := range map[string]struct {
		scan string
		kind sources.Kind
		text string
	}{
		"garbage":               {"panic: help\n", sources.Invalid, `no frame begins with "panic: help"`},
		"garbage after a page":  {frame(wire.FrameArrow, good) + page(3) + "\x00\x01", sources.Invalid, "no frame begins with"},
		"a frame of 4 GiB":      {"A\xff\xff\xff\xff", sources.Invalid, "no frame begins with"},
		"a long promise":        {"A\x00\x00\x00\x3f" + good + wait, sources.Unavailable, "did not answer within 2s"},
		"compressed":            {frame(wire.FrameArrow, arrows(schema, []int{1000}, ipc.WithZstd())) + page(1000), sources.Invalid, "compressed"},
		"no Arrow":              {frame(wire.FrameArrow, strings.Repeat("x", 100)) + page(3), sources.Invalid, "no Arrow message"},
		"a record without end":  {frame(wire.FrameArrow, good[:len(good)-8]) + page(3), sources.Invalid, "where"},
		"no record":             {frame(wire.FrameArrow, arrows(schema, nil)) + page(0), sources.Invalid, "without a record"},
		"two records":           {frame(wire.FrameArrow, arrows(schema, []int{3, 3})) + page(6), sources.Invalid, "two records"},
		"two schemas":           {frame(wire.FrameArrow, good) + page(3) + frame(wire.FrameArrow, good) + page(3), sources.Invalid, "second schema"},
		"another type":          {frame(wire.FrameArrow, arrows(other, []int{3})) + page(3), sources.Invalid, "the scan has the column s int32, and the catalog has s utf8"},
		"another nullability":   {frame(wire.FrameArrow, arrows(nullable, []int{3})) + page(3), sources.Invalid, "the catalog has n int64 not null"},
		"fewer columns":         {frame(wire.FrameArrow, arrows(narrow, []int{3})) + page(3), sources.Invalid, "1 columns, and the query has 2"},
		"a page's count":        {frame(wire.FrameArrow, good) + page(4), sources.Invalid, "a page of 3 rows has metadata for 4 rows"},
		"too many rows":         {frame(wire.FrameArrow, arrows(schema, []int{101})) + page(101), sources.Invalid, "exceeds the limit of 100 rows"},
		"a trailer's rows":      {frame(wire.FrameArrow, good) + page(3) + trailer(4, 1), sources.Invalid, "4 rows in 1 pages"},
		"a trailer's pages":     {frame(wire.FrameArrow, good) + page(3) + trailer(3, 2), sources.Invalid, "3 rows in 2 pages"},
		"a checksum":            {frame(wire.FrameArrow, good) + page(3) + frame(wire.FrameTrailer, `{"trailer":{"rows":3,"batches":1,"complete":true,"sum":"fletcher64:00"}}`), sources.Invalid, "checksum"},
		"no trailer":            {frame(wire.FrameArrow, good) + page(3), sources.Unavailable, "did not answer within 2s"},
		"a silent end":          {frame(wire.FrameArrow, good) + page(3) + wait, sources.Unavailable, "did not answer within 2s"},
		"nothing":               {trailer(0, 0), sources.Internal, "without a page"},
		"a reply":               {frame(wire.FrameReply, "{}"), sources.Invalid, "unexpected frame of kind 'R' in a scan"},
		"a trailer in a page":   {frame(wire.FrameArrow, good) + trailer(3, 1), sources.Invalid, "unexpected frame of kind 'T' within a page"},
		"rows after Arrow":      {frame(wire.FrameArrow, good) + frame(wire.FrameRows, "[1,null]") + page(4), sources.Invalid, "unexpected frame of kind 'J' within a page"},
		"a long cursor":         {frame(wire.FrameArrow, good) + frame(wire.FramePage, `{"page":{"rows":3,"cursor":"`+strings.Repeat("A", 2<<20)+`"}}`), sources.Invalid, "at most"},
		"not JSON":              {frame(wire.FrameRows, "hello") + page(1), sources.Invalid, "line 1 of a page: not JSON"},
		"two rows on a line":    {frame(wire.FrameRows, `[1,null] [2,null]`) + page(2), sources.Invalid, "only one row"},
		"an unknown column":     {frame(wire.FrameRows, `{"n":1,"x":2}`) + page(1), sources.Invalid, `no column "x"`},
		"too few values":        {frame(wire.FrameRows, `[1]`) + page(1), sources.Invalid, "1 values for 2 columns"},
		"NULL where none may":   {frame(wire.FrameRows, `[1,null]`+"\n"+`[null,null]`) + page(2), sources.Invalid, "NULL in a column that has none"},
		"a number for text":     {frame(wire.FrameRows, `[1,2]`) + page(1), sources.Invalid, `column "s": 2 does not fit utf8`},
		"a fraction":            {frame(wire.FrameRows, `[1.5,null]`) + page(1), sources.Invalid, `"1.5" does not fit int64`},
		"an integer too large":  {frame(wire.FrameRows, `[9223372036854775808,null]`) + page(1), sources.Invalid, `does not fit int64`},
		"a row's count":         {frame(wire.FrameRows, `[1,null]`) + page(2), sources.Invalid, "a page of 1 rows has metadata for 2 rows"},
		"rows without a page":   {frame(wire.FrameRows, `[1,null]`) + trailer(1, 1), sources.Invalid, "unexpected frame of kind 'T' within a page"},
		"the source's own":      {frame(wire.FrameTrailer, `{"trailer":{"rows":0,"batches":0,"complete":false,"error":{"op":"scan","table":"t","kind":"denied","message":"not you"}}}`), sources.Denied, "scan t: denied: not you"},
		"both ends of an error": {frame(wire.FrameTrailer, `{"trailer":{"rows":0,"batches":0,"complete":true,"error":{"kind":"denied"}}}`), sources.Invalid, "complete, or it has an error"},
	} {
		s, err := replay(t, opened, cataloged, begun, c.scan, begun)
		if err != nil {
			t.Fatal(err)
		}
		session := begin(t, s, sources.Limits{Rows: 100})
		_, _, err = read(t.Context(), session, &sources.Query{Table: "t"})
		if sources.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.text) || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: %v, want %s %q", name, err, c.kind, c.text)
		}
		if err := errors.Join(session.Close(), s.Close()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLiesBeforeAScan(t *testing.T) {
	for name, c := range map[string]struct {
		answers []string
		kind    sources.Kind
		text    string
	}{
		"an older one":   {[]string{frame(wire.FrameReply, `{"version":1}`)}, sources.Invalid, "replay.wasm speaks version 1 of the source protocol, this program version 2"},
		"a newer one":    {[]string{frame(wire.FrameReply, `{"version":3}`)}, sources.Invalid, "use a newer penstock"},
		"its refusal":    {[]string{frame(wire.FrameReply, `{"version":3,"error":{"kind":"invalid","message":"no"}}`)}, sources.Invalid, "use a newer penstock"},
		"garbage":        {[]string{"Hello, World!\n"}, sources.Invalid, "Hello, World!"},
		"a program":      {nil, sources.Invalid, "exited with code 4; is it a Penstock source?"},
		"silence":        {[]string{wait}, sources.Unavailable, "did not answer within 2s"},
		"another frame":  {[]string{trailer(0, 0)}, sources.Invalid, "the reply to open is a frame of kind 'T'"},
		"no catalog":     {[]string{opened, begun}, sources.Invalid, "has no catalog"},
		"a bad catalog":  {[]string{opened, frame(wire.FrameReply, `{"catalog":{"tables":[{"name":"t","columns":[{"name":"n","type":"int7"}]}]}}`)}, sources.Invalid, "int7"},
		"garbage behind": {[]string{frame(wire.FrameReply, `{"version":2}{}`)}, sources.Invalid, "malformed reply"},
		"a half catalog": {[]string{opened, cataloged[:60] + wait}, sources.Unavailable, "did not answer within 2s"},
		"dies in half":   {[]string{opened, cataloged[:60], ""}, sources.Unavailable, "did not answer"},
	} {
		_, err := replay(t, c.answers...)
		if sources.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.text) || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: %v, want %s %q", name, err, c.kind, c.text)
		}
	}
}

func TestDeadlineStopsAnInterruptibleModule(t *testing.T) {
	for name, answers := range map[string][]string{
		"in open": {spin},
		"in scan": {opened, cataloged, begun, frame(wire.FrameArrow, arrows(schema, []int{3})) + page(3) + spin},
	} {
		o := script(t, options(t, "replay"), answers...)
		o.Interruptible, o.StallTimeout = true, time.Second
		s, err := wasm.Open(t.Context(), o, sources.Config{})
		if err == nil {
			session := begin(t, s, sources.Limits{})
			_, _, err = read(t.Context(), session, &sources.Query{Table: "t"})
			if err := errors.Join(session.Close(), s.Close()); err != nil {
				t.Error(err)
			}
		}
		if sources.KindOf(err) != sources.Unavailable || !strings.Contains(fmt.Sprint(err), "did not answer within 1s") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCancelEndsAWait(t *testing.T) {
	for name, last := range map[string]string{"parked": wait, "computing": spin} {
		o := script(t, options(t, "replay"), opened, cataloged, begun, frame(wire.FrameArrow, arrows(schema, []int{3}))+page(3)+last)
		o.Interruptible = true
		s, err := wasm.Open(t.Context(), o, sources.Config{})
		if err != nil {
			t.Fatal(err)
		}
		session := begin(t, s, sources.Limits{})
		ctx, cancel := context.WithCancel(t.Context())
		for _, e := range session.Scan(ctx, &sources.Query{Table: "t"}) {
			cancel()
			err = e
		}
		if sources.KindOf(err) != sources.Canceled || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		if err := errors.Join(session.Close(), s.Close()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCancelBeforeAnything(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := wasm.Open(ctx, options(t, "rows"), sources.Config{}); sources.KindOf(err) != sources.Canceled {
		t.Errorf("open: %v", err)
	}
	s := open(t, options(t, "rows"), sources.Config{})
	session := begin(t, s, sources.Limits{})
	if _, _, err := read(ctx, session, &sources.Query{Table: "people"}); sources.KindOf(err) != sources.Canceled {
		t.Errorf("scan: %v", err)
	}
	if rows, _, err := read(t.Context(), session, &sources.Query{Table: "people"}); len(rows) != 5 || err != nil {
		t.Errorf("the next scan: %d rows, %v", len(rows), err)
	}
}

// The guest of this test uses no library.

func TestRowsAsJSON(t *testing.T) {
	session := begin(t, open(t, options(t, "rows"), sources.Config{}), sources.Limits{})
	rows, pages, err := read(t.Context(), session, &sources.Query{Table: "people"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`1|"Ada"|1815-12-10|2024-02-29T10:00:00.000001Z|12.50|0x0001ff`,
		`9223372036854775807|"Grace \"Amazing\" Hopper\n"|NULL|NULL|-0.10|NULL`,
		`-9223372036854775808|NULL|NULL|NULL|NULL|NULL`,
		`4|""|NULL|NULL|NULL|NULL`,
		`5|"Zoë"|0001-01-01|1969-12-31T23:59:59.999999Z|9999999999.99|0x`,
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error(diff)
	}
	if pages != 3 {
		t.Errorf("%d pages, want 3", pages)
	}
	if rows, pages, err := read(t.Context(), session, &sources.Query{Table: "nobody"}); len(rows) != 0 || pages != 1 || err != nil {
		t.Errorf("an empty table: %d rows, %d pages, %v", len(rows), pages, err)
	}
	for _, err := range session.Scan(t.Context(), &sources.Query{Table: "people"}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	if rows, _, err := read(t.Context(), session, &sources.Query{Table: "people"}); len(rows) != 5 || err != nil {
		t.Errorf("after a break: %d rows, %v", len(rows), err)
	}
	plan, err := session.Plan(t.Context(), &sources.Query{Table: "people"})
	if diff := cmp.Diff(&sources.Plan{Rows: -1, Bytes: -1}, plan); diff != "" || err != nil {
		t.Error(err, diff)
	}
}
