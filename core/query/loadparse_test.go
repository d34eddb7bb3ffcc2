package query_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// TestParseLoad tests the syntax of loads.
func TestParseLoad(t *testing.T) {
	tests := []struct {
		text string
		want []query.Branch
	}{
		{"customer", []query.Branch{{Name: "customer"}}},
		{" a . b , a.c ", []query.Branch{{Name: "a", Below: []query.Branch{{Name: "b"}, {Name: "c"}}}}},
		{`lines(where: qty > 1 && sku in ["a,b", 'c)'], order: id:desc, limit: 5, columns: [sku, qty]).product`, []query.Branch{{
			Name: "lines", Condition: `qty > 1 && sku in ["a,b", 'c)']`, OrderBy: []sources.Sort{{Column: "id", Desc: true}}, Limit: 5,
			Columns: []string{"sku", "qty"}, Below: []query.Branch{{Name: "product"}},
		}}},
		{`"odd, ""name"""(order: ["a b":nulls-first, c:asc:nulls-last], columns: x)`, []query.Branch{{
			Name: `odd, "name"`, OrderBy: []sources.Sort{{Column: "a b", NullsFirst: true}, {Column: "c"}}, Columns: []string{"x"},
		}}},
		{`a(where: r"\" == x || f("""a"b""")),a(limit: 2).b`, []query.Branch{{
			Name: "a", Condition: `r"\" == x || f("""a"b""")`, Limit: 2, Below: []query.Branch{{Name: "b"}},
		}}},
	}
	for _, test := range tests {
		got, err := query.ParseLoad(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.text, diff)
		}
	}
}

// TestParseLoadFaults tests that errors tell the position and the cause.
func TestParseLoadFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                           `"", character 1: the name of a relation is missing`,
		"a,":                         "character 3: the name of a relation is missing",
		"a b)":                       "character 4: expected \",\"",
		"a(":                         "an option is missing",
		"ä(size: 3)":                 `character 3: unknown option "size"; there are where, order, limit, columns`,
		"a(limt: 3)":                 `the nearest is "limit"`,
		"a(limit: 0)":                `character 10: the limit must be a number of at least 1 (got "0")`,
		"a(limit: 1, limit: 1)":      `the option "limit" is given twice`,
		"a(limit: 1":                 `expected ")", found the end of the text`,
		"a(where: )":                 "the condition is missing",
		"a(where: (x)":               `expected ")", found the end of the text`,
		"a(where: (x])":              `expected ")"`,
		`a(where: x == "b)`:          "missing closing quote",
		"a(order: x:down)":           `unexpected "down"`,
		`"a`:                         "missing closing quote",
		`""`:                         "the name of a relation is empty",
		"a(limit: 1),a(limit: 2)":    `a has two different values for the option "limit"`,
		strings.Repeat("a.", 200):    "the path has more than 100 relations",
		"x.a(order: b),x.a(order:c)": `below x: a has two different values for the option "order"`,
	} {
		_, err := query.ParseLoad(text)
		if err == nil || !strings.Contains(err.Error(), want) || sources.KindOf(err) != sources.Invalid {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestMergeLoads tests that a merged load has the branches and options of both, and
// that contradictory options are an error.
func TestMergeLoads(t *testing.T) {
	a := query.Load{Required: []query.Branch{{Name: "a", Limit: 3}}}
	b := query.Load{Required: []query.Branch{{Name: "b"}, {Name: "a", Columns: []string{"x"}}}, Optional: []query.Branch{{Name: "c"}}}
	got, err := a.Merge(b)
	if err != nil {
		t.Fatal(err)
	}
	want := query.Load{
		Required: []query.Branch{{Name: "a", Limit: 3, Columns: []string{"x"}}, {Name: "b"}},
		Optional: []query.Branch{{Name: "c"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := a.Merge(query.Load{Required: []query.Branch{{Name: "a", Limit: 4}}}); sources.KindOf(err) != sources.Invalid || err == nil {
		t.Errorf("merge of two limits: %v", err)
	}
}

// FuzzParseLoad tests that a parsed load which is formatted and parsed again is the
// same.
func FuzzParseLoad(f *testing.F) {
	for _, seed := range []string{
		"customer", "a.b.c,a.d", `lines(where: qty > 1 && sku in ["a,b"], order: [id:desc:nulls-first], limit: 5, columns: [sku, qty]).product`,
		`"a ""b"""(columns: [])`, `a(where: r"\"),b(order: x)`, "a(where: f('''x'y'''))", `a(limit: 9).b(limit: 8),a.c`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		branches, err := query.ParseLoad(text)
		if err != nil {
			if sources.KindOf(err) != sources.Invalid {
				t.Errorf("error of kind %s, want invalid", sources.KindOf(err))
			}
			return
		}
		formatted := query.FormatLoad(branches)
		again, err := query.ParseLoad(formatted)
		if err != nil {
			t.Fatalf("%q was formatted as %q: %v", text, formatted, err)
		}
		if diff := cmp.Diff(branches, again); diff != "" {
			t.Fatalf("%q was formatted as %q (-first +second):\n%s", text, formatted, diff)
		}
	})
}
