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
		for _, r := range t.Relations {
			s := fmt.Sprintf("%s.%s %s %v=%s%v", t.Name, r.Name, r.Kind, r.Columns, r.TargetTable, r.TargetColumns)
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
			[]string{"employees.orders has_many [id]=orders[employee_id]", "orders.employee belongs_to [employee_id]=employees[id]"}},
		{"by the column without Id",
			[]Table{relTable("Artist", "ArtistId;"), relTable("Album", "AlbumId; ArtistId")},
			[]ForeignKey{fk("Album", "ArtistId", "Artist")},
			[]string{"Artist.Album has_many [ArtistId]=Album[ArtistId]", "Album.Artist belongs_to [ArtistId]=Artist[ArtistId]"}},
		{"by the target where the column has no such end",
			[]Table{relTable("shippers", "id;"), relTable("orders", "id; ship_via")},
			[]ForeignKey{fk("orders", "ship_via", "shippers")},
			[]string{"shippers.orders has_many [id]=orders[ship_via]", "orders.shippers belongs_to [ship_via]=shippers[id]"}},
		{"by the target and the column where the target is a column too",
			[]Table{relTable("shippers", "id;"), relTable("orders", "id; ship_via shippers")},
			[]ForeignKey{fk("orders", "ship_via", "shippers")},
			[]string{"shippers.orders has_many [id]=orders[ship_via]", "orders.shippers_by_ship_via belongs_to [ship_via]=shippers[id]"}},
		{"by a number where all is taken",
			[]Table{relTable("shippers", "id;"), relTable("orders", "id; ship_via shippers shippers_by_ship_via shippers_by_ship_via_2")},
			[]ForeignKey{fk("orders", "ship_via", "shippers")},
			[]string{"shippers.orders has_many [id]=orders[ship_via]", "orders.shippers_by_ship_via_3 belongs_to [ship_via]=shippers[id]"}},
		{"by the target where the key has several columns",
			[]Table{relTable("lines", "order_id line;"), relTable("returns", "id; order_id line")},
			[]ForeignKey{fk("returns", "order_id line", "lines")},
			[]string{"lines.returns has_many [order_id line]=returns[order_id line]", "returns.lines belongs_to [order_id line]=lines[order_id line]"}},
		{"one back where the key is the primary key",
			[]Table{relTable("users", "id;"), relTable("profile", "user_id; x")},
			[]ForeignKey{fk("profile", "user_id", "users")},
			[]string{"users.profile has_one [id]=profile[user_id]", "profile.user belongs_to [user_id]=users[id]"}},
		{"one back where the key is unique",
			[]Table{relTable("users", "id;"), func() Table { t := relTable("profile", "id; user_id"); t.Unique = [][]string{{"user_id"}}; return t }()},
			[]ForeignKey{fk("profile", "user_id", "users")},
			[]string{"users.profile has_one [id]=profile[user_id]", "profile.user belongs_to [user_id]=users[id]"}},
		{"back by the columns where several keys lead there",
			[]Table{relTable("employee", "id;"), relTable("customer", "id; support_rep_id sales_rep_id")},
			[]ForeignKey{fk("customer", "support_rep_id", "employee"), fk("customer", "sales_rep_id", "employee")},
			[]string{
				"employee.customer_by_sales_rep has_many [id]=customer[sales_rep_id]", "employee.customer_by_support_rep has_many [id]=customer[support_rep_id]",
				"customer.sales_rep belongs_to [sales_rep_id]=employee[id]", "customer.support_rep belongs_to [support_rep_id]=employee[id]"}},
		{"back by the columns where the table's name is a column",
			[]Table{relTable("users", "id; orders"), relTable("orders", "id; user_id")},
			[]ForeignKey{fk("orders", "user_id", "users")},
			[]string{"users.orders_by_user has_many [id]=orders[user_id]", "orders.user belongs_to [user_id]=users[id]"}},
		{"to itself",
			[]Table{relTable("employee", "id; reports_to manager_id")},
			[]ForeignKey{fk("employee", "manager_id", "employee")},
			[]string{"employee.manager belongs_to [manager_id]=employee[id]", "employee.employee has_many [id]=employee[manager_id]"}},
		{"to itself by the table's name, and back by the column",
			[]Table{relTable("employee", "id; reports_to")},
			[]ForeignKey{fk("employee", "reports_to", "employee")},
			[]string{"employee.employee belongs_to [reports_to]=employee[id]", "employee.employee_by_reports_to has_many [id]=employee[reports_to]"}},
		{"across a join table",
			[]Table{relTable("playlist", "id;"), relTable("playlist_track", "playlist_id track_id;"), relTable("track", "id;")},
			[]ForeignKey{fk("playlist_track", "playlist_id", "playlist"), fk("playlist_track", "track_id", "track")},
			[]string{
				"playlist.playlist_track has_many [id]=playlist_track[playlist_id]",
				"playlist.track many_to_many [id]=track[id] through playlist_track[playlist_id][track_id]",
				"playlist_track.playlist belongs_to [playlist_id]=playlist[id]",
				"playlist_track.track belongs_to [track_id]=track[id]",
				"track.playlist_track has_many [id]=playlist_track[track_id]",
				"track.playlist many_to_many [id]=playlist[id] through playlist_track[track_id][playlist_id]"}},
		{"not across a table whose key is its own",
			[]Table{relTable("a", "id;"), relTable("ab", "id; a_id b_id"), relTable("b", "id;")},
			[]ForeignKey{fk("ab", "a_id", "a"), fk("ab", "b_id", "b")},
			[]string{"a.ab has_many [id]=ab[a_id]", "ab.a belongs_to [a_id]=a[id]", "ab.b belongs_to [b_id]=b[id]", "b.ab has_many [id]=ab[b_id]"}},
		{"across a join table from a table to itself",
			[]Table{relTable("person", "id;"), relTable("friend", "from_id to_id;")},
			[]ForeignKey{fk("friend", "from_id", "person"), fk("friend", "to_id", "person")},
			[]string{
				"person.friend_by_from has_many [id]=friend[from_id]", "person.friend_by_to has_many [id]=friend[to_id]",
				"person.person many_to_many [id]=person[id] through friend[from_id][to_id]",
				"person.person_by_friend many_to_many [id]=person[id] through friend[to_id][from_id]",
				"friend.from belongs_to [from_id]=person[id]", "friend.to belongs_to [to_id]=person[id]"}},
		{"the first name to the first constraint",
			[]Table{relTable("a", "id;"), relTable("b", "id; x_id xId")},
			[]ForeignKey{named(fk("b", "x_id", "a"), "second"), named(fk("b", "xId", "a"), "first")},
			[]string{"a.b_by_x has_many [id]=b[xId]", "a.b_by_x_2 has_many [id]=b[x_id]", "b.x belongs_to [xId]=a[id]", "b.a belongs_to [x_id]=a[id]"}},
		{"to columns that are not the primary key",
			[]Table{relTable("a", "id; code"), relTable("b", "id; code")},
			[]ForeignKey{{Table: "b", Columns: []string{"code"}, TargetTable: "a", TargetColumns: []string{"code"}}},
			[]string{"a.b has_many [code]=b[code]", "b.a belongs_to [code]=a[code]"}},
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
				for i := range table.Relations {
					if r := &table.Relations[i]; table.Relation(r.Name) != r {
						t.Errorf("%s.%s is there twice", table.Name, r.Name)
					}
				}
			}
		})
	}
}

func TestRelateErrors(t *testing.T) {
	text := relTable("text", "id;")
	text.Schema = arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}}, nil)
	for _, c := range []struct {
		key  ForeignKey
		want string
	}{
		{fk("x", "a_id", "a"), `foreign key x_a_id_fkey: there is no table "x"`},
		{fk("b", "a_id", "x"), `there is no target table "x"`},
		{fk("b", "x", "a"), `there is no column "x"`},
		{fk("b", "a_id a_id", "a"), "2 columns refer to 1"},
		{fk("b", "", "a"), "0 columns refer to 1"},
		{fk("b", "a_id", "keyless"), "1 columns refer to 0"},
		{ForeignKey{Table: "b", Columns: []string{"a_id"}, TargetTable: "a", TargetColumns: []string{"y"}}, `table "a" has no column "y"`},
		{fk("b", "a_id", "text"), "a_id (int64) cannot be compared with text.id (utf8)"},
	} {
		catalog := &Catalog{Tables: []Table{relTable("a", "id;"), relTable("b", "id; a_id"), relTable("keyless", "; id"), text}}
		err := Relate(catalog, []ForeignKey{c.key})
		if KindOf(err) != Invalid || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
