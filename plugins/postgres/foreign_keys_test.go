package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// relationsOf returns the relations of a table as text, sorted.
func relationsOf(t *sources.Table) (out []string) {
	names := t.RelationNames()
	for i, r := range t.Relations {
		text := fmt.Sprintf("%s %s %v %s %v", names[i], r.Kind, r.Columns, r.TargetTable, r.TargetColumns)
		if r.Unusable != "" {
			text += ": " + r.Unusable
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// catalogOf returns the catalog of a database as it is now.
func catalogOf(t *testing.T, uri string, options map[string]string) (*sources.Catalog, error) {
	t.Helper()
	src, err := postgres.Open(t.Context(), sources.Config{URI: uri, Options: options})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}()
	return src.Catalog(t.Context())
}

// TestNamesStay checks that what is added to a database never changes what a name leads
// to.
func TestNamesStay(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE usr (id int PRIMARY KEY, code int UNIQUE, a int, b int, UNIQUE (a, b));
CREATE TABLE inv (id int PRIMARY KEY, creator_id int REFERENCES usr, approver_id int, a int, b int, x int, y int, FOREIGN KEY (a, b) REFERENCES usr (a, b));
CREATE TABLE tag (id int PRIMARY KEY); CREATE TABLE inv_tag (inv_id int REFERENCES inv, tag_id int REFERENCES tag, added_by int, PRIMARY KEY (inv_id, tag_id));
CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY);`)
	leads := func() map[string]string {
		c, err := catalogOf(t, uri, nil)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, table := range c.Tables {
			out["table "+table.Name] = table.Name
			for _, r := range table.Relations {
				for _, name := range append(slices.Clone(r.Aliases), r.Name) {
					found, err := table.FindRelation(name)
					if err == nil {
						out[table.Name+"."+name] = found.Name
					}
				}
			}
		}
		return out
	}
	before := leads()
	for _, name := range []string{
		"inv.creator", "inv.usr_by_a_b", "inv.usr__by__creator_id", "inv.usr__by__a__and__b__a__and__b", "usr.inv_by_creator",
		"inv.tag", "tag.inv", "inv.tag_by_inv_tag", "inv.inv_tag", "tag.inv__through__inv_tag__tag_id__inv_id",
	} {
		if before[name] == "" {
			t.Errorf("%s leads nowhere at first", name)
		}
	}
	lost := map[string][]string{}
	for _, sql := range []string{
		`ALTER TABLE inv ADD CONSTRAINT "0" FOREIGN KEY (approver_id) REFERENCES usr`,
		`ALTER TABLE inv ADD CONSTRAINT "1" FOREIGN KEY (x, y) REFERENCES usr (b, a)`,
		`ALTER TABLE inv ADD CONSTRAINT "2" FOREIGN KEY (creator_id) REFERENCES usr (code)`,
		`ALTER TABLE inv ADD CONSTRAINT "3" FOREIGN KEY (b, a) REFERENCES usr (b, a)`,
		`ALTER TABLE inv ADD creator text`,
		`ALTER TABLE inv_tag ADD CONSTRAINT "4" FOREIGN KEY (added_by) REFERENCES usr`,
		`ALTER TABLE inv ADD tag_id int REFERENCES tag`,
		`CREATE TABLE inv_tag_2 (inv_id int REFERENCES inv, tag_id int REFERENCES tag, PRIMARY KEY (inv_id, tag_id))`,
		`CREATE TABLE "s.t" (id int PRIMARY KEY)`,
	} {
		if err := pgtest.Run(t.Context(), uri, sql); err != nil {
			t.Fatal(err)
		}
		now := leads()
		for name, want := range before {
			switch now[name] {
			case want:
			case "":
				lost[sql] = append(lost[sql], name)
				if name == before[name] || strings.Contains(name, "__") {
					t.Errorf("%s: %s leads nowhere", sql, name)
				}
			default:
				t.Errorf("%s: %s leads to %s, before to %s", sql, name, now[name], want)
			}
		}
		before = now
	}
	for sql, name := range map[string]string{
		`ALTER TABLE inv ADD CONSTRAINT "2" FOREIGN KEY (creator_id) REFERENCES usr (code)`: "inv.creator",
		`ALTER TABLE inv ADD tag_id int REFERENCES tag`:                                     "inv.tag",
	} {
		if !slices.Contains(lost[sql], name) {
			t.Errorf("%s: %s is not ambiguous", sql, name)
		}
	}
}

// TestKeysOfPartitions checks that a foreign key that all partitions declare is one of the
// partitioned table.
func TestKeysOfPartitions(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE rental (id int PRIMARY KEY); CREATE TABLE staff (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE customer (id int PRIMARY KEY);
CREATE TABLE payment (dropped int, id int, rental_id int, customer_id int, staff_a int, staff_b int, day int NOT NULL) PARTITION BY RANGE (day);
ALTER TABLE payment DROP dropped;
CREATE TABLE payment_1 PARTITION OF payment FOR VALUES FROM (0) TO (10);
CREATE TABLE payment_2 (day int NOT NULL, staff_b int, rental_id int, staff_a int, customer_id int, gone int, id int); ALTER TABLE payment_2 DROP gone;
ALTER TABLE payment ATTACH PARTITION payment_2 FOR VALUES FROM (10) TO (20);
CREATE TABLE payment_3 PARTITION OF payment FOR VALUES FROM (20) TO (30) PARTITION BY RANGE (day);
CREATE TABLE payment_3a PARTITION OF payment_3 FOR VALUES FROM (20) TO (25);
CREATE TABLE payment_3b PARTITION OF payment_3 FOR VALUES FROM (25) TO (30);
ALTER TABLE payment_1 ADD FOREIGN KEY (rental_id) REFERENCES rental, ADD FOREIGN KEY (staff_a, staff_b) REFERENCES staff, ADD FOREIGN KEY (customer_id) REFERENCES customer;
ALTER TABLE payment_2 ADD FOREIGN KEY (rental_id) REFERENCES rental, ADD FOREIGN KEY (staff_b, staff_a) REFERENCES staff (b, a), ADD FOREIGN KEY (customer_id) REFERENCES customer;
ALTER TABLE payment_3 ADD FOREIGN KEY (rental_id) REFERENCES rental, ADD FOREIGN KEY (staff_a, staff_b) REFERENCES staff;
ALTER TABLE payment_3a ADD FOREIGN KEY (customer_id) REFERENCES customer;
INSERT INTO rental VALUES (1); INSERT INTO payment VALUES (1, 1, NULL, NULL, NULL, 5), (2, 1, NULL, NULL, NULL, 15), (3, 1, NULL, NULL, NULL, 28);
CREATE TABLE empty (id int, rental_id int) PARTITION BY LIST (id);
CREATE TABLE twin (id int, rental_id int REFERENCES rental) PARTITION BY LIST (id); CREATE TABLE twin_1 PARTITION OF twin FOR VALUES IN (1);
CREATE TABLE target (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE target_1 PARTITION OF target FOR VALUES IN (1);
CREATE TABLE to_target (id int, target_id int) PARTITION BY LIST (id); CREATE TABLE to_target_1 PARTITION OF to_target FOR VALUES IN (1);
ALTER TABLE to_target_1 ADD FOREIGN KEY (target_id) REFERENCES target;
ANALYZE;`)
	c, err := catalogOf(t, uri, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"payment":   {"rental belongs_to [rental_id] rental [id]", "staff belongs_to [staff_a staff_b] staff [a b]"},
		"empty":     nil,
		"twin":      {"rental belongs_to [rental_id] rental [id]"},
		"to_target": {"target belongs_to [target_id] target [id]"},
		"rental":    {"payment has_many [id] payment [rental_id]", "twin has_many [id] twin [rental_id]"},
		"customer":  nil,
	} {
		if diff := cmp.Diff(want, relationsOf(c.Table(name))); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	if c.Table("payment").Lookup([]string{"rental_id"}) == nil {
		t.Error("payment has no look-up by rental_id")
	}
}

// TestSpoiledKeys checks that a key that cannot be followed says why, and that a key that
// leads out of what the role can see is left out.
func TestSpoiledKeys(t *testing.T) {
	server := pgtest.Start(t)
	uri := server.Database(t, `CREATE TABLE times (at timestamp PRIMARY KEY); CREATE TABLE days (day date REFERENCES times);
CREATE TABLE lists (l int[] PRIMARY KEY); CREATE TABLE to_lists (l int[] REFERENCES lists);
CREATE TABLE spans (s interval PRIMARY KEY); CREATE TABLE to_spans (s interval REFERENCES spans);
CREATE TABLE animals (id int PRIMARY KEY); CREATE TABLE dogs () INHERITS (animals); CREATE TABLE owners (id int PRIMARY KEY, animal_id int REFERENCES animals);
CREATE TABLE refused (id int PRIMARY KEY); CREATE TABLE open (id int PRIMARY KEY, refused_id int REFERENCES refused, secret_id int REFERENCES owners);
CREATE SCHEMA other; CREATE TABLE other.t (id int PRIMARY KEY); CREATE TABLE outward (t_id int REFERENCES other.t);
DROP ROLE IF EXISTS penstock_spoiled; CREATE ROLE penstock_spoiled LOGIN PASSWORD 'reads';
GRANT SELECT ON times, days, lists, to_lists, spans, to_spans, animals, dogs, owners, outward TO penstock_spoiled; GRANT SELECT (id, refused_id) ON open TO penstock_spoiled;`)
	t.Cleanup(func() {
		if err := pgtest.Run(context.Background(), uri, "DROP OWNED BY penstock_spoiled; DROP ROLE penstock_spoiled;"); err != nil {
			t.Error(err)
		}
	})
	before, after, _ := strings.Cut(uri, "//")
	_, host, _ := strings.Cut(after, "@")
	c, err := catalogOf(t, before+"//penstock_spoiled:reads@"+host, map[string]string{"schemas": "public"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"days":     {"times belongs_to [day] times [at]: days.day (date32) cannot be compared with times.at (timestamp[us])"},
		"times":    {"days has_many [at] days [day]: days.day (date32) cannot be compared with times.at (timestamp[us])"},
		"to_lists": {"lists belongs_to [l] lists [l]: to_lists.l (list<item: int32, nullable>) cannot be compared with lists.l (list<item: int32, nullable>)"},
		"to_spans": {"spans belongs_to [s] spans [s]: to_spans.s (month_day_nano_interval) cannot be compared with spans.s (month_day_nano_interval)"},
		"owners": {
			`animal belongs_to [animal_id] animals [id]: the key does not cover the rows of the tables that inherit from "animals"`,
			`open has_many [id] open [secret_id]: the column "secret_id" of "open" may not be read: the role has no SELECT privilege on it`,
		},
		"open": {
			`refused belongs_to [refused_id] refused [id]: "refused" may not be read: the role has no SELECT privilege on it`,
			`secret belongs_to [secret_id] owners [id]: the column "secret_id" of "open" may not be read: the role has no SELECT privilege on it`,
		},
		"outward": nil,
	} {
		if diff := cmp.Diff(want, relationsOf(c.Table(name))); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// TestDeclaredKeys checks foreign keys that the user declares.
func TestDeclaredKeys(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE rental (id int PRIMARY KEY, x int, y int); CREATE TABLE payment (id int, rental_id int, x int, y int);
CREATE VIEW late AS SELECT * FROM payment; CREATE SCHEMA s; CREATE TABLE s."my.table" ("a b" int, d date);`)
	separator := "?"
	if strings.Contains(uri, "?") {
		separator = "&"
	}
	declared := separator + "relation=payment.rental_id->rental.id&relation=late.(x,y)->rental.(x,y)"
	for _, c := range []struct {
		uri     string
		options map[string]string
	}{
		{uri + declared, nil},
		{uri, map[string]string{"relation": "payment.rental_id->rental.id\nlate.(x,y)->rental.(x,y)"}},
	} {
		catalog, err := catalogOf(t, c.uri, c.options)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]string{
			"payment": {"rental belongs_to [rental_id] rental [id]"},
			"late":    {"rental belongs_to [x y] rental [x y]"},
			"rental":  {"late has_many [x y] late [x y]", "payment has_many [id] payment [rental_id]"},
		} {
			if diff := cmp.Diff(want, relationsOf(catalog.Table(name))); diff != "" {
				t.Errorf("%s:\n%s", name, diff)
			}
		}
		if catalog.Table("late").Lookup([]string{"x", "y"}) == nil || catalog.Table("rental").Lookup([]string{"x", "y"}) == nil {
			t.Error("there is no look-up by the columns of a declared key")
		}
	}
	spoiled, err := catalogOf(t, uri, map[string]string{"relation": `"""s"".""my.table""".d->payment.id`})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`payment belongs_to [d] payment [id]: "s"."my.table".d (date32) cannot be compared with payment.id (int32)`}
	if diff := cmp.Diff(want, relationsOf(spoiled.Table(`"s"."my.table"`))); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"payment.rental->rental.id": `catalog: invalid: option "relation": payment.rental->rental.id: the table "payment" has no column "rental"; the nearest is "rental_id"`,
		"paymet.id->rental.id":      `option "relation": paymet.id->rental.id: there is no table "paymet"; the nearest is "payment"`,
		"payment.id":                `open: invalid: option "relation": "payment.id", character 11: expected "->"`,
	} {
		if _, err := catalogOf(t, uri, map[string]string{"relation": text}); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
