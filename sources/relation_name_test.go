package sources

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
)

func TestFindRelation(t *testing.T) {
	catalog := &Catalog{Tables: []Table{
		relTable("usr", "id;"), relTable("inv", "id; creator_id approver_id ship_via shippers"), relTable("shippers", "id;"),
		func() Table {
			note := relTable("note", "id; inv_id")
			note.Schema = arrow.NewSchema([]arrow.Field{{Name: "inv_id", Type: arrow.BinaryTypes.String}}, nil)
			return note
		}(),
	}}
	err := Relate(catalog, []ForeignKey{fk("inv", "creator_id", "usr"), fk("inv", "approver_id", "usr"), fk("inv", "ship_via", "shippers"), fk("note", "inv_id", "inv")})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		table, name string
		kind        Kind
		want        string // the qualified name, or the text of the error
	}{
		{"inv", "creator", 0, "usr__by__creator_id"},
		{"inv", "usr_by_creator", 0, "usr__by__creator_id"},
		{"inv", "usr_by_creator_id", 0, "usr__by__creator_id"},
		{"inv", "usr__by__creator_id", 0, "usr__by__creator_id"},
		{"inv", "usr", Invalid, `invalid: relation "usr" is ambiguous: usr__by__approver_id or usr__by__creator_id`},
		{"usr", "inv", Invalid, `invalid: relation "inv" is ambiguous: inv__with__approver_id or inv__with__creator_id`},
		{"inv", "shippers", Invalid, `invalid: table "inv" has a column "shippers": the relation is shippers__by__ship_via`},
		{"inv", "creatr", NotFound, `not found: table "inv" has no relation "creatr"; the nearest is "creator"`},
		{"note", "inv", Invalid, `invalid: relation "inv" cannot be loaded: note.inv_id (utf8) cannot be compared with inv.id (int64)`},
	} {
		r, err := catalog.Table(c.table).FindRelation(c.name)
		if c.kind == 0 {
			if err != nil || r.Name != c.want {
				t.Errorf("%s.%s: %v, %v", c.table, c.name, r, err)
			}
			continue
		}
		if KindOf(err) != c.kind || err == nil || err.Error() != c.want {
			t.Errorf("%s.%s:\n%v, want\n%s", c.table, c.name, err, c.want)
		}
	}
	plain := relTable("plain", "id;")
	if _, err := plain.FindRelation("x"); KindOf(err) != NotFound || err.Error() != `not found: table "plain" has no relation "x"; the table has none` {
		t.Error(err)
	}
	taken := relTable("taken", "id; a__by__a_id")
	taken.Relations = []Relation{{Name: "a__by__a_id", Aliases: []string{"a", "a_by_a"}}}
	if _, err := taken.FindRelation("a__by__a_id"); KindOf(err) != Invalid || !strings.HasSuffix(err.Error(), "the relation is a or a_by_a") {
		t.Error(err)
	}
}

// randomCatalog returns tables and foreign keys with few names, so that many are equal.
func randomCatalog(r *rand.Rand) ([]Table, []ForeignKey) {
	names := []string{"a", "b", "a_by_x", "x", "a__by__x"}
	var tables []Table
	for _, name := range names[:2+r.IntN(len(names)-1)] {
		tables = append(tables, randomTable(r, name))
	}
	var keys []ForeignKey
	for range r.IntN(6) {
		if k, ok := randomKey(r, tables); ok {
			keys = append(keys, k)
		}
	}
	return tables, keys
}

var randomColumns = []string{"id", "x", "x_id", "xId", "a", "a_id", "a_by_x", "a_by_x_id", "b_x", "and", "_x", "a__by__x"}

func randomTable(r *rand.Rand, name string) Table {
	columns := slices.Clone(randomColumns)
	r.Shuffle(len(columns), func(i, j int) { columns[i], columns[j] = columns[j], columns[i] })
	columns = columns[:2+r.IntN(5)]
	key := r.IntN(3)
	return relTable(name, strings.Join(columns[:key], " ")+";"+strings.Join(columns[key:], " "))
}

func randomKey(r *rand.Rand, tables []Table) (ForeignKey, bool) {
	from, to := &tables[r.IntN(len(tables))], &tables[r.IntN(len(tables))]
	n := 1 + r.IntN(2)
	pick := func(t *Table) []string {
		columns := t.columns()
		r.Shuffle(len(columns), func(i, j int) { columns[i], columns[j] = columns[j], columns[i] })
		return columns[:min(n, len(columns))]
	}
	if n > from.Schema.NumFields() || n > to.Schema.NumFields() {
		return ForeignKey{}, false
	}
	return ForeignKey{Name: fmt.Sprint(r.IntN(10)), Table: from.Name, Columns: pick(from), TargetTable: to.Name, TargetColumns: pick(to)}, true
}

// leads returns what every name of a catalog leads to; names that are an error are left out.
func leads(t *testing.T, tables []Table, keys []ForeignKey) map[string]string {
	c := &Catalog{Tables: slices.Clone(tables)}
	if err := Relate(c, keys); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for i := range c.Tables {
		table := &c.Tables[i]
		for _, r := range table.Relations {
			for _, name := range append(slices.Clone(r.Aliases), r.Name) {
				found, err := table.FindRelation(name)
				if err != nil {
					continue
				}
				out[table.Name+" "+name] = meaningOf(found)
			}
			if found, err := table.FindRelation(r.Name); table.Column(r.Name) < 0 && (err != nil || found.Name != r.Name) {
				t.Fatalf("%s: the qualified name %q leads to %v, %v", table.Name, r.Name, found, err)
			}
		}
	}
	return out
}

// meaningOf returns which rows a relation leads to, as text. The order of the columns of
// a key does not matter, nor does the number of rows.
func meaningOf(r *Relation) string {
	zip := func(a, b []string) string {
		var out []string
		for i := range a {
			out = append(out, a[i]+"="+b[i])
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	if r.Through != nil {
		return fmt.Sprintf("%s %q %q %q", r.Through.Table, zip(r.Through.Near, r.Columns), r.TargetTable, zip(r.Through.Far, r.TargetColumns))
	}
	return fmt.Sprintf("%t %q %q", r.Kind == BelongsTo, r.TargetTable, zip(r.Columns, r.TargetColumns))
}

// TestNamesKeepTheirMeaning checks that what is added to a catalog never changes what a
// name leads to: it leads to the same rows, or is an error; and that a qualified name is
// no error.
func TestNamesKeepTheirMeaning(t *testing.T) {
	ambiguous := 0
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 0))
		tables, keys := randomCatalog(r)
		before := leads(t, tables, keys)
		after, added := slices.Clone(tables), slices.Clone(keys)
		for range 1 + r.IntN(3) {
			switch r.IntN(3) {
			case 0:
				if k, ok := randomKey(r, after); ok {
					added = slices.Insert(added, r.IntN(len(added)+1), k)
				}
			case 1:
				i := r.IntN(len(after))
				column := randomColumns[r.IntN(len(randomColumns))]
				if after[i].Column(column) < 0 {
					after[i].Schema, _ = after[i].Schema.AddField(0, arrow.Field{Name: column, Type: arrow.PrimitiveTypes.Int64})
				}
			case 2:
				after = append(after, randomTable(r, fmt.Sprint("x_", len(after))))
				if k, ok := randomKey(r, after); ok {
					added = append(added, k)
				}
			}
		}
		now := leads(t, after, added)
		for name, meaning := range before {
			if now[name] == "" {
				ambiguous++
				table, name, _ := strings.Cut(name, " ")
				if isReserved(name) && relTableNamed(after, table).Column(name) < 0 {
					t.Fatalf("seed %d: the qualified name %s.%s no longer leads to %s", seed, table, name, meaning)
				}
			} else if now[name] != meaning {
				t.Fatalf("seed %d: %s leads to %s, before to %s", seed, name, now[name], meaning)
			}
		}
	}
	if ambiguous < 1000 {
		t.Errorf("only %d names became ambiguous: the catalogs are too simple to show anything", ambiguous)
	}
}

func relTableNamed(tables []Table, name string) *Table {
	return (&Catalog{Tables: tables}).Table(name)
}

// TestQualifiedNamesAreDifferent checks that relations with different keys have different
// qualified names, and that no short name has the form of a qualified one.
func TestQualifiedNamesAreDifferent(t *testing.T) {
	meanings := map[string]string{}
	for seed := range uint64(20_000) {
		tables, keys := randomCatalog(rand.New(rand.NewPCG(seed, 1)))
		c := &Catalog{Tables: tables}
		if err := Relate(c, keys); err != nil {
			t.Fatal(err)
		}
		for _, table := range c.Tables {
			for _, r := range table.Relations {
				name := table.Name + " " + r.Name
				if meaning := meaningOf(&r); meanings[name] == "" {
					meanings[name] = meaning
				} else if meanings[name] != meaning {
					t.Fatalf("%s is %s and %s", name, meaning, meanings[name])
				}
				if slices.ContainsFunc(r.Aliases, isReserved) {
					t.Fatalf("%s has the short names %q", name, r.Aliases)
				}
			}
		}
	}
	if len(meanings) < 5000 {
		t.Errorf("only %d relations", len(meanings))
	}
}
