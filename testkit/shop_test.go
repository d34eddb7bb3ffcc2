package testkit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func writeShop(t *testing.T, s Shop) string {
	t.Helper()
	dir := t.TempDir()
	if err := s.WriteCSV(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func readCSV(t *testing.T, dir, table string) [][]string {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, table+".csv"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(f).ReadAll()
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestShopIsTheSameEverywhere(t *testing.T) {
	s := Shop{Seed: 7, Orders: 500}
	dir := writeShop(t, s)
	sum := fnv.New64a()
	for _, name := range append(s.Tables(), "datapackage") {
		suffix := ".csv"
		if name == "datapackage" {
			suffix = ".json"
		}
		data, err := os.ReadFile(filepath.Join(dir, name+suffix))
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(data)
	}
	if err := s.WriteSQL(t.Context(), sum); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%x", sum.Sum64()), "327f9ed7f9f32095"; got != want {
		t.Errorf("the shop's checksum is %s, want %s: other rows for a known seed break whoever relies on them", got, want)
	}
}

func TestShopCountsAsDocumented(t *testing.T) {
	s := Shop{Seed: 1, Orders: 4000}
	dir := writeShop(t, s)
	got := map[string]int64{}
	for _, table := range s.Tables() {
		got[table] = int64(len(readCSV(t, dir, table)) - 1)
		if want := s.Rows(table); got[table] != want {
			t.Errorf("%s has %d rows, Rows says %d", table, got[table], want)
		}
	}
	if n := got["order_lines"]; n < 15_000 || n > 17_000 {
		t.Errorf("%d order lines for 4000 orders, want about 4 for each", n)
	}
	if n := got["product_tags"]; n < 210 || n > 420 {
		t.Errorf("%d tags for 210 products, want about 1.5 for each", n)
	}
	delete(got, "order_lines")
	delete(got, "product_tags")
	want := map[string]int64{
		"employees": 7, "suppliers": 9, "categories": 20, "tags": 24, "products": 210, "customers": 405, "orders": 4000,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := s.Rows("nothing"); n != -1 {
		t.Errorf("a table that is not there has %d rows, want -1", n)
	}
}

func TestShopWithoutOrders(t *testing.T) {
	dir := writeShop(t, Shop{})
	if n := len(readCSV(t, dir, "order_lines")); n != 1 {
		t.Errorf("order_lines has %d lines, want the header alone", n)
	}
	if err := (Shop{Orders: -1}).WriteCSV(t.Context(), t.TempDir()); err == nil {
		t.Error("a shop with fewer than no orders was written")
	}
}

func TestShopKeysLeadSomewhere(t *testing.T) {
	s := Shop{Seed: 3, Orders: 3000}
	dir := writeShop(t, s)
	var p dataPackage
	data, err := os.ReadFile(filepath.Join(dir, "datapackage.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	column := func(rows [][]string, name string) []string {
		var out []string
		for i, header := range rows[0] {
			if header == name {
				for _, row := range rows[1:] {
					out = append(out, row[i])
				}
			}
		}
		return out
	}
	checked, nulls := 0, 0
	for _, r := range p.Resources {
		rows := readCSV(t, dir, r.Name)
		keys := map[string]bool{}
		for _, row := range rows[1:] {
			key := strings.Join(row[:len(r.Schema.PrimaryKey)], "/")
			if keys[key] {
				t.Errorf("%s: key %s is there twice", r.Name, key)
			}
			keys[key] = true
		}
		for _, f := range r.Schema.ForeignKeys {
			targets := map[string]bool{}
			for _, id := range column(readCSV(t, dir, f.Reference.Resource), "id") {
				targets[id] = true
			}
			for _, id := range column(rows, f.Fields[0]) {
				if id == "" {
					nulls++
				} else if !targets[id] {
					t.Errorf("%s.%s: there is no %s %s", r.Name, f.Fields[0], f.Reference.Resource, id)
				}
				checked++
			}
		}
	}
	if checked < 30_000 || nulls == 0 {
		t.Errorf("checked %d keys, %d of them NULL: too few to mean anything", checked, nulls)
	}
}

// TestShopSQLHasTheSameRows compares the cells of the COPY blocks with those of the CSV
// files, where quotes distinguish NULL and the empty string.
func TestShopSQLHasTheSameRows(t *testing.T) {
	s := Shop{Seed: 9, Orders: 300}
	dir := writeShop(t, s)
	var script bytes.Buffer
	if err := s.WriteSQL(t.Context(), &script); err != nil {
		t.Fatal(err)
	}
	unescape := strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r", `\t`, "\t")
	got := map[string][][]string{}
	table, nulls := "", 0
	lines := bufio.NewScanner(&script)
	for lines.Scan() {
		line := lines.Text()
		switch name, isCopy := strings.CutPrefix(line, "copy "); {
		case table == "" && isCopy:
			table = strings.TrimSuffix(name, " from stdin;")
		case line == `\.`:
			table = ""
		case table != "":
			row := strings.Split(line, "\t")
			for i, cell := range row {
				if cell == `\N` {
					row[i] = "<null>"
					nulls++
				} else {
					row[i] = unescape.Replace(cell)
				}
			}
			got[table] = append(got[table], row)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range s.Tables() {
		want := readCSVWithNulls(t, filepath.Join(dir, name+".csv"))
		if diff := cmp.Diff(want[1:], got[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if nulls == 0 {
		t.Error("no NULL was seen")
	}
	for _, statement := range []string{
		"alter table order_lines add primary key (order_id, line);",
		"alter table employees add foreign key (manager_id) references employees (id);",
		"numeric(14,4) not null", "commit;",
	} {
		var whole bytes.Buffer
		if err := s.WriteSQL(t.Context(), &whole); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(whole.String(), statement) {
			t.Errorf("the script lacks %q", statement)
		}
	}
}

// readCSVWithNulls reads CSV and returns "<null>" for empty unquoted fields, which
// encoding/csv does not distinguish from quoted ones.
func readCSVWithNulls(t *testing.T, name string) [][]string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	var row []string
	var cell []byte
	quoted, wasQuoted := false, false
	for i := 0; i < len(data); i++ {
		c := data[i]
		switch {
		case quoted && c == '"' && i+1 < len(data) && data[i+1] == '"':
			cell = append(cell, c)
			i++
		case c == '"':
			quoted, wasQuoted = !quoted, true
		case !quoted && (c == ',' || c == '\n'):
			if len(cell) == 0 && !wasQuoted {
				cell = []byte("<null>")
			}
			row, cell, wasQuoted = append(row, string(cell)), nil, false
			if c == '\n' {
				rows, row = append(rows, row), nil
			}
		default:
			cell = append(cell, c)
		}
	}
	return rows
}

func TestShopValuesAreTheRows(t *testing.T) {
	s := Shop{Seed: 2, Orders: 200}
	dir := writeShop(t, s)
	for _, table := range s.Tables() {
		var ids, want []string
		for row := range s.Values(table) {
			ids = append(ids, fmt.Sprint(row[0]))
		}
		for _, row := range readCSV(t, dir, table)[1:] {
			want = append(want, row[0])
		}
		if diff := cmp.Diff(want, ids); diff != "" {
			t.Errorf("%s: %s", table, diff)
		}
	}
	n := 0
	for range s.Values("order_lines") {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("read %d rows after a break at the third", n)
	}
}

func TestShopStopsAndCleansUp(t *testing.T) {
	s := Shop{Orders: 5000}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := filepath.Join(t.TempDir(), "new")
	if err := s.WriteCSV(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled write gave %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
	old := writeShop(t, Shop{Orders: 10})
	before, err := os.ReadFile(filepath.Join(old, "orders.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteCSV(ctx, old); err == nil {
		t.Error("a canceled write succeeded")
	}
	after, err := os.ReadFile(filepath.Join(old, "orders.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before), string(after)); diff != "" {
		t.Error(diff)
	}
	if names, _ := filepath.Glob(filepath.Join(old, "*.partial")); names != nil {
		t.Errorf("left behind: %v", names)
	}
	if err := s.WriteSQL(t.Context(), failingWriter{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a failing writer gave %v", err)
	}
	if err := s.WriteCopy(t.Context(), io.Discard, "nothing"); err == nil {
		t.Error("a table that is not there was copied")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// TestShopIsFlat checks that memory does not grow with the rows: ten times the orders
// must not need more than a constant factor of allocations.
func TestShopIsFlat(t *testing.T) {
	bytesFor := func(orders int) int64 {
		result := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if err := (Shop{Orders: orders}).WriteCopy(b.Context(), io.Discard, "order_lines"); err != nil {
					b.Fatal(err)
				}
			}
		})
		return result.AllocedBytesPerOp()
	}
	small, large := bytesFor(20_000), bytesFor(200_000)
	if large > small+small/4 {
		t.Errorf("20k orders allocate %d bytes, 200k orders %d", small, large)
	}
}

func BenchmarkShopCSV(b *testing.B) {
	s := Shop{Orders: 20_000}
	dir := b.TempDir()
	for b.Loop() {
		if err := s.WriteCSV(b.Context(), dir); err != nil {
			b.Fatal(err)
		}
	}
	var size int64
	for _, table := range s.Tables() {
		info, err := os.Stat(filepath.Join(dir, table+".csv"))
		if err != nil {
			b.Fatal(err)
		}
		size += info.Size()
	}
	b.SetBytes(size)
}
