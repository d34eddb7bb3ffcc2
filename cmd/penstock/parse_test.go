package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"65536": 65536, "64MiB": 64 << 20, "1.5 GiB": 3 << 29, "2kb": 2000, "1GB": 1e9, "7B": 7, "0.5KiB": 512,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q is %d (%v), want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "64 parsecs", "-1MiB", "0", "0.1", "1e30GB", "1e999999999", "0x10", "NaN"} {
		if got, err := parseSize(text); !errorIsUsage(err) {
			t.Errorf("%q is %d (%v), want a usage error", text, got, err)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, seed := range []string{"64MiB", "1.5 GiB", "", "-1", "1e400", "9223372036854775807", "9223372036854775808"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if (err == nil) != (n > 0) {
			t.Fatalf("%q is %d with error %v", s, n, err)
		}
	})
}

func TestOrders(t *testing.T) {
	got, err := parseOrder(`a,b:desc, "x,""y:z":asc:nulls-first,c:nulls-first`)
	if err != nil {
		t.Fatal(err)
	}
	want := []sources.Sort{
		{Column: "a"}, {Column: "b", Desc: true}, {Column: `x,"y:z`, NullsFirst: true}, {Column: "c", NullsFirst: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "a,", ",a", "a:up", "a:desc:asc", "a:nulls-first:desc", `"a`, `"a"b`, "a:"} {
		if _, err := parseOrder(bad); !errorIsUsage(err) {
			t.Errorf("%q: %v, want a usage error", bad, err)
		}
	}
}

func TestColumns(t *testing.T) {
	got, err := parseColumns(`id,"ship via",name`)
	if diff := cmp.Diff([]string{"id", "ship via", "name"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := parseColumns("a:b"); err == nil || !strings.Contains(err.Error(), `'"a:b"'`) {
		t.Errorf("got %v, want how to quote it", err)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"customers", "orders", "order_lines"}
	for typed, want := range map[string]string{
		"custmoers":  `; the nearest is "customers"`,
		"ORDERS":     `; the nearest is "orders"`,
		"orderlines": `; the nearest is "order_lines"`,
		"xyz":        "; there are customers, orders, order_lines",
	} {
		if got := sources.Suggest(typed, names); got != want {
			t.Errorf("%s: got %q, want %q", typed, got, want)
		}
	}
}

// FuzzTerms checks that a list is a usage error or survives being quoted and parsed again,
// and that an order or columns are no more than a list.
func FuzzTerms(f *testing.F) {
	for _, seed := range []string{`a,b:desc, "x,""y:z":asc:nulls-first`, `a,`, `"a`, `""`, `a:nulls-last`, "a\u00a0,b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		terms, err := parseTerms("order-by", text)
		order, orderErr := parseOrder(text)
		columns, columnsErr := parseColumns(text)
		for _, err := range []error{err, orderErr, columnsErr} {
			if err != nil && !errorIsUsage(err) {
				t.Errorf("%q: %v is no usage error", text, err)
			}
		}
		if err != nil {
			if orderErr == nil || columnsErr == nil {
				t.Errorf("%q is no list, but %v and %v", text, order, columns)
			}
			return
		}
		var quoted []string
		for _, term := range terms {
			quoted = append(quoted, strings.Join(append([]string{`"` + strings.ReplaceAll(term.name, `"`, `""`) + `"`}, term.words...), ":"))
		}
		again, err := parseTerms("order-by", strings.Join(quoted, ","))
		if diff := cmp.Diff(terms, again, cmp.AllowUnexported(listTerm{})); err != nil || diff != "" {
			t.Errorf("%q: %v (-first +second):\n%s", text, err, diff)
		}
	})
}
