package csv_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

// catalogOf returns the catalog of files.
func catalogOf(t *testing.T, files map[string]string, o csv.Options) *sources.Catalog {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	source, err := csv.New(fsys, o)
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := source.Close(); err != nil {
		t.Error(err)
	}
	return catalog
}

// relationsOf returns the relations of a table as text, sorted.
func relationsOf(table *sources.Table) (out []string) {
	names := table.RelationNames()
	for i, r := range table.Relations {
		text := fmt.Sprintf("%s: %s %v -> %s %v", names[i], r.Kind, r.Columns, r.TargetTable, r.TargetColumns)
		if r.Unusable != "" {
			text += ": " + r.Unusable
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// TestKeysByName checks foreign keys derived from column names.
func TestKeysByName(t *testing.T) {
	files := map[string]string{
		"customers.csv": "id,name\n1,Ada\n", "company.csv": "company_id,name\n5,x\n", "cities.csv": "id\nx\n",
		"orders.csv": "id,customer_id,company_id,city_id,thing_id\n1,1,5,7,9\n",
	}
	if got := relationsOf(catalogOf(t, files, csv.Options{}).Table("orders")); got != nil {
		t.Errorf("without names: %q", got)
	}
	want := []string{
		"city: belongs_to [city_id] -> cities [id]: orders.city_id (int64) cannot be compared with cities.id (utf8)",
		"company: belongs_to [company_id] -> company [company_id]",
		"customer: belongs_to [customer_id] -> customers [id]",
	}
	if diff := cmp.Diff(want, relationsOf(catalogOf(t, files, csv.Options{ByName: true}).Table("orders"))); diff != "" {
		t.Error(diff)
	}
}

// TestKeysByNameStay checks that a name leads to the same table after files, columns and
// declared keys were added, or is an error.
func TestKeysByNameStay(t *testing.T) {
	files := map[string]string{"customer.csv": "customer_id,name\n1,Ada\n", "orders.csv": "id,customer_id\n1,1\n"}
	find := func(files map[string]string, name string) (string, error) {
		r, err := catalogOf(t, files, csv.Options{ByName: true}).Table("orders").FindRelation(name)
		if err != nil {
			return "", err
		}
		return fmt.Sprint(r.TargetTable, r.TargetColumns), nil
	}
	names := []string{"customer", "customer_by_customer", "customer_by_customer_id", "customer__by__customer_id__customer_id"}
	const want = "customer[customer_id]"
	for _, name := range names {
		if got, err := find(files, name); got != want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for what, added := range map[string]map[string]string{
		"another file":               {"customers.csv": "id\n1\n"},
		"another column":             {"customer.csv": "id,customer_id\n7,1\n"},
		"a column of the short name": {"orders.csv": "id,customer_id,customer\n1,1,x\n"},
		"a declared key": {"clients.csv": "id\n1\n", "datapackage.json": `{"resources": [{"path": "orders.csv", "schema": {"fields": [
			{"name": "id", "type": "integer"}, {"name": "customer_id", "type": "integer"}],
			"foreignKeys": [{"fields": "customer_id", "reference": {"resource": "clients", "fields": "id"}}]}}]}`},
	} {
		more := maps.Clone(files)
		maps.Copy(more, added)
		for _, name := range names {
			got, err := find(more, name)
			if got != want && (sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "customer__by__customer_id__customer_id")) {
				t.Errorf("%s: %s leads to %q, %v", what, name, got, err)
			}
		}
		if _, err := find(more, "customer"); err == nil {
			t.Errorf("%s: the name customer is not ambiguous", what)
		}
		if got, err := find(more, names[len(names)-1]); got != want {
			t.Errorf("%s: the qualified name leads to %q, %v", what, got, err)
		}
	}
}

// TestSpoiledKeys checks that a declared key that cannot be followed spoils its own
// relations, and that the rest of the source can be used.
func TestSpoiledKeys(t *testing.T) {
	key := func(fields, resource, target string) string {
		return fmt.Sprintf(`{"fields": [%s], "reference": {"resource": %q, "fields": [%s]}}`, fields, resource, target)
	}
	files := map[string]string{
		"days.csv": "day,name\n2024-01-01,x\n", "payments.csv": "id,at,customer\n1,2024-01-01T10:00:00,7\n", "customers.csv": "id\n7\n",
		"datapackage.json": `{"resources": [
			{"path": "days.csv", "schema": {"fields": [{"name": "day", "type": "date"}, {"name": "name"}], "primaryKey": "day"}},
			{"path": "customers.csv", "schema": {"fields": [{"name": "id", "type": "integer"}], "primaryKey": "id"}},
			{"path": "payments.csv", "schema": {"fields": [{"name": "id", "type": "integer"}, {"name": "at", "type": "datetime"}, {"name": "customer", "type": "integer"}],
			"foreignKeys": [` + strings.Join([]string{
			key(`"at"`, "days", `"day"`), key(`"customer"`, "customers", `"id"`), key(`"customer"`, "nope", `"id"`), key(`"custmer"`, "customers", `"id"`),
			key(`"id"`, "customers", `"ids"`), key(`"id"`, "customers", `"id", "id"`),
		}, ",") + `]}}]}`,
	}
	c := catalogOf(t, files, csv.Options{})
	want := []string{
		`customers_by_custmer: belongs_to [custmer] -> customers [id]: the table "payments" has no column "custmer"; the nearest is "customer"`,
		`customers_by_customer: belongs_to [customer] -> customers [id]`,
		`customers__by__id__ids: belongs_to [id] -> customers [ids]: the table "customers" has no column "ids"; the nearest is "id"`,
		`customers__by__id__id__and__id: belongs_to [id] -> customers [id id]: the columns (id) and the columns (id, id) of "customers" differ in number`,
		`days: belongs_to [at] -> days [day]: payments.at (timestamp[us]) cannot be compared with days.day (date32)`,
		`nope: belongs_to [customer] -> nope [id]: there is no table "nope"`,
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, relationsOf(c.Table("payments"))); diff != "" {
		t.Error(diff)
	}
}
