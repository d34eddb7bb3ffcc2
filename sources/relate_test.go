package sources

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
)

// relTable returns a table of integer columns. Those before the semicolon are its key.
func relTable(name, columns string) Table {
	key, rest, _ := strings.Cut(columns, ";")
	t := Table{Name: name, Key: strings.Fields(key)}
	var fields []arrow.Field
	for _, c := range append(strings.Fields(key), strings.Fields(rest)...) {
		fields = append(fields, arrow.Field{Name: c, Type: arrow.PrimitiveTypes.Int64})
	}
	t.Schema = arrow.NewSchema(fields, nil)
	return t
}

func fk(table, columns, target string) ForeignKey {
	return ForeignKey{Table: table, Columns: strings.Fields(columns), TargetTable: target}
}

func relText(c *Catalog) []string {
	var out []string
	for _, t := range c.Tables {
		names := t.RelationNames()
		for i, r := range t.Relations {
			s := fmt.Sprintf("%s.%s %s %s %v=%s%v", t.Name, names[i], r.Name, r.Kind, r.Columns, r.TargetTable, r.TargetColumns)
			if r.Through != nil {
				s += fmt.Sprintf(" through %s%v%v", r.Through.Table, r.Through.Near, r.Through.Far)
			}
			out = append(out, s)
		}
	}
	return out
}

func TestRelate(t *testing.T) {
	named := func(k ForeignKey, name string) ForeignKey { k.Name = name; return k }
	for _, c := range []struct {
		name   string
		tables []Table
		keys   []ForeignKey
		want   []string
	}{
		{"by the column without _id",
			[]Table{relTable("employees", "id;"), relTable("orders", "id; employee_id")},
			[]ForeignKey{fk("orders", "employee_id", "employees")},
			[]string{
				"employees.orders orders__with__employee_id has_many [id]=orders[employee_id]",
				"orders.employee employees__by__employee_id belongs_to [employee_id]=employees[id]",
			}},
		{"by the column without Id",
			[]Table{relTable("Artist", "ArtistId;"), relTable("Album", "AlbumId; ArtistId")},
			[]ForeignKey{fk("Album", "ArtistId", "Artist")},
			[]string{
				"Artist.Album Album__with__ArtistId__ArtistId has_many [ArtistId]=Album[ArtistId]",
				"Album.Artist Artist__by__ArtistId__ArtistId belongs_to [ArtistId]=Artist[ArtistId]",
			}},
		{"by the target where the column has no such end",
			[]Table{relTable("shippers", "id;"), relTable("orders", "id; ship_via")},
			[]ForeignKey{fk("orders", "ship_via", "shippers")},
			[]string{
				"shippers.orders orders__with__ship_via has_many [id]=orders[ship_via]",
				"orders.shippers shippers__by__ship_via belongs_to [ship_via]=shippers[id]",
			}},
		{"by the target and the column where the target is a column too",
			[]Table{relTable("shippers", "id;"), relTable("orders", "id; ship_via shippers")},
			[]ForeignKey{fk("orders", "ship_via", "shippers")},
			[]string{
				"shippers.orders orders__with__ship_via has_many [id]=orders[ship_via]",
				"orders.shippers_by_ship_via shippers__by__ship_via belongs_to [ship_via]=shippers[id]",
			}},
		{"by the qualified name where all is taken",
			[]Table{relTable("shippers", "id;"), relTable("orders", "id; ship_via shippers shippers_by_ship_via")},
			[]ForeignKey{fk("orders", "ship_via", "shippers")},
			[]string{
				"shippers.orders orders__with__ship_via has_many [id]=orders[ship_via]",
				"orders.shippers__by__ship_via shippers__by__ship_via belongs_to [ship_via]=shippers[id]",
			}},
		{"by the target where the key has several columns",
			[]Table{relTable("lines", "order_id line;"), relTable("returns", "id; order_id line")},
			[]ForeignKey{fk("returns", "order_id line", "lines")},
			[]string{
				"lines.returns returns__with__line__and__order_id__line__and__order_id has_many [order_id line]=returns[order_id line]",
				"returns.lines lines__by__line__and__order_id__line__and__order_id belongs_to [order_id line]=lines[order_id line]",
			}},
		{"one back where the key is the primary key",
			[]Table{relTable("users", "id;"), relTable("profile", "user_id; x")},
			[]ForeignKey{fk("profile", "user_id", "users")},
			[]string{
				"users.profile profile__with__user_id has_one [id]=profile[user_id]",
				"profile.user users__by__user_id belongs_to [user_id]=users[id]",
			}},
		{"one back where the key is unique",
			[]Table{relTable("users", "id;"), func() Table { t := relTable("profile", "id; user_id"); t.Unique = [][]string{{"user_id"}}; return t }()},
			[]ForeignKey{fk("profile", "user_id", "users")},
			[]string{
				"users.profile profile__with__user_id has_one [id]=profile[user_id]",
				"profile.user users__by__user_id belongs_to [user_id]=users[id]",
			}},
		{"back by the columns where several keys lead there",
			[]Table{relTable("employee", "id;"), relTable("customer", "id; support_rep_id sales_rep_id")},
			[]ForeignKey{fk("customer", "support_rep_id", "employee"), fk("customer", "sales_rep_id", "employee")},
			[]string{
				"employee.customer_by_sales_rep customer__with__sales_rep_id has_many [id]=customer[sales_rep_id]",
				"employee.customer_by_support_rep customer__with__support_rep_id has_many [id]=customer[support_rep_id]",
				"customer.sales_rep employee__by__sales_rep_id belongs_to [sales_rep_id]=employee[id]",
				"customer.support_rep employee__by__support_rep_id belongs_to [support_rep_id]=employee[id]",
			}},
		{"back by the columns where the table's name is a column",
			[]Table{relTable("users", "id; orders"), relTable("orders", "id; user_id")},
			[]ForeignKey{fk("orders", "user_id", "users")},
			[]string{
				"users.orders_by_user orders__with__user_id has_many [id]=orders[user_id]",
				"orders.user users__by__user_id belongs_to [user_id]=users[id]",
			}},
		{"to itself",
			[]Table{relTable("employee", "id; reports_to manager_id")},
			[]ForeignKey{fk("employee", "manager_id", "employee")},
			[]string{
				"employee.manager employee__by__manager_id belongs_to [manager_id]=employee[id]",
				"employee.employee employee__with__manager_id has_many [id]=employee[manager_id]",
			}},
		{"to itself by the table's name, and back by the column",
			[]Table{relTable("employee", "id; reports_to")},
			[]ForeignKey{fk("employee", "reports_to", "employee")},
			[]string{
				"employee.employee employee__by__reports_to belongs_to [reports_to]=employee[id]",
				"employee.employee_by_reports_to employee__with__reports_to has_many [id]=employee[reports_to]",
			}},
		{"across a join table",
			[]Table{relTable("playlist", "id;"), relTable("playlist_track", "playlist_id track_id;"), relTable("track", "id;")},
			[]ForeignKey{fk("playlist_track", "playlist_id", "playlist"), fk("playlist_track", "track_id", "track")},
			[]string{
				"playlist.playlist_track playlist_track__with__playlist_id has_many [id]=playlist_track[playlist_id]",
				"playlist.track track__through__playlist_track__playlist_id__track_id many_to_many [id]=track[id] through playlist_track[playlist_id][track_id]",
				"playlist_track.playlist playlist__by__playlist_id belongs_to [playlist_id]=playlist[id]",
				"playlist_track.track track__by__track_id belongs_to [track_id]=track[id]",
				"track.playlist_track playlist_track__with__track_id has_many [id]=playlist_track[track_id]",
				"track.playlist playlist__through__playlist_track__track_id__playlist_id many_to_many [id]=playlist[id] through playlist_track[track_id][playlist_id]",
			}},
		{"not across a table whose key is its own",
			[]Table{relTable("a", "id;"), relTable("ab", "id; a_id b_id"), relTable("b", "id;")},
			[]ForeignKey{fk("ab", "a_id", "a"), fk("ab", "b_id", "b")},
			[]string{
				"a.ab ab__with__a_id has_many [id]=ab[a_id]",
				"ab.a a__by__a_id belongs_to [a_id]=a[id]",
				"ab.b b__by__b_id belongs_to [b_id]=b[id]",
				"b.ab ab__with__b_id has_many [id]=ab[b_id]",
			}},
		{"across a join table from a table to itself",
			[]Table{relTable("person", "id;"), relTable("friend", "from_id to_id;")},
			[]ForeignKey{fk("friend", "from_id", "person"), fk("friend", "to_id", "person")},
			[]string{
				"person.friend_by_from friend__with__from_id has_many [id]=friend[from_id]",
				"person.friend_by_to friend__with__to_id has_many [id]=friend[to_id]",
				"person.person_by_to person__through__friend__from_id__to_id many_to_many [id]=person[id] through friend[from_id][to_id]",
				"person.person_by_from person__through__friend__to_id__from_id many_to_many [id]=person[id] through friend[to_id][from_id]",
				"friend.from person__by__from_id belongs_to [from_id]=person[id]",
				"friend.to person__by__to_id belongs_to [to_id]=person[id]",
			}},
		{"columns whose stems are equal",
			[]Table{relTable("a", "id;"), relTable("b", "id; x_id xId")},
			[]ForeignKey{named(fk("b", "x_id", "a"), "second"), named(fk("b", "xId", "a"), "first")},
			[]string{
				"a.b_by_xId b__with__xId has_many [id]=b[xId]",
				"a.b_by_x_id b__with__x_id has_many [id]=b[x_id]",
				"b.a_by_xId a__by__xId belongs_to [xId]=a[id]",
				"b.a_by_x_id a__by__x_id belongs_to [x_id]=a[id]",
			}},
		{"two keys over the same columns to two tables",
			[]Table{relTable("a", "id;"), relTable("b", "id;"), relTable("c", "id; x_id")},
			[]ForeignKey{fk("c", "x_id", "a"), fk("c", "x_id", "b")},
			[]string{
				"a.c c__with__x_id has_many [id]=c[x_id]",
				"b.c c__with__x_id has_many [id]=c[x_id]",
				"c.a a__by__x_id belongs_to [x_id]=a[id]",
				"c.b b__by__x_id belongs_to [x_id]=b[id]",
			}},
		{"two keys over the same column to two columns of a table",
			[]Table{relTable("a", "id; code"), relTable("b", "id; x")},
			[]ForeignKey{fk("b", "x", "a"), {Table: "b", Columns: []string{"x"}, TargetTable: "a", TargetColumns: []string{"code"}}},
			[]string{
				"a.b__with__x b__with__x has_many [id]=b[x]",
				"a.b__with__x__code b__with__x__code has_many [code]=b[x]",
				"b.a__by__x a__by__x belongs_to [x]=a[id]",
				"b.a__by__x__code a__by__x__code belongs_to [x]=a[code]",
			}},
		{"a key that is declared twice, once with its columns in another order",
			[]Table{relTable("lines", "o l;"), relTable("returns", "id; o l")},
			[]ForeignKey{named(fk("returns", "o l", "lines"), "x"), named(fk("returns", "o l", "lines"), "y"),
				{Table: "returns", Columns: []string{"l", "o"}, TargetTable: "lines", TargetColumns: []string{"l", "o"}}},
			[]string{
				"lines.returns returns__with__l__and__o__l__and__o has_many [l o]=returns[l o]",
				"returns.lines lines__by__l__and__o__l__and__o belongs_to [l o]=lines[l o]",
			}},
		{"tables that refer to each other by columns of the same name",
			[]Table{relTable("a", "id;"), relTable("b", "id;")},
			[]ForeignKey{fk("a", "id", "b"), fk("b", "id", "a")},
			[]string{
				"a.b__by__id b__by__id belongs_to [id]=b[id]",
				"a.b__with__id b__with__id has_one [id]=b[id]",
				"b.a__by__id a__by__id belongs_to [id]=a[id]",
				"b.a__with__id a__with__id has_one [id]=a[id]",
			}},
		{"names with underscores",
			[]Table{relTable("_a__b", "id;"), relTable("c", "id; a__by__x_ and")},
			[]ForeignKey{fk("c", "a__by__x_", "_a__b"), fk("c", "and", "_a__b")},
			[]string{
				"_a__b.c__with__a%5F%5Fby%5F%5Fx%5F c__with__a%5F%5Fby%5F%5Fx%5F has_many [id]=c[a__by__x_]",
				"_a__b.c_by_and c__with__%61nd has_many [id]=c[and]",
				"c.%5Fa%5F%5Fb__by__a%5F%5Fby%5F%5Fx%5F %5Fa%5F%5Fb__by__a%5F%5Fby%5F%5Fx%5F belongs_to [a__by__x_]=_a__b[id]",
				"c._a__b_by_and %5Fa%5F%5Fb__by__%61nd belongs_to [and]=_a__b[id]",
			}},
		{"across a join table that also has another key",
			[]Table{relTable("a", "id;"), relTable("ab", "a_id b_id; by_id"), relTable("b", "id;"), relTable("users", "id;")},
			[]ForeignKey{fk("ab", "a_id", "a"), fk("ab", "b_id", "b"), fk("ab", "by_id", "users")},
			[]string{
				"a.ab ab__with__a_id has_many [id]=ab[a_id]",
				"a.b b__through__ab__a_id__b_id many_to_many [id]=b[id] through ab[a_id][b_id]",
				"ab.a a__by__a_id belongs_to [a_id]=a[id]",
				"ab.b b__by__b_id belongs_to [b_id]=b[id]",
				"ab.by users__by__by_id belongs_to [by_id]=users[id]",
				"b.ab ab__with__b_id has_many [id]=ab[b_id]",
				"b.a a__through__ab__b_id__a_id many_to_many [id]=a[id] through ab[b_id][a_id]",
				"users.ab ab__with__by_id has_many [id]=ab[by_id]",
			}},
		{"to columns that are not the primary key",
			[]Table{relTable("a", "id; code"), relTable("b", "id; code")},
			[]ForeignKey{{Table: "b", Columns: []string{"code"}, TargetTable: "a", TargetColumns: []string{"code"}}},
			[]string{
				"a.b b__with__code__code has_many [code]=b[code]",
				"b.a a__by__code__code belongs_to [code]=a[code]",
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			catalog := &Catalog{Tables: c.tables}
			for range 2 { // relating again gives the same
				if err := Relate(catalog, c.keys); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want, relText(catalog)); diff != "" {
					t.Error(diff)
				}
			}
			for _, table := range catalog.Tables {
				for i, name := range table.RelationNames() {
					for _, name := range []string{name, table.Relations[i].Name} {
						if r, err := table.FindRelation(name); r != &table.Relations[i] {
							t.Errorf("%s.%s leads to %v, %v", table.Name, name, r, err)
						}
					}
				}
			}
		})
	}
}

// TestRelateSpoiled checks that a key that cannot be followed spoils its own relations and
// no others.
func TestRelateSpoiled(t *testing.T) {
	typed := func(name string, types ...arrow.DataType) Table {
		var fields []arrow.Field
		for i, typ := range types {
			fields = append(fields, arrow.Field{Name: string(rune('x' + i)), Type: typ})
		}
		return Table{Name: name, Schema: arrow.NewSchema(fields, nil)}
	}
	numbers := arrow.Field{Name: "x", Type: arrow.BinaryTypes.String, Metadata: arrow.MetadataFrom(Meaning{Equality: ByNumber, Order: ByNumber}.Metadata())}
	days, times := arrow.FixedWidthTypes.Date32, &arrow.TimestampType{Unit: arrow.Microsecond}
	for _, c := range []struct {
		key  ForeignKey
		want string
	}{
		{fk("b", "a_id", "nope"), `there is no table "nope"`},
		{fk("b", "aid", "a"), `the table "b" has no column "aid"; the nearest is "id"`},
		{fk("b", "a_id a_id", "a"), `the columns (a_id, a_id) and the columns (id) of "a" differ in number`},
		{fk("b", "a_id", "keyless"), `the table "keyless" has no primary key, and the key names no columns of it`},
		{ForeignKey{Table: "b", Columns: []string{"a_id"}, TargetTable: "a", TargetColumns: []string{"di"}}, `the table "a" has no column "di"; the nearest is "id"`},
		{ForeignKey{Table: "times", Columns: []string{"x"}, TargetTable: "days", TargetColumns: []string{"x"}}, "times.x (timestamp[us]) cannot be compared with days.x (date32)"},
		{ForeignKey{Table: "days", Columns: []string{"x"}, TargetTable: "times", TargetColumns: []string{"x"}}, "days.x (date32) cannot be compared with times.x (timestamp[us])"},
		{ForeignKey{Table: "intervals", Columns: []string{"x"}, TargetTable: "intervals", TargetColumns: []string{"x"}}, "intervals.x (month_day_nano_interval) cannot be compared with intervals.x (month_day_nano_interval)"},
		{ForeignKey{Table: "lists", Columns: []string{"x"}, TargetTable: "lists", TargetColumns: []string{"x"}}, "lists.x (list<item: int64, nullable>) cannot be compared with lists.x (list<item: int64, nullable>)"},
		{ForeignKey{Table: "numbers", Columns: []string{"x"}, TargetTable: "a", TargetColumns: []string{"id"}}, ""},
		{ForeignKey{Table: "numbers", Columns: []string{"x"}, TargetTable: "texts", TargetColumns: []string{"x"}}, "numbers.x (number) cannot be compared with texts.x (utf8)"},
		{ForeignKey{Table: "b", Columns: []string{"a_id"}, TargetTable: "c", TargetColumns: []string{"id"}, Unusable: "the source says so"}, "the source says so"},
	} {
		catalog := &Catalog{Tables: []Table{
			relTable("a", "id;"), relTable("b", "id; a_id"), relTable("c", "id;"), relTable("keyless", "; id"),
			typed("days", days), typed("times", times), typed("intervals", arrow.FixedWidthTypes.MonthDayNanoInterval),
			typed("lists", arrow.ListOf(arrow.PrimitiveTypes.Int64)), typed("texts", arrow.BinaryTypes.String),
			{Name: "numbers", Schema: arrow.NewSchema([]arrow.Field{numbers}, nil)},
			relTable("ac", "a_id c_id;"),
		}}
		sound := []ForeignKey{fk("ac", "a_id", "a"), fk("ac", "c_id", "c")}
		if err := Relate(catalog, append(sound, c.key)); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"ac", "c"} {
			if r, err := catalog.Table("a").FindRelation(name); err != nil || r.Unusable != "" {
				t.Errorf("%s: a.%s is %v, %v", c.want, name, r, err)
			}
		}
		found := 0
		for i := range catalog.Tables {
			table := &catalog.Tables[i]
			for _, r := range table.Relations {
				if r.Kind == ManyToMany || r.TargetTable == "ac" || table.Name == "ac" {
					continue
				}
				found++
				_, err := table.FindRelation(r.Name)
				if r.Unusable != c.want || (err == nil) != (c.want == "") || err != nil && (KindOf(err) != Invalid || !strings.HasSuffix(err.Error(), "cannot be loaded: "+c.want)) {
					t.Errorf("%s.%s: %q, want %q; to find it gives %v", table.Name, r.Name, r.Unusable, c.want, err)
				}
			}
		}
		if ends := 2; found != ends && (c.key.TargetTable != "nope" || found != 1) {
			t.Errorf("%s: %d relations", c.want, found)
		}
	}
}

// TestRelateSpoiledAcross checks that a join table with a key that cannot be followed
// spoils the relations across it.
func TestRelateSpoiledAcross(t *testing.T) {
	catalog := &Catalog{Tables: []Table{relTable("a", "id;"), relTable("ac", "a_id c_id;"), relTable("c", "id;")}}
	keys := []ForeignKey{fk("ac", "a_id", "a"), {Table: "ac", Columns: []string{"c_id"}, TargetTable: "c", TargetColumns: []string{"nope"}}}
	if err := Relate(catalog, keys); err != nil {
		t.Fatal(err)
	}
	for table, name := range map[string]string{"a": "c", "c": "a", "ac": "c"} {
		if _, err := catalog.Table(table).FindRelation(name); KindOf(err) != Invalid || !strings.Contains(err.Error(), `the table "c" has no column "nope"`) {
			t.Errorf("%s.%s: %v", table, name, err)
		}
	}
	if _, err := catalog.Table("a").FindRelation("ac"); err != nil {
		t.Error(err)
	}
}

func TestRelateErrors(t *testing.T) {
	for _, c := range []struct {
		key  ForeignKey
		want string
	}{
		{fk("x", "a_id", "a"), `foreign key x_a_id_fkey: there is no table "x"`},
		{fk("a", "", "a"), "it has no columns"},
	} {
		catalog := &Catalog{Tables: []Table{relTable("a", "id;")}}
		err := Relate(catalog, []ForeignKey{c.key})
		if KindOf(err) != Invalid || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
