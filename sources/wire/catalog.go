package wire

import (
	"fmt"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

type catalogJSON struct {
	Tables   []tableJSON `json:"tables"`
	Identity text        `json:"identity,omitempty"`
	// Unreadable has for each table its name, and the kind and the text of its error.
	Unreadable []errorJSON `json:"unreadable,omitzero"`
}

type tableJSON struct {
	Name text `json:"name"`
	// Either Schema, an Arrow schema message, or Columns, for sources without an Arrow
	// library.
	Schema    []byte              `json:"schema,omitempty"`
	Columns   []columnJSON        `json:"columns,omitempty"`
	Key       []text              `json:"key,omitzero"`
	Unique    [][]text            `json:"unique,omitzero"`
	Relations []relationJSON      `json:"relations,omitzero"`
	Can       []string            `json:"can,omitempty"`
	Filters   map[string][]string `json:"filters,omitzero"`
	Lookups   []lookupJSON        `json:"lookups,omitzero"`
	Scans     int                 `json:"scans,omitzero"`
	Rows      *int64              `json:"rows,omitempty"`
	Pending   bool                `json:"pending,omitzero"`
	Comment   prose               `json:"comment,omitempty"`
	Denied    map[string]prose    `json:"denied,omitzero"`
}

type columnJSON struct {
	Name     string   `json:"name"`
	Type     dataType `json:"type"`
	Required bool     `json:"required,omitzero"` // it holds no NULL
	Comment  string   `json:"comment,omitempty"`
}

type relationJSON struct {
	Name     text         `json:"name"`
	Aliases  []text       `json:"aliases,omitzero"`
	Unusable prose        `json:"unusable,omitempty"`
	Kind     string       `json:"kind"`
	Columns  []text       `json:"columns"`
	Table    text         `json:"table"`
	Target   []text       `json:"target"`
	Through  *throughJSON `json:"through,omitempty"`
}

type throughJSON struct {
	Table text   `json:"table"`
	Near  []text `json:"near"`
	Far   []text `json:"far"`
}

type lookupJSON struct {
	Columns  []text `json:"columns"`
	Keys     int    `json:"keys,omitzero"`
	Ordinals bool   `json:"ordinals,omitzero"`
}

var abilityNames = [...]string{"project", "sort", "limit", "resume", "stable", "partition", "snapshot", "logic"}

var relationKinds = map[string]sources.RelationKind{
	"belongs_to": sources.BelongsTo, "has_one": sources.HasOne, "has_many": sources.HasMany, "many_to_many": sources.ManyToMany,
}

func catalogOut(c *sources.Catalog) (*catalogJSON, error) {
	if err := sources.CheckCatalog(c); err != nil {
		return nil, cause(err)
	}
	c = sources.NormalizeCatalog(c)
	out := &catalogJSON{Tables: make([]tableJSON, len(c.Tables)), Identity: text(c.Identity)}
	for _, t := range c.Unreadable {
		out.Unreadable = append(out.Unreadable, errorJSON{Table: prose(t.Table), Kind: t.Kind.String(), Message: prose(t.Reason)})
	}
	for i := range c.Tables {
		t, err := tableOut(&c.Tables[i])
		if err != nil {
			return nil, fmt.Errorf("table %q: %w", c.Tables[i].Name, cause(err))
		}
		out.Tables[i] = t
	}
	return out, nil
}

func tableOut(t *sources.Table) (tableJSON, error) {
	schema, err := MarshalSchema(t.Schema)
	if err != nil {
		return tableJSON{}, err
	}
	out := tableJSON{
		Name: text(t.Name), Schema: schema, Key: texts(t.Key), Scans: t.MaxScans, Rows: &t.Rows, Comment: prose(t.Comment), Pending: t.Pending,
	}
	if t.Denied != nil {
		out.Denied = make(map[string]prose, len(t.Denied))
	}
	for column, reason := range t.Denied {
		if !utf8.ValidString(column) {
			return out, fmt.Errorf("the column name %q is not UTF-8", column)
		}
		out.Denied[column] = prose(reason)
	}
	if t.Unique != nil {
		out.Unique = make([][]text, len(t.Unique))
	}
	for i, u := range t.Unique {
		out.Unique[i] = texts(u)
	}
	if t.Relations != nil {
		out.Relations = make([]relationJSON, len(t.Relations))
	}
	for i, r := range t.Relations {
		out.Relations[i] = relationJSON{
			Name: text(r.Name), Aliases: texts(r.Aliases), Unusable: prose(r.Unusable), Kind: r.Kind.String(),
			Columns: texts(r.Columns), Table: text(r.TargetTable), Target: texts(r.TargetColumns),
		}
		if r.Through != nil {
			out.Relations[i].Through = &throughJSON{Table: text(r.Through.Table), Near: texts(r.Through.Near), Far: texts(r.Through.Far)}
		}
	}
	for i, name := range abilityNames {
		if t.Capabilities.Has(1 << i) {
			out.Can = append(out.Can, name)
		}
	}
	if t.Filters != nil {
		out.Filters = make(map[string][]string, len(t.Filters))
	}
	for column, ops := range t.Filters {
		if !utf8.ValidString(column) {
			return out, fmt.Errorf("the column name %q is not UTF-8", column)
		}
		names := []string{}
		for o, name := range opNames {
			if ops.Has(sources.Op(o)) {
				names = append(names, name)
			}
		}
		out.Filters[column] = names
	}
	if t.Lookups != nil {
		out.Lookups = make([]lookupJSON, len(t.Lookups))
	}
	for i, l := range t.Lookups {
		out.Lookups[i] = lookupJSON{Columns: texts(l.Columns), Keys: l.MaxKeys, Ordinals: l.Ordinals}
	}
	return out, nil
}

// maxShown is how much of a name an error shows, in bytes.
const maxShown = 256

// catalog decodes the catalog and checks that all tables and columns that it refers to
// exist.
func (in *catalogJSON) catalog() (*sources.Catalog, error) {
	c := &sources.Catalog{Tables: make([]sources.Table, len(in.Tables)), Identity: string(in.Identity)}
	for _, t := range in.Unreadable {
		c.Unreadable = append(c.Unreadable, sources.TableError{Table: string(t.Table), Kind: parseKind(t.Kind), Reason: string(t.Message)})
	}
	seen := make(map[string]int, len(in.Tables))
	for i := range in.Tables {
		t, err := in.Tables[i].table()
		if err != nil {
			return nil, fmt.Errorf("table %q: %w", sources.Clip(t.Name, maxShown), cause(err))
		}
		if _, twice := seen[t.Name]; twice {
			return nil, fmt.Errorf("duplicate table %q", t.Name)
		}
		seen[t.Name], c.Tables[i] = i, t
	}
	if err := sources.CheckCatalog(c); err != nil {
		return nil, err
	}
	for i := range c.Tables {
		names := make(map[string]bool, len(c.Tables[i].Relations))
		for _, r := range c.Tables[i].Relations {
			if names[r.Name] {
				return nil, fmt.Errorf("table %q: duplicate relation %q", c.Tables[i].Name, r.Name)
			}
			names[r.Name] = true
			if r.Unusable != "" {
				continue // it may name a table or a column that does not exist
			}
			if err := checkRelation(c, seen, &c.Tables[i], r); err != nil {
				return nil, fmt.Errorf("table %q: relation %q: %w", c.Tables[i].Name, r.Name, err)
			}
		}
	}
	return c, nil
}

func (in *tableJSON) table() (sources.Table, error) {
	t := sources.Table{
		Name: string(in.Name), Key: stringsOf(in.Key), MaxScans: in.Scans, Rows: orUnknown(in.Rows), Comment: string(in.Comment), Pending: in.Pending,
	}
	var err error
	if t.Schema, err = in.schema(); err != nil {
		return t, err
	}
	if err := sources.CheckCatalog(&sources.Catalog{Tables: []sources.Table{t}}); err != nil {
		return t, cause(err)
	}
	if in.Scans < 0 {
		return t, fmt.Errorf("MaxScans must not be negative (got %d)", in.Scans)
	}
	if in.Denied != nil {
		t.Denied = make(map[string]string, len(in.Denied))
	}
	for column, reason := range in.Denied {
		t.Denied[column] = string(reason)
	}
	if in.Unique != nil {
		t.Unique = make([][]string, len(in.Unique))
	}
	for i, u := range in.Unique {
		t.Unique[i] = stringsOf(u)
	}
	for i, r := range in.Relations {
		if t.Relations == nil {
			t.Relations = make([]sources.Relation, 0, len(in.Relations))
		}
		kind, ok := relationKinds[r.Kind]
		if !ok {
			continue // a kind that a newer peer knows; this program cannot follow such a relation
		}
		rel := sources.Relation{
			Name: string(r.Name), Aliases: stringsOf(r.Aliases), Unusable: string(r.Unusable), Kind: kind,
			Columns: stringsOf(r.Columns), TargetTable: string(r.Table), TargetColumns: stringsOf(r.Target),
		}
		if th := in.Relations[i].Through; th != nil {
			rel.Through = &sources.Through{Table: string(th.Table), Near: stringsOf(th.Near), Far: stringsOf(th.Far)}
		}
		t.Relations = append(t.Relations, rel)
	}
	for i, name := range abilityNames {
		for _, can := range in.Can {
			if can == name {
				t.Capabilities |= 1 << i
			}
		}
	}
	if in.Filters != nil {
		t.Filters = make(map[string]sources.Ops, len(in.Filters))
	}
	for column, names := range in.Filters {
		if len(column) > sources.MaxName {
			return t, fmt.Errorf("a filter names a column of %d bytes, but the limit is %d", len(column), sources.MaxName)
		}
		var ops sources.Ops
		for _, name := range names {
			if o, ok := parseOp(name); ok {
				ops |= sources.OpsOf(o)
			}
		}
		t.Filters[column] = ops
	}
	if in.Lookups != nil {
		t.Lookups = make([]sources.Lookup, len(in.Lookups))
	}
	for i, l := range in.Lookups {
		if l.Keys < 0 {
			return t, fmt.Errorf("the number of keys of a lookup must not be negative (got %d)", l.Keys)
		}
		t.Lookups[i] = sources.Lookup{Columns: stringsOf(l.Columns), MaxKeys: l.Keys, Ordinals: l.Ordinals}
	}
	return t, checkTable(&t)
}

func (in *tableJSON) schema() (*arrow.Schema, error) {
	if in.Schema != nil {
		if in.Columns != nil {
			return nil, fmt.Errorf("it has both a schema and columns")
		}
		return UnmarshalSchema(in.Schema)
	}
	if in.Columns == nil {
		return nil, fmt.Errorf("it has no columns")
	}
	fields := make([]arrow.Field, len(in.Columns))
	for i, c := range in.Columns {
		if c.Type.DataType == nil {
			return nil, fmt.Errorf("column %q has no type", c.Name)
		}
		fields[i] = arrow.Field{Name: c.Name, Type: c.Type.DataType, Nullable: !c.Required}
		meta := map[string]string{}
		if c.Type.DataType == sources.Number {
			fields[i].Type = arrow.BinaryTypes.String
			meta = sources.Meaning{Equality: sources.ByNumber, Order: sources.ByNumber}.Metadata()
		}
		if c.Comment != "" {
			meta[sources.MetaComment] = c.Comment
		}
		if len(meta) > 0 {
			fields[i].Metadata = arrow.MetadataFrom(meta)
		}
	}
	return arrow.NewSchema(fields, nil), nil
}

func checkTable(t *sources.Table) error {
	for i, f := range t.Schema.Fields() {
		if t.Column(f.Name) != i {
			return fmt.Errorf("duplicate column %q", f.Name)
		}
	}
	if err := haveColumns(t, "key", t.Key); err != nil {
		return err
	}
	for _, u := range t.Unique {
		if err := haveColumns(t, "unique key", u); err != nil {
			return err
		}
	}
	for _, l := range t.Lookups {
		if len(l.Columns) == 0 {
			return fmt.Errorf("a lookup has no columns")
		}
		if err := haveColumns(t, "lookup", l.Columns); err != nil {
			return err
		}
	}
	for column := range t.Filters {
		if err := haveColumns(t, "filter", []string{column}); err != nil {
			return err
		}
	}
	return nil
}

func haveColumns(t *sources.Table, what string, columns []string) error {
	for _, c := range columns {
		if t.Column(c) < 0 {
			return fmt.Errorf("%s: there is no column %q", what, c)
		}
	}
	return nil
}

func checkRelation(c *sources.Catalog, tables map[string]int, t *sources.Table, r sources.Relation) error {
	ends := func(name string, columns []string, as int) error {
		i, ok := tables[name]
		if !ok {
			return fmt.Errorf("there is no table %q", name)
		}
		if len(columns) != as {
			return fmt.Errorf("%d columns of %q correspond to %d columns", len(columns), name, as)
		}
		return haveColumns(&c.Tables[i], name, columns)
	}
	if len(r.Columns) == 0 {
		return fmt.Errorf("it has no columns")
	}
	if err := ends(t.Name, r.Columns, len(r.Columns)); err != nil {
		return err
	}
	if (r.Through != nil) != (r.Kind == sources.ManyToMany) {
		return fmt.Errorf("a relation must have a join table if and only if it is many_to_many")
	}
	if r.Through == nil {
		return ends(r.TargetTable, r.TargetColumns, len(r.Columns))
	}
	if err := ends(r.TargetTable, r.TargetColumns, len(r.Through.Far)); err != nil {
		return err
	}
	if err := ends(r.Through.Table, r.Through.Near, len(r.Columns)); err != nil {
		return err
	}
	return ends(r.Through.Table, r.Through.Far, len(r.TargetColumns))
}
