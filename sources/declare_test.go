package sources

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseForeignKeys(t *testing.T) {
	key := func(table, columns, target, targets string) ForeignKey {
		return ForeignKey{Table: table, Columns: strings.Split(columns, "|"), TargetTable: target, TargetColumns: strings.Split(targets, "|")}
	}
	for text, want := range map[string][]ForeignKey{
		"":                                    nil,
		"payment.rental_id->rental.rental_id": {key("payment", "rental_id", "rental", "rental_id")},
		" a . x  ->  b . y ":                  {key("a", "x", "b", "y")},
		"a.x->b.y\n\na.z->c.y\r\n":            {key("a", "x", "b", "y"), key("a", "z", "c", "y")},
		"a.(x,y)->b.( v , w )":                {key("a", "x|y", "b", "v|w")},
		"a.(x)->b.y":                          {key("a", "x", "b", "y")},
		"sales.orders.id->hr.people.(id)":     {key("sales.orders", "id", "hr.people", "id")},
		`"my table"."a.""b"->b."->"`:          {key("my table", `a."b`, "b", "->")},
		"ä.ö-é->b.>":                          {key("ä", "ö-é", "b", ">")},
	} {
		got, err := ParseForeignKeys(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", text, err, diff)
		}
	}
	for text, want := range map[string]string{
		"a":               `"a", character 2: expected "." and a column, found the end of the line; write TABLE.COLUMN->TABLE.COLUMN, or TABLE.(A,B)->TABLE.(A,B)`,
		"a.x":             `character 4: expected "->", found the end of the line`,
		"a.x>b.y":         `character 8: expected "->", found the end of the line`,
		"a.x->b":          `character 7: expected "." and a column`,
		"ä.x->b.y z":      `character 10: expected the end of the line`,
		"a.x->b.(y,z)":    `character 6: the key has 1 columns, and refers to 2`,
		"a.(x->b.y":       `character 5: expected "," or ")"`,
		"a.()->b.y":       `character 4: expected the name of a column`,
		"->b.y":           `character 1: expected the name of a table`,
		"(x)->b.y":        `character 1: expected the name of a table`,
		`a."x->b.y`:       `character 3: the closing quote is missing`,
		`a.""->b.y`:       `character 3: a name is empty`,
		"a.x->b.y\na->b.": `"a->b.", character 2: expected "." and a column`,
	} {
		if _, err := ParseForeignKeys(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n%v, want\n%s", text, err, want)
		}
	}
}

func TestCheckForeignKeys(t *testing.T) {
	c := &Catalog{Tables: []Table{relTable("payment", "id; rental_id"), relTable("rental", "rental_id; boss")}}
	for text, want := range map[string]string{
		"payment.rental_id->rental.rental_id": "",
		"rental.boss->rental.rental_id":       "",
		"paymint.rental_id->rental.rental_id": `catalog: invalid: option "relation": paymint.rental_id->rental.rental_id: there is no table "paymint"; the nearest is "payment"`,
		"payment.rentl_id->rental.rental_id":  `catalog: invalid: option "relation": payment.rentl_id->rental.rental_id: the table "payment" has no column "rentl_id"; the nearest is "rental_id"`,
		"payment.id->rental.rental":           `the table "rental" has no column "rental"; the nearest is "rental_id"`,
		"rental.bos->rental.rental_id":        `the table "rental" has no column "bos"; the nearest is "boss"`,
		"rental.boss->rental.rental_d":        `the table "rental" has no column "rental_d"; the nearest is "rental_id"`,
	} {
		keys, err := ParseForeignKeys(text)
		if err != nil {
			t.Fatal(err)
		}
		err = c.CheckForeignKeys(keys)
		if want == "" && err != nil || want != "" && (KindOf(err) != Invalid || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s:\n%v, want\n%s", text, err, want)
		}
	}
}

func FuzzParseForeignKeys(f *testing.F) {
	for _, text := range []string{"a.x->b.y", "a.(x,y)->b.(v,w)\ns.a.x->b.y", `"a""b"."x y"->"->".">"`, "a.-->b.-", `"".a.x->b.y`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParseForeignKeys(text)
		if err != nil {
			return
		}
		for _, k := range keys {
			if k.Table == "" || k.TargetTable == "" || len(k.Columns) == 0 || len(k.Columns) != len(k.TargetColumns) {
				t.Fatalf("%q: %+v", text, k)
			}
			again, err := ParseForeignKeys(k.String())
			if diff := cmp.Diff([]ForeignKey{k}, again); err != nil || diff != "" {
				t.Fatalf("%q is %q: %v\n%s", text, k.String(), err, diff)
			}
		}
	})
}
