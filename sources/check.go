package sources

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
)

// Check checks a query and returns its table. A missing table or column is an error
// of kind [NotFound], and a column that may not be read one of kind [Denied]; a feature that the table does not declare is an error of kind
// [Invalid]. The error lists all faults. A source calls Check at the beginning of
// Plan and Scan, and need not check the query further.
func (c *Catalog) Check(q *Query) (*Table, error) {
	t := c.Table(q.Table)
	if t == nil {
		return nil, c.NoTable(q.Table)
	}
	if t.Pending {
		return nil, Errorf(Invalid, "", q.Table, "its columns are not known: ask for the catalog with sources.ForTables")
	}
	check := checker{table: t}
	check.query(q)
	if len(check.faults) == 0 {
		return t, nil
	}
	return nil, NewError(check.kind, "", q.Table, errors.Join(check.faults...))
}

type checker struct {
	table  *Table
	kind   Kind // the kind of the first fault
	faults []error
}

func (c *checker) fault(kind Kind, format string, args ...any) {
	if len(c.faults) == 0 {
		c.kind = kind
	}
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

// maxSuggestions bounds how many faults of a query name the nearest column, which is
// compared with every column.
const maxSuggestions = 5

// column returns a column, or false if there is none.
func (c *checker) column(name, where string) (arrow.Field, bool) {
	i := c.table.Column(name)
	if i < 0 {
		err := c.table.noColumn(name, len(c.faults) < maxSuggestions)
		c.fault(err.Kind, "%s: %w", where, err.Err)
		return arrow.Field{}, false
	}
	return c.table.Schema.Field(i), true
}

func (c *checker) can(a Capability, what string, asked bool) {
	if asked && !c.table.Capabilities.Has(a) {
		c.fault(Invalid, "%s: the table does not support it", what)
	}
}

func (c *checker) query(q *Query) {
	c.can(CapProject, "columns", q.Columns != nil)
	seen := make(map[string]bool, len(q.Columns))
	for _, name := range q.Columns {
		c.column(name, "columns")
		if seen[name] {
			c.fault(Invalid, "columns: %q is there twice", name)
		}
		seen[name] = true
	}
	for _, p := range Conjuncts(q.Where) {
		before := len(c.faults)
		Leaves(p, c.leaf)
		if len(c.faults) == before && !c.table.Accepts(p) {
			c.fault(Invalid, "where: the table does not accept %s", p)
		}
	}
	if q.Keys != nil {
		c.keys(q.Keys)
	}
	c.can(CapSort, "order", len(q.OrderBy) > 0)
	for _, s := range q.OrderBy {
		f, ok := c.column(s.Column, "order")
		if ok && !Comparable(f.Type, f.Type) && MeaningOf(f).CanOrder() {
			c.fault(Invalid, "order: values of column %q (%s) cannot be compared", s.Column, f.Type)
		}
	}
	c.can(CapLimit, "limit", q.Limit != 0)
	if q.Limit < 0 {
		c.fault(Invalid, "limit: %d is negative", q.Limit)
	}
	c.can(CapResume, "cursor", q.After != nil)
	c.can(CapPartition, "partition", q.Part != nil)
}

func (c *checker) leaf(p Predicate) {
	column, op, _ := Leaf(p)
	f, ok := c.column(column, "where")
	if !ok {
		return
	}
	t := FieldType(f)
	literal := func(v Value) {
		if !v.IsNull() && (!Comparable(v.Type, t) || !arrow.TypeEqual(ValueType(v.Type), t)) {
			c.fault(Invalid, "where: the literal %s in %s has type %s, but the column has type %s", v, p, v.Type, t)
		}
	}
	switch p := p.(type) {
	case Comparison:
		if op > OpGe {
			c.fault(Invalid, "where: %s is not a comparison", op)
		}
		literal(p.Value)
	case In:
		for _, v := range p.Values {
			literal(v)
		}
	case HasPrefix, Like:
		if classOf(f.Type) != textClass {
			c.fault(Invalid, "where: %s wants text, column %q is %s", p, column, f.Type)
		}
	}
}

func (c *checker) keys(k *Keys) {
	lookup := c.table.Lookup(k.Columns)
	if lookup == nil {
		c.fault(Invalid, "keys: the table has no lookup by %q", k.Columns)
		return
	}
	if k.Values == nil || int(k.Values.NumCols()) != len(k.Columns) {
		c.fault(Invalid, "keys: the values must have a column for each of %q", k.Columns)
		return
	}
	if most := lookup.MaxKeys; most > 0 && k.Values.NumRows() > int64(most) {
		c.fault(Invalid, "keys: %d keys, but the table accepts at most %d", k.Values.NumRows(), most)
	}
	for i, name := range k.Columns {
		f, ok := c.column(name, "keys")
		if given := k.Values.Schema().Field(i); ok && !lookup.Ordinals && !arrow.TypeEqual(FieldType(f), FieldType(given)) {
			c.fault(Invalid, "keys: the values for %q have type %s, but the column has type %s", name, FieldType(given), FieldType(f))
		}
	}
	if k.From != nil && len(k.From.Columns) != len(k.Columns) {
		c.fault(Invalid, "keys: %d columns come from %d columns of table %q", len(k.Columns), len(k.From.Columns), k.From.Table)
	}
	if k.LimitPerKey < 0 {
		c.fault(Invalid, "keys: the limit of rows for each key must not be negative (got %d)", k.LimitPerKey)
	}
}

// NoTable returns the error for a name that is not among the tables: that of
// [Catalog.Unreadable] if there is one, otherwise one of kind [NotFound].
func (c *Catalog) NoTable(name string) *Error {
	for _, t := range c.Unreadable {
		if t.Table == name {
			return NewError(t.Kind, "", name, errors.New(t.Reason))
		}
	}
	return NewError(NotFound, "", name, errors.New("there is no such table"+Suggest(name, c.tableNames())))
}

func (c *Catalog) tableNames() []string {
	names := make([]string, len(c.Tables))
	for i := range c.Tables {
		names[i] = c.Tables[i].Name
	}
	return names
}

// NoColumn returns the error for a name that is no column of the table: of kind [Denied]
// for one of [Table.Denied], otherwise [NotFound].
func (t *Table) NoColumn(name string) *Error { return t.noColumn(name, true) }

// noColumn is NoColumn. With nearest, it names the nearest column.
func (t *Table) noColumn(name string, nearest bool) *Error {
	if reason, ok := t.Denied[name]; ok {
		return NewError(Denied, "", "", fmt.Errorf("column %q may not be read: %s", name, reason))
	}
	suggestion := ""
	if nearest {
		suggestion = Suggest(name, t.columns())
	}
	return NewError(NotFound, "", "", fmt.Errorf("there is no column %q%s", name, suggestion))
}

func (t *Table) columns() []string {
	names := make([]string, t.Schema.NumFields())
	for i := range names {
		names[i] = t.Schema.Field(i).Name
	}
	return names
}

// ScanSchema returns the schema of the batches of a scan: that of the given columns,
// or if columns is nil that of the table. The columns must exist; see
// [Catalog.Check].
func (t *Table) ScanSchema(columns []string) *arrow.Schema {
	if columns == nil {
		return t.Schema
	}
	fields := make([]arrow.Field, len(columns))
	for i, name := range columns {
		fields[i] = t.Schema.Field(t.Column(name))
	}
	meta := t.Schema.Metadata()
	return arrow.NewSchema(fields, &meta)
}

// Lookup returns the lookup by the columns, in that order, or nil.
func (t *Table) Lookup(columns []string) *Lookup {
	for i := range t.Lookups {
		if slices.Equal(t.Lookups[i].Columns, columns) {
			return &t.Lookups[i]
		}
	}
	return nil
}

// QuerySchema returns the schema of the batches of a scan of q: the [Table.ScanSchema]
// of its columns, with [OrdinalColumn] if its keys have ordinals. The query must be
// valid; see [Catalog.Check].
func (t *Table) QuerySchema(q *Query) *arrow.Schema {
	schema := t.ScanSchema(q.Columns)
	if q.Keys == nil {
		return schema
	}
	if l := t.Lookup(q.Keys.Columns); l == nil || !l.Ordinals {
		return schema
	}
	fields := append(slices.Clone(schema.Fields()), arrow.Field{Name: OrdinalColumn, Type: arrow.PrimitiveTypes.Int32})
	meta := schema.Metadata()
	return arrow.NewSchema(fields, &meta)
}
