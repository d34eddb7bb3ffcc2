package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/sources"
)

// catalog is the catalog with the information for making SQL.
type catalog struct {
	*sources.Catalog
	tables    map[string]*table
	operators keyOperators
}

// table is what the source knows about a table beyond its description in the catalog. It is
// immutable.
type table struct {
	oid     uint32
	from    string // quoted, with its schema
	columns map[string]*column
	order   []string // the key that ends the order of every scan; nil if there is none
	// heap tells that scans can use the physical order: the table is a plain table or a
	// materialized view, and sessions have a snapshot.
	heap bool
	// inherited tells that the table also has the rows of tables that inherit from it.
	inherited bool
	// stored tells that all rows are in tables and materialized views of this database.
	stored bool
	denied string // why the role may not read it; otherwise empty
}

// catalogLoader loads a catalog.
type catalogLoader struct {
	s            *source
	c            *catalog
	index        map[uint32]int              // indexes of the tables in the catalog, by OID
	columns      map[uint32]map[int16]string // names by number of the columns that may be read
	hidden       map[uint32]map[int16]string // names by number of the others
	oids         []uint32
	columnInfos  []columnInfo // in the order of the tables
	columnTables []uint32     // the table of each of columnInfos
	types        types
	foreign      []sources.ForeignKey
}

func (s *source) load(ctx context.Context, tx pgx.Tx) (*catalog, error) {
	l := &catalogLoader{
		s: s, c: &catalog{Catalog: &sources.Catalog{}, tables: map[string]*table{}, operators: keyOperators{}},
		index: map[uint32]int{}, columns: map[uint32]map[int16]string{}, hidden: map[uint32]map[int16]string{}, types: types{},
	}
	for _, step := range []func(context.Context, pgx.Tx) error{l.loadTables, l.loadColumns, l.loadTypes, l.loadConstraints} {
		if err := step(ctx, tx); err != nil {
			return nil, err
		}
	}
	if err := l.c.CheckForeignKeys(s.options.foreign); err != nil {
		return nil, err
	}
	l.foreign = append(l.foreign, s.options.foreign...)
	if err := sources.Relate(l.c.Catalog, l.foreign); err != nil {
		return nil, err
	}
	for i := range l.c.Tables {
		l.finishTable(&l.c.Tables[i])
	}
	var err error
	l.c.Identity, err = s.identity(ctx, tx)
	return l.c, err
}

func (l *catalogLoader) loadTables(ctx context.Context, tx pgx.Tx) error {
	o := &l.s.options
	rows, err := tx.Query(ctx, tablesSQL, o.schema, append([]string{}, o.schemas...))
	if err != nil {
		return err
	}
	var (
		oid                             uint32
		schema, name, kind, comment     string
		estimate                        float64
		heap, inherited, readable, used bool
		stored                          bool
	)
	_, err = pgx.ForEachRow(rows, []any{&oid, &schema, &name, &kind, &estimate, &comment, &heap, &inherited, &readable, &used, &stored}, func() error {
		valid := utf8.ValidString(schema) && utf8.ValidString(name)
		shown := shownName(validText(schema), validText(name), o.schema)
		t := sources.Table{Name: shown, Rows: -1, Comment: validText(comment), MaxScans: o.connections}
		own := &table{oid: oid, from: quote(schema, name), columns: map[string]*column{}, heap: heap && !inherited && o.snapshot == snapshotStrict, inherited: inherited, stored: stored}
		switch {
		case !valid:
			own.denied = "its name is not valid UTF-8; rename it, or read it through a view"
		case !used:
			own.denied = fmt.Sprintf("the role has no USAGE privilege on the schema %q", schema)
		case !readable:
			own.denied = "the role has no SELECT privilege on it"
		default:
			t.Capabilities |= sources.CapProject | sources.CapLimit | sources.CapLogic
			if l.s.utf8 {
				t.Capabilities |= sources.CapSort
			}
			if o.snapshot == snapshotStrict && kind != "f" { // a foreign table does not follow the snapshot
				t.Capabilities |= sources.CapSnapshot
			}
		}
		if own.denied != "" {
			t.Comment = addNote(t.Comment, "may not be read: "+own.denied)
		}
		if kind != "v" && !inherited && estimate >= 0 {
			t.Rows = int64(estimate)
		}
		l.index[oid] = len(l.c.Tables)
		l.oids = append(l.oids, oid)
		l.columns[oid] = map[int16]string{}
		l.c.Tables = append(l.c.Tables, t)
		l.c.tables[shown] = own
		return nil
	})
	return err
}

// shownName returns the name of a table in the catalog. It does not depend on other
// tables, and no two tables have the same: what contains dots, or begins as if it were
// quoted, is quoted.
func shownName(schema, name, unqualified string) string {
	special := func(s string) bool { return strings.Contains(s, ".") || strings.HasPrefix(s, `"`) }
	switch {
	case schema == unqualified && special(name):
		return quote(name)
	case schema == unqualified:
		return name
	case special(schema) || special(name):
		return quote(schema, name)
	}
	return schema + "." + name
}

// validText returns a text with escapes in place of what is not valid UTF-8. A server that
// does not know the encoding of its text may send any bytes.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

// addNote adds a note of the source to the comment of a table.
func addNote(comment, words string) string {
	if comment == "" {
		return words
	}
	return comment + " (" + words + ")"
}

func (l *catalogLoader) loadColumns(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, columnsSQL, l.oids)
	if err != nil {
		return err
	}
	var (
		relation uint32
		number   int16
		readable bool
	)
	i := columnInfo{infinities: l.s.version >= 140000}
	scan := []any{&relation, &number, &i.name, &i.oid, &i.typmod, &i.shown, &i.nullable, &i.comment, &i.blind, &i.bytewise, &i.defaults, &i.generated, &readable}
	_, err = pgx.ForEachRow(rows, scan, func() error {
		if denied := l.c.tables[l.table(relation).Name].denied; denied == "" && (!readable || !utf8.ValidString(i.name)) {
			l.hide(relation, number, i.name, readable)
			return nil
		}
		for _, text := range []*string{&i.name, &i.shown, &i.comment, &i.defaults, &i.generated} {
			*text = validText(*text)
		}
		l.columns[relation][number] = i.name
		l.columnInfos, l.columnTables = append(l.columnInfos, i), append(l.columnTables, relation)
		return nil
	})
	for i := range l.c.Tables {
		if t := &l.c.Tables[i]; t.Denied != nil {
			names := slices.Sorted(maps.Keys(t.Denied))
			for i, name := range names {
				names[i] = strconv.Quote(name)
			}
			t.Comment = addNote(t.Comment, "may not be read: the columns "+strings.Join(names, ", "))
		}
	}
	return err
}

// hide leaves out a column that may not be read, or that has no valid name.
func (l *catalogLoader) hide(relation uint32, number int16, name string, readable bool) {
	t, reason := l.table(relation), "the role has no SELECT privilege on it"
	if readable {
		reason = "its name is not valid UTF-8; rename it, or read it through a view"
	}
	if t.Denied == nil {
		t.Denied, l.hidden[relation] = map[string]string{}, map[int16]string{}
	}
	name = validText(name)
	t.Denied[name], l.hidden[relation][number] = reason, name
}

func (l *catalogLoader) table(oid uint32) *sources.Table { return &l.c.Tables[l.index[oid]] }

// loadTypes loads the types of the columns and makes the columns.
func (l *catalogLoader) loadTypes(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, typesSQL, l.oids)
	if err != nil {
		return err
	}
	var (
		oid  uint32
		t    typeInfo
		send *string
	)
	scan := []any{&oid, &t.name, &t.kind, &t.base, &t.typmod, &t.elem, &send, &t.output, &t.plain, &t.labels, &t.quoted, &t.operators, &t.fieldNames, &t.fieldTypes, &t.fieldMods}
	_, err = pgx.ForEachRow(rows, scan, func() error {
		info := t
		info.name = validText(info.name)
		for i, name := range info.fieldNames {
			info.fieldNames[i] = validText(name)
		}
		if info.send = ""; send != nil {
			info.send = *send
		}
		l.types[oid] = &info
		t.labels, t.operators, t.fieldNames, t.fieldTypes, t.fieldMods = nil, nil, nil, nil, nil
		return nil
	})
	if err != nil {
		return fmt.Errorf("types: %w", err)
	}
	fields := make([][]arrow.Field, len(l.c.Tables))
	for i, info := range l.columnInfos {
		at := l.index[l.columnTables[i]]
		c := newColumn(info, l.types, l.optionsOf(at, &info))
		l.c.tables[l.c.Tables[at].Name].columns[info.name] = c
		fields[at] = append(fields[at], c.field)
	}
	for i := range fields {
		l.c.Tables[i].Schema = arrow.NewSchema(fields[i], nil)
	}
	return l.checkNumericOptions()
}

// names returns the names of columns, or nil if one of them may not be read.
func (l *catalogLoader) names(relation uint32, numbers []int16) []string {
	names := make([]string, len(numbers))
	for i, n := range numbers {
		name, ok := l.columns[relation][n]
		if !ok {
			return nil
		}
		names[i] = name
	}
	return names
}

func (l *catalogLoader) loadConstraints(ctx context.Context, tx pgx.Tx) error {
	for _, sql := range []string{constraintsSQL, partitionKeysSQL} {
		if err := l.loadKeys(ctx, tx, sql); err != nil {
			return fmt.Errorf("constraints: %w", err)
		}
	}
	return nil
}

// loadKeys adds the keys that a query returns.
func (l *catalogLoader) loadKeys(ctx context.Context, tx pgx.Tx, sql string) error {
	rows, err := tx.Query(ctx, sql, l.oids)
	if err != nil {
		return err
	}
	var (
		relation, target  uint32
		name, kind        string
		numbers, targeted []int16
		operators         []string
		lefts, rights     []string
	)
	_, err = pgx.ForEachRow(rows, []any{&relation, &name, &kind, &target, &numbers, &targeted, &operators, &lefts, &rights}, func() error {
		if kind == "f" {
			l.addForeign(validText(name), relation, numbers, target, targeted)
			l.addOperators(relation, numbers, target, targeted, operators, lefts, rights)
			return nil
		}
		t := l.table(relation)
		columns := l.names(relation, numbers)
		if columns == nil {
			return nil
		}
		// A parent table also has the rows of its children, which its keys do not cover.
		inherited := l.c.tables[t.Name].inherited
		switch {
		case kind == "p" && !inherited:
			t.Key = columns
		case kind == "u" && !inherited && !slices.ContainsFunc(t.Unique, func(u []string) bool { return slices.Equal(u, columns) }):
			t.Unique = append(t.Unique, columns)
		}
		return nil
	})
	return err
}

// finishTable sets the capabilities, filters and lookups of a table.
func (l *catalogLoader) finishTable(t *sources.Table) {
	own := l.c.tables[t.Name]
	if own.denied != "" {
		return
	}
	required := func(names []string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return own.columns[name].field.Nullable })
	}
	if own.order = t.Key; own.order == nil || !required(own.order) {
		own.order = nil
		if i := slices.IndexFunc(t.Unique, required); i >= 0 {
			own.order = t.Unique[i]
		}
	}
	if own.order != nil || own.heap {
		t.Capabilities |= sources.CapResume | sources.CapStable
	}
	if own.heap && l.s.version >= 140000 { // older servers read the whole table for a range of ctids
		t.Capabilities |= sources.CapPartition
	}
	t.Filters = map[string]sources.Ops{}
	add := func(columns []string) {
		takes := func(name string) bool { return !t.Filters[name].Has(sources.OpIn) }
		if len(columns) > 0 && t.Lookup(columns) == nil && !slices.ContainsFunc(columns, takes) {
			t.Lookups = append(t.Lookups, sources.Lookup{Columns: columns, Ordinals: l.comparedByServer(t, columns)})
		}
	}
	for _, f := range t.Schema.Fields() {
		t.Filters[f.Name] = own.columns[f.Name].ops(l.s.utf8)
	}
	add(t.Key)
	for _, columns := range t.Unique {
		add(columns)
	}
	for _, k := range l.foreign {
		if k.Table == t.Name {
			add(k.Columns)
		}
		if k.TargetTable == t.Name {
			add(k.TargetColumns)
		}
	}
	for _, f := range t.Schema.Fields() {
		add([]string{f.Name})
	}
}

// addOperators keeps the operators of a foreign key, if both of its ends are in the catalog.
func (l *catalogLoader) addOperators(relation uint32, numbers []int16, target uint32, targeted []int16, names, lefts, rights []string) {
	if _, ok := l.index[target]; !ok {
		return
	}
	columns, far := l.names(relation, numbers), l.names(target, targeted)
	if columns != nil && far != nil {
		l.c.operators.add(l.table(relation).Name, columns, l.table(target).Name, far, names, lefts, rights)
	}
}

// comparedByServer reports whether only the server can tell which rows of a table have a
// key in the columns: because of their types, or because a foreign key compares them with
// columns of another equality.
func (l *catalogLoader) comparedByServer(t *sources.Table, columns []string) bool {
	own := l.c.tables[t.Name].columns
	if slices.ContainsFunc(columns, func(name string) bool { return !own[name].meaning.CanEqual() }) {
		return true
	}
	same := func(names []string) bool {
		return len(names) == len(columns) && !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(columns, name) })
	}
	return slices.ContainsFunc(l.foreign, func(k sources.ForeignKey) bool {
		near, far := k.Table == t.Name && same(k.Columns), k.TargetTable == t.Name && same(k.TargetColumns)
		if !near && !far {
			return false
		}
		if l.c.tables[k.Table] == nil || l.c.tables[k.TargetTable] == nil || len(k.Columns) != len(k.TargetColumns) {
			return false // a key that the user declared, and that leads nowhere
		}
		for i := range k.Columns {
			a, b := l.c.tables[k.Table].columns[k.Columns[i]], l.c.tables[k.TargetTable].columns[k.TargetColumns[i]]
			if a != nil && b != nil && !sameEquality(a, b) {
				return true
			}
		}
		return false
	})
}

// sameEquality reports whether the engine can compare values of two columns as a foreign
// key between them does. For example, that compares a numeric with a float as a float, so
// that it finds equal what differs.
func sameEquality(a, b *column) bool {
	kind := func(c *column) uint32 {
		switch c.base {
		case oidInt2, oidInt4, oidInt8:
			return oidNumeric
		case oidFloat4:
			return oidFloat8
		case oidVarchar, oidName:
			return oidText
		}
		return c.base
	}
	// A number of any size can be NaN, which a numeric that is read as a decimal can be on the
	// server, but not in the engine.
	exact := func(c *column) bool { return c.meaning.Equality == sources.ByNumber }
	if a.base == oidNumeric && b.base == oidNumeric && exact(a) != exact(b) {
		return false
	}
	return a.meaning.CanEqual() && b.meaning.CanEqual() && kind(a) == kind(b)
}
