package relation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Tree is a [query.Load] checked against a catalog: the relations that a stream
// loads, and how. It is immutable.
type Tree struct {
	catalog  *sources.Catalog
	root     *sources.Table
	pushdown bool
	Strategy query.Strategy
	MaxDepth int
	nodes    []*node // the root's relations; required ones first
	// Scanned are the columns that a scan of the root must return: those of the
	// result, followed by those that only relations need. Nil means all.
	Scanned []string
	Shown   int // how many of the scanned columns the result has
}

// node is one relation of a [Tree].
type node struct {
	branch   query.Branch
	path     string
	depth    int
	relation *sources.Relation
	required bool
	below    []*node

	near        []string   // the parent's columns, in the order of the key that they match
	nearIndexes []int      // indexes of near among the parent's scanned columns
	join        *keyAccess // of a relation through a join table: the access to that table
	farIndexes  []int      // indexes in join's schema of the columns that match the target's key
	target      *keyAccess
	fields      []arrow.Field // the columns of the related rows, which the target scans first
	// repeats means that several chunks may need the same key, so that caching its
	// rows helps.
	repeats bool
}

// keyAccess describes how the rows of a table are found by key.
type keyAccess struct {
	table    *sources.Table
	key      []string      // columns, in the order of the look-up if there is one
	keyTypes *arrow.Schema // of the key columns
	// lookup is the table's look-up by the key; nil if it has none and is scanned
	// as a whole for each chunk.
	lookup *sources.Lookup
	// pushIn means that a scan can be limited to the keys by a predicate.
	pushIn     bool
	pushed     sources.Query // without keys
	residual   query.Residual
	schema     *arrow.Schema  // of the rows that are found
	keyIndexes []int          // of the key columns in schema
	order      []sources.Sort // of the rows of one key
	limit      int            // rows of one key; 0 means no limit
	perKey     int            // limit if the table applies it; else 0
	// from names the columns that the keys come from; nil unless the look-up has
	// ordinals.
	from *sources.KeyOrigin
	// sourceOrders means that rows of a key come in the order, which the engine does not
	// know.
	sourceOrders bool
	// joinOrder means that nobody can order the rows behind a join table, so that they
	// are in the order of the rows of the join table.
	joinOrder bool
	atMostOne bool // a key has at most one row
	// filtered means that a predicate may exclude rows, so that a missing row is
	// not dangling.
	filtered     bool
	figuresIndex int // of the relation in the loader's figures
}

// HasRelations reports whether the query loads any relation.
func (t *Tree) HasRelations() bool { return len(t.nodes) > 0 }

// Resolve checks a load against the catalog and returns the tree of its relations.
// columns are the columns of table that the result has; nil means all. The zero
// strategy and a depth of 0 mean the defaults; pushdown is that of [query.Split]. The
// error reports every mistake in load and is of kind [sources.Invalid] or
// [sources.NotFound].
func Resolve(catalog *sources.Catalog, table *sources.Table, columns []string, load query.Load, strategy query.Strategy, maxDepth int, pushdown bool) (*Tree, error) {
	t := &Tree{
		catalog: catalog, root: table, pushdown: pushdown,
		Strategy: cmp.Or(strategy, query.Selective), MaxDepth: cmp.Or(maxDepth, query.DefaultMaxDepth),
	}
	r := resolver{tree: t, compile: load.Compile}
	if t.MaxDepth < 0 {
		r.errorf("MaxDepth must not be negative (got %d)", t.MaxDepth)
	}
	if !t.Strategy.Valid() {
		r.errorf("unknown strategy %d", uint8(t.Strategy))
	}
	required, err := query.MergeBranches(nil, load.Required)
	optional, err2 := query.MergeBranches(nil, load.Optional)
	if err := errors.Join(err, err2); err != nil {
		r.errs = append(r.errs, err)
	}
	if t.Strategy == query.Eager {
		// Every relation is in the record.
		if required, err = query.MergeBranches(required, optional); err != nil {
			r.errs = append(r.errs, err)
		}
		optional = nil
	}
	t.nodes = r.buildNodes(table, required, optional, parentPath{})
	if columns != nil {
		t.Scanned = slices.Clone(columns)
		t.Shown = len(t.Scanned)
	} else {
		t.Shown = table.Schema.NumFields()
	}
	for _, n := range t.nodes {
		t.Scanned, n.nearIndexes = r.columnIndexes(table, t.Scanned, n.near)
	}
	if len(r.errs) > 0 {
		kind := sources.Invalid
		if r.missing {
			kind = sources.NotFound
		}
		return nil, sources.NewError(kind, "load", table.Name, errors.Join(r.errs...))
	}
	return t, nil
}

// resolver resolves the branches of a load and collects all errors.
type resolver struct {
	tree      *Tree
	compile   func(*sources.Table, string) (sources.Predicate, error)
	errs      []error
	missing   bool // the first error is about a name that does not exist
	nodeCount int  // the number of nodes so far, and the index of the next one's figures
}

// errorf adds an error.
func (r *resolver) errorf(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

// parentPath is what a branch needs to know about its parents.
type parentPath struct {
	path    string // ends with a dot; empty for the root
	depth   int
	repeats bool // the same row may be a parent in several chunks
}

// buildNodes returns the nodes of required and optional branches. With the Eager
// strategy, it adds every other relation of the table that can be loaded.
func (r *resolver) buildNodes(table *sources.Table, required, optional []query.Branch, p parentPath) []*node {
	eager := r.tree.Strategy == query.Eager
	if eager && p.depth >= r.tree.MaxDepth {
		return nil
	}
	named := map[*sources.Relation]string{}
	required, optional = r.mergeAliases(table, required, p, named), r.mergeAliases(table, optional, p, named)
	if eager {
		names := table.RelationNames()
		for i := range table.Relations {
			if relation := &table.Relations[i]; named[relation] == "" && relation.Unusable == "" {
				required = append(required, query.Branch{Name: names[i]})
			}
		}
	}
	var nodes []*node
	for _, branch := range required {
		var below []query.Branch
		if i := slices.IndexFunc(optional, func(b query.Branch) bool { return b.Name == branch.Name }); i >= 0 {
			// The options of both apply. Relations below the optional one stay optional.
			options := optional[i]
			below, options.Below = options.Below, nil
			merged, err := query.MergeBranches([]query.Branch{branch}, []query.Branch{options})
			if err != nil {
				r.errs = append(r.errs, err)
				continue
			}
			branch = merged[0]
		}
		if n := r.buildNode(table, branch, below, true, p); n != nil {
			nodes = append(nodes, n)
		}
	}
	for _, branch := range optional {
		if slices.ContainsFunc(required, func(b query.Branch) bool { return b.Name == branch.Name }) {
			continue
		}
		if n := r.buildNode(table, branch, nil, false, p); n != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// buildNode returns the node of one relation; nil after an error.
func (r *resolver) buildNode(from *sources.Table, branch query.Branch, optional []query.Branch, required bool, p parentPath) *node {
	n := &node{branch: branch, path: p.path + branch.Name, depth: p.depth + 1, required: required}
	if n.depth > r.tree.MaxDepth {
		deepest, depth := branch.Deepest(n.path, n.depth)
		r.errorf("%s has depth %d, the limit is %d: raise the limit (MaxDepth, --max-depth), or omit the relation", deepest, depth, r.tree.MaxDepth)
		return nil
	}
	relation, err := from.FindRelation(branch.Name)
	if err != nil {
		r.nameError(n.path, err)
		return nil
	}
	n.relation = relation
	table := r.tree.catalog.Table(n.relation.TargetTable)
	if table == nil || len(n.relation.Columns) == 0 || n.relation.Kind == sources.ManyToMany && n.relation.Through == nil {
		r.errorf("%s: the relation is incomplete in the catalog", n.path)
		return nil
	}
	n.repeats = p.repeats || !coversKey(from, n.relation.Columns)
	errsBefore := len(r.errs)
	figuresIndex := r.nodeCount
	r.nodeCount++
	targets := parentPath{path: n.path + ".", depth: n.depth, repeats: n.repeats || n.relation.Kind == sources.ManyToMany}
	requiredBelow, optionalBelow := branch.Below, optional
	if !required {
		requiredBelow, optionalBelow = nil, slices.Concat(branch.Below, optional)
	}
	n.below = r.buildNodes(table, requiredBelow, optionalBelow, targets)
	through := n.relation.Through
	var join *sources.Table
	if through != nil {
		if join = r.tree.catalog.Table(through.Table); join == nil {
			r.errorf("%s: its join table %q does not exist", n.path, through.Table)
			return nil
		}
		r.checkComparable(n, from, n.relation.Columns, join, through.Near)
		r.checkComparable(n, join, through.Far, table, n.relation.TargetColumns)
	} else {
		r.checkComparable(n, from, n.relation.Columns, table, n.relation.TargetColumns)
	}
	if len(r.errs) > errsBefore {
		return nil
	}
	near := sources.KeyOrigin{Table: from.Name, Columns: n.relation.Columns}
	if through == nil {
		n.target = r.planAccess(n, table, branch, n.relation.TargetColumns, near, n.below, figuresIndex)
	} else {
		n.target = r.planAccess(n, table, branch, n.relation.TargetColumns, sources.KeyOrigin{Table: join.Name, Columns: through.Far}, n.below, figuresIndex)
		n.join = r.planAccess(n, join, query.Branch{Columns: through.Far}, through.Near, near, nil, figuresIndex)
	}
	if len(r.errs) > errsBefore {
		return nil
	}
	n.target.atMostOne = n.relation.Kind.ToOne()
	if through == nil {
		n.near = alignColumns(n.relation.Columns, n.relation.TargetColumns, n.target.key)
	} else {
		n.near = alignColumns(n.relation.Columns, through.Near, n.join.key)
		_, n.farIndexes = r.columnIndexes(join, through.Far, alignColumns(through.Far, n.relation.TargetColumns, n.target.key))
	}
	shown := len(branch.Columns)
	if branch.Columns == nil {
		shown = table.Schema.NumFields()
	}
	n.fields = n.target.schema.Fields()[:shown]
	return n
}

// alignColumns returns the columns whose partners are wanted, in the order of
// wanted.
func alignColumns(columns, partners, wanted []string) []string {
	out := make([]string, len(wanted))
	for i, name := range wanted {
		out[i] = columns[slices.Index(partners, name)]
	}
	return out
}

// coversKey reports whether the columns include a key of the table.
func coversKey(t *sources.Table, columns []string) bool {
	covers := func(key []string) bool {
		return len(key) > 0 && !slices.ContainsFunc(key, func(column string) bool { return !slices.Contains(columns, column) })
	}
	return covers(t.Key) || slices.ContainsFunc(t.Unique, covers)
}

// checkComparable checks that the columns of two tables can be compared in pairs.
func (r *resolver) checkComparable(n *node, a *sources.Table, aColumns []string, b *sources.Table, bColumns []string) {
	if len(aColumns) != len(bColumns) {
		r.errorf("%s: %d columns of %s refer to %d columns of %s", n.path, len(aColumns), a.Name, len(bColumns), b.Name)
		return
	}
	for i := range aColumns {
		x, y := a.Column(aColumns[i]), b.Column(bColumns[i])
		if x < 0 || y < 0 {
			r.errorf("%s: %s.%s or %s.%s does not exist", n.path, a.Name, aColumns[i], b.Name, bColumns[i])
			return
		}
		s, t := a.Schema.Field(x), b.Schema.Field(y)
		ordinals := lookupBy(b, bColumns) != nil && lookupBy(b, bColumns).Ordinals
		switch {
		case ordinals && !sources.Comparable(s.Type, s.Type):
			r.errorf("%s: values of %s.%s cannot be keys", n.path, a.Name, query.ShownType(s))
		case ordinals: // the source compares them
		case !sources.Comparable(sources.FieldType(s), sources.FieldType(t)):
			r.errorf("%s: %s.%s (%s) cannot be compared with %s.%s (%s)", n.path, a.Name, aColumns[i], s.Type, b.Name, bColumns[i], t.Type)
		case !sources.MeaningOf(s).CanEqual():
			r.errorf("%s: only the source can compare values of %s.%s, and it does not look up %s by %s: load the tables apart", n.path, a.Name, query.ShownType(s), b.Name, bColumns[i])
		case !sources.MeaningOf(t).CanEqual():
			r.errorf("%s: only the source can compare values of %s.%s, and it has no look-up by it: load the tables apart", n.path, b.Name, query.ShownType(t))
		}
	}
}

// columnIndexes returns columns with the wanted ones appended that were missing,
// and the indexes of the wanted ones. Nil columns are all of the table's.
func (r *resolver) columnIndexes(table *sources.Table, columns, wanted []string) ([]string, []int) {
	indexes := make([]int, len(wanted))
	for i, name := range wanted {
		if columns == nil {
			indexes[i] = table.Column(name)
			continue
		}
		if !slices.Contains(columns, name) {
			columns = append(columns, name)
		}
		indexes[i] = slices.Index(columns, name)
	}
	return columns, indexes
}

// planAccess plans how the rows of a table are found by key: what is pushed down
// to the table, and what is left to the engine. The keys come from the columns of from,
// in the order of key. It returns nil after an error.
func (r *resolver) planAccess(n *node, table *sources.Table, branch query.Branch, key []string, from sources.KeyOrigin, below []*node, figures int) *keyAccess {
	a := &keyAccess{table: table, key: key, limit: branch.Limit, figuresIndex: figures, filtered: branch.Where != nil || branch.Condition != ""}
	a.findLookup()
	from.Columns = alignColumns(from.Columns, key, a.key)
	if a.hasOrdinals() {
		a.from = &from
	}
	columns := slices.Clone(branch.Columns)
	switch {
	case n.relation.Through == nil:
		a.order = orderOf(table, branch.OrderBy, a.equalColumns())
	case n.target == nil: // behind a join table, rows of several keys are merged
		a.order = orderOf(table, branch.OrderBy, nil)
	case n.target.joinOrder:
		a.order = orderOf(table, nil, a.equalColumns())
	} // otherwise the join table's own rows need no order
	columns, a.keyIndexes = r.columnIndexes(table, columns, a.key)
	for _, b := range below {
		columns, b.nearIndexes = r.columnIndexes(table, columns, b.near)
	}
	for _, s := range a.order {
		columns, _ = r.columnIndexes(table, columns, []string{s.Column})
	}
	where := branch.Where
	if branch.Condition != "" {
		if r.compile == nil {
			r.errorf("%s: the condition %q cannot be compiled: set Load.Compile", n.path, branch.Condition)
			return nil
		}
		var err error
		if where, err = r.compile(table, branch.Condition); err != nil {
			r.errs = append(r.errs, fmt.Errorf("%s: %w", n.path, err))
			return nil
		}
	}
	undecidable := query.OrderNeedsSource(table, a.order)
	if undecidable != "" && n.relation.Through != nil && n.target == nil {
		if len(branch.OrderBy) > 0 {
			r.errorf("%s: only the source knows the order of column %s, and the rows behind a join table are put in order by the engine: order by another column", n.path, query.ShownType(table.Schema.Field(table.Column(undecidable))))
			return nil
		}
		// The order must not depend on which keys a chunk has, or which are cached.
		a.order, undecidable, a.joinOrder = nil, "", true
	}
	_, pushed, residual, err := query.Split(r.tree.catalog, sources.Query{Table: table.Name, Columns: columns, Where: where, OrderBy: branch.OrderBy}, r.tree.pushdown)
	if err != nil {
		r.missing = r.missing || len(r.errs) == 0 && sources.KindOf(err) == sources.NotFound
		r.errs = append(r.errs, fmt.Errorf("%s: %w", n.path, err))
		return nil
	}
	residual.OrderBy, pushed.OrderBy = nil, nil // a.order applies to the rows of each key
	a.pushed, a.residual = *pushed, residual
	a.schema = table.ScanSchema(residual.Columns)
	fields := make([]arrow.Field, len(a.key))
	for i, name := range a.key {
		f := table.Schema.Field(table.Column(name))
		if a.hasOrdinals() {
			asking := r.tree.catalog.Table(from.Table)
			f = asking.Schema.Field(asking.Column(from.Columns[i]))
		}
		fields[i] = arrow.Field{Name: name, Type: sources.ValueType(f.Type), Nullable: f.Nullable}
		if sources.FieldType(f) == sources.Number {
			fields[i].Metadata = arrow.MetadataFrom(sources.MeaningOf(f).Metadata())
		}
	}
	a.keyTypes = arrow.NewSchema(fields, nil)
	if undecidable != "" { // all rows of a key come in the order in which rows of all keys do
		if !table.Capabilities.Has(sources.CapSort) {
			r.errorf("%s: %w", n.path, query.RefuseOrder(table, undecidable))
			return nil
		}
		a.pushed.OrderBy, a.sourceOrders = a.order, true
	}
	// The table can apply the limit only if it knows the predicate and the order.
	if r.tree.pushdown && a.limit > 0 && n.relation.Through == nil && a.lookup != nil && residual.Where == nil && (len(a.order) == 0 || table.Capabilities.Has(sources.CapSort)) {
		a.pushed.OrderBy, a.perKey = a.order, a.limit
	}
	return a
}

// schema returns the schema of the stream's records.
func (t *Tree) schema(scanned *arrow.Schema) *arrow.Schema {
	fields := slices.Clone(scanned.Fields()[:t.Shown])
	for _, n := range t.nodes {
		if n.required {
			fields = append(fields, n.field(false))
		}
	}
	meta := scanned.Metadata()
	return arrow.NewSchema(fields, &meta)
}

// field returns the field of the relation's column, which has the name that the load
// uses. It includes the optional
// relations below if optional is true.
func (n *node) field(optional bool) arrow.Field {
	fields := slices.Clone(n.fields)
	for _, b := range n.below {
		if optional || b.required {
			fields = append(fields, b.field(optional))
		}
	}
	row := arrow.StructOf(fields...)
	if n.relation.Kind.ToOne() {
		return arrow.Field{Name: n.branch.Name, Type: row, Nullable: true}
	}
	return arrow.Field{Name: n.branch.Name, Type: arrow.ListOfField(arrow.Field{Name: "item", Type: row})}
}

// tables returns the tables that the tree reads, each once, beginning with the
// root.
func (t *Tree) tables() []*sources.Table {
	tables := []*sources.Table{t.root}
	var walk func([]*node)
	walk = func(nodes []*node) {
		for _, n := range nodes {
			for _, a := range []*keyAccess{n.join, n.target} {
				if a != nil && !slices.Contains(tables, a.table) {
					tables = append(tables, a.table)
				}
			}
			walk(n.below)
		}
	}
	walk(t.nodes)
	return tables
}

// each calls visit for each node, parents before the relations below them.
func (t *Tree) each(visit func(*node)) {
	var walk func([]*node)
	walk = func(nodes []*node) {
		for _, n := range nodes {
			visit(n)
			walk(n.below)
		}
	}
	walk(t.nodes)
}
