package relation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Tree is a [query.Load] that was held against a catalogue: what a stream loads,
// and how. It does not change once it is made.
type Tree struct {
	catalog  *sources.Catalog
	root     *sources.Table
	Strategy query.Strategy
	MaxDepth int
	Nodes    []*node // of the root's relations; the required ones first
	// Scanned are the root's columns that its scan must give: the result's first,
	// then those that only relations need. Nil is all.
	Scanned []string
	Shown   int // how many of them are the result's
}

// node is one relation of the tree.
type node struct {
	branch   query.Branch
	path     string
	depth    int
	relation *sources.Relation
	required bool
	below    []*node

	near   []string   // the parent's columns, in the order of the key that they are held against
	keys   []int      // the places of near among the scanned columns of the parent
	join   *keyAccess // of a relation through a table: the rows of that
	far    []int      // the places in join's schema of the target's key
	target *keyAccess
	fields []arrow.Field // of the related rows that are given; the first so many that the target scans
	// repeats says that one key may be asked for in several chunks, so that it is
	// worth remembering.
	repeats bool
}

// keyAccess says how rows of a table are found by keys.
type keyAccess struct {
	table *sources.Table
	key   []string // in the order of the look-up, where there is one
	types *arrow.Schema
	// lookup is what the table takes; nil where it has none for the key, and is
	// scanned as a whole for each chunk.
	lookup *sources.Lookup
	// pushIn says that a scan can name its keys in a condition.
	pushIn     bool
	asked      sources.Query
	rest       query.Residual
	schema     *arrow.Schema  // of the rows that are found
	keyIndexes []int          // of the key's columns in it
	order      []sources.Sort // of the rows of one key
	limit      int            // of them; 0 is none
	perKey     int            // the limit, where the table keeps it
	single     bool           // a key has at most one row
	// filtered says that rows may be missing because nobody wants them.
	filtered bool
	figures  int // the number of the relation in the receipt
}

// Resolve checks a load against the catalog and returns the tree of its relations.
// columns are those of table that the result has; nil means all. A strategy or a
// depth of 0 is the default. The error names everything that is wrong.
func Resolve(catalog *sources.Catalog, table *sources.Table, columns []string, load query.Load, strategy query.Strategy, maxDepth int) (*Tree, error) {
	t := &Tree{
		catalog: catalog, root: table,
		Strategy: cmp.Or(strategy, query.Selective), MaxDepth: cmp.Or(maxDepth, query.DefaultMaxDepth),
	}
	r := resolver{tree: t, compile: load.Compile}
	if t.MaxDepth < 0 {
		r.fault("a depth of %d", t.MaxDepth)
	}
	if !t.Strategy.Valid() {
		r.fault("%s is no strategy", t.Strategy)
	}
	required, err := query.MergeBranches(nil, load.Required)
	optional, err2 := query.MergeBranches(nil, load.Optional)
	if err := errors.Join(err, err2); err != nil {
		r.faults = append(r.faults, err)
	}
	if t.Strategy == query.Eager {
		// Everything is in the record, so that nothing is left for later.
		if required, err = query.MergeBranches(required, optional); err != nil {
			r.faults = append(r.faults, err)
		}
		optional = nil
	}
	t.Nodes = r.branches(table, required, optional, parentPath{})
	if columns != nil {
		t.Scanned = slices.Clone(columns)
		t.Shown = len(t.Scanned)
	} else {
		t.Shown = table.Schema.NumFields()
	}
	for _, n := range t.Nodes {
		t.Scanned, n.keys = r.columnIndexes(table, t.Scanned, n.near)
	}
	if len(r.faults) > 0 {
		kind := sources.Invalid
		if r.missing {
			kind = sources.NotFound
		}
		return nil, &sources.Error{Op: "load", Table: table.Name, Kind: kind, Err: errors.Join(r.faults...)}
	}
	return t, nil
}

type resolver struct {
	tree    *Tree
	compile func(*sources.Table, string) (sources.Predicate, error)
	faults  []error
	missing bool // the first fault is a name that does not exist
	count   int
}

func (r *resolver) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf(format, args...))
}

// parentPath is what a branch must know of those above it.
type parentPath struct {
	path    string // with a dot at its end; empty at the top
	depth   int
	repeats bool // the same row may be a parent in several chunks
}

// branches makes nodes of required branches and optional ones, and with the eager
// strategy of every other relation of the table.
func (r *resolver) branches(table *sources.Table, required, optional []query.Branch, p parentPath) []*node {
	eager := r.tree.Strategy == query.Eager
	if eager {
		if p.depth >= r.tree.MaxDepth {
			return nil
		}
		required = slices.Clone(required)
		for _, relation := range table.Relations {
			if !slices.ContainsFunc(required, func(l query.Branch) bool { return l.Name == relation.Name }) {
				required = append(required, query.Branch{Name: relation.Name})
			}
		}
	}
	var nodes []*node
	for _, branch := range required {
		var below []query.Branch
		if i := slices.IndexFunc(optional, func(l query.Branch) bool { return l.Name == branch.Name }); i >= 0 {
			// The options count for both; what is below the optional one is optional.
			options := optional[i]
			below, options.Below = options.Below, nil
			merged, err := query.MergeBranches([]query.Branch{branch}, []query.Branch{options})
			if err != nil {
				r.faults = append(r.faults, err)
				continue
			}
			branch = merged[0]
		}
		if n := r.node(table, branch, below, true, p); n != nil {
			nodes = append(nodes, n)
		}
	}
	for _, branch := range optional {
		if slices.ContainsFunc(required, func(l query.Branch) bool { return l.Name == branch.Name }) {
			continue
		}
		if n := r.node(table, branch, nil, false, p); n != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// node makes one relation's node; nil where there is a fault.
func (r *resolver) node(from *sources.Table, branch query.Branch, optional []query.Branch, required bool, p parentPath) *node {
	n := &node{branch: branch, path: p.path + branch.Name, depth: p.depth + 1, required: required}
	if n.depth > r.tree.MaxDepth {
		deepest, depth := branch.Deepest(n.path, n.depth)
		r.fault("%s is %d deep, the limit is %d: raise the limit (MaxDepth, --max-depth), or leave it out", deepest, depth, r.tree.MaxDepth)
		return nil
	}
	n.relation = from.Relation(branch.Name)
	if n.relation == nil {
		r.missing = r.missing || len(r.faults) == 0
		var names []string
		for _, relation := range from.Relations {
			names = append(names, relation.Name)
		}
		nearest := sources.Suggest(branch.Name, names)
		if len(names) == 0 {
			nearest = "; it has none"
		}
		r.fault("%s: table %q has no relation %q%s", n.path, from.Name, branch.Name, nearest)
		return nil
	}
	table := r.tree.catalog.Table(n.relation.TargetTable)
	if table == nil || len(n.relation.Columns) == 0 || n.relation.Kind == sources.ManyToMany && n.relation.Through == nil {
		r.fault("%s: the relation is not whole in the catalogue", n.path)
		return nil
	}
	n.repeats = p.repeats || !identifies(from, n.relation.Columns)
	before := len(r.faults)
	figure := r.count
	r.count++
	targets := parentPath{path: n.path + ".", depth: n.depth, repeats: n.repeats || n.relation.Kind == sources.ManyToMany}
	requiredBelow, optionalBelow := branch.Below, optional
	if !required {
		requiredBelow, optionalBelow = nil, slices.Concat(branch.Below, optional)
	}
	n.below = r.branches(table, requiredBelow, optionalBelow, targets)
	through := n.relation.Through
	var join *sources.Table
	if through != nil {
		if join = r.tree.catalog.Table(through.Table); join == nil {
			r.fault("%s: there is no table %q to go through", n.path, through.Table)
			return nil
		}
		r.comparable(n, from, n.relation.Columns, join, through.Near)
		r.comparable(n, join, through.Far, table, n.relation.TargetColumns)
	} else {
		r.comparable(n, from, n.relation.Columns, table, n.relation.TargetColumns)
	}
	if len(r.faults) > before {
		return nil
	}
	n.target = r.access(n, table, branch, n.relation.TargetColumns, n.below, figure)
	if through != nil {
		n.join = r.access(n, join, query.Branch{Columns: through.Far}, through.Near, nil, figure)
	}
	if len(r.faults) > before {
		return nil
	}
	n.target.single = n.relation.Kind.ToOne()
	if through == nil {
		n.near = paired(n.relation.Columns, n.relation.TargetColumns, n.target.key)
	} else {
		n.near = paired(n.relation.Columns, through.Near, n.join.key)
		_, n.far = r.columnIndexes(join, through.Far, paired(through.Far, n.relation.TargetColumns, n.target.key))
	}
	shown := len(branch.Columns)
	if branch.Columns == nil {
		shown = table.Schema.NumFields()
	}
	n.fields = n.target.schema.Fields()[:shown]
	return n
}

// paired returns the columns whose partners are wanted, in that order.
func paired(columns, partners, wanted []string) []string {
	out := make([]string, len(wanted))
	for i, w := range wanted {
		out[i] = columns[slices.Index(partners, w)]
	}
	return out
}

// identifies reports whether the columns hold a key of the table.
func identifies(t *sources.Table, columns []string) bool {
	holds := func(key []string) bool {
		return len(key) > 0 && !slices.ContainsFunc(key, func(k string) bool { return !slices.Contains(columns, k) })
	}
	return holds(t.Key) || slices.ContainsFunc(t.Unique, holds)
}

func (r *resolver) comparable(n *node, a *sources.Table, as []string, b *sources.Table, bs []string) {
	if len(as) != len(bs) {
		r.fault("%s: %d columns of %s point to %d of %s", n.path, len(as), a.Name, len(bs), b.Name)
		return
	}
	for i := range as {
		x, y := a.Column(as[i]), b.Column(bs[i])
		if x < 0 || y < 0 {
			r.fault("%s: the relation is between columns that do not exist: %s.%s, %s.%s", n.path, a.Name, as[i], b.Name, bs[i])
			return
		}
		if s, t := a.Schema.Field(x).Type, b.Schema.Field(y).Type; !sources.Comparable(s, t) {
			r.fault("%s: %s.%s (%s) does not compare with %s.%s (%s)", n.path, a.Name, as[i], s, b.Name, bs[i], t)
		}
	}
}

// columnIndexes returns the columns with those behind them that are missing, and where
// the needed ones are among them. Nil columns are all of the table's.
func (r *resolver) columnIndexes(table *sources.Table, columns, needed []string) ([]string, []int) {
	places := make([]int, len(needed))
	for i, name := range needed {
		if columns == nil {
			places[i] = table.Column(name)
			continue
		}
		if !slices.Contains(columns, name) {
			columns = append(columns, name)
		}
		places[i] = slices.Index(columns, name)
	}
	return columns, places
}

// access plans how rows of a table are found by a key: what the table is asked
// for, and what is left to the engine.
func (r *resolver) access(n *node, table *sources.Table, branch query.Branch, key []string, below []*node, figure int) *keyAccess {
	a := &keyAccess{table: table, key: key, limit: branch.Limit, figures: figure, filtered: branch.Where != nil || branch.Condition != ""}
	a.findLookup()
	columns := slices.Clone(branch.Columns)
	switch {
	case n.relation.Through == nil: // what is equal for all rows of a key does not order them
		a.order = orderOf(table, branch.OrderBy, a.key)
	case n.target == nil: // across a join table the rows of many keys come together
		a.order = orderOf(table, branch.OrderBy, nil)
	} // and the join table's own rows need no order
	columns, a.keyIndexes = r.columnIndexes(table, columns, a.key)
	for _, b := range below {
		columns, b.keys = r.columnIndexes(table, columns, b.near)
	}
	for _, s := range a.order {
		columns, _ = r.columnIndexes(table, columns, []string{s.Column})
	}
	where := branch.Where
	if branch.Condition != "" {
		if r.compile == nil {
			r.fault("%s: nothing says how the condition %q is read", n.path, branch.Condition)
			return nil
		}
		var err error
		if where, err = r.compile(table, branch.Condition); err != nil {
			r.faults = append(r.faults, fmt.Errorf("%s: %w", n.path, err))
			return nil
		}
	}
	_, asked, rest, err := query.Split(r.tree.catalog, sources.Query{Table: table.Name, Columns: columns, Where: where, OrderBy: branch.OrderBy})
	if err != nil {
		r.missing = r.missing || len(r.faults) == 0 && sources.KindOf(err) == sources.NotFound
		r.faults = append(r.faults, fmt.Errorf("%s: %w", n.path, err))
		return nil
	}
	rest.OrderBy, asked.OrderBy = nil, nil // of each key's rows, not of the whole
	a.asked, a.rest = *asked, rest
	a.schema = table.ScanSchema(rest.Columns)
	fields := make([]arrow.Field, len(a.key))
	for i, name := range a.key {
		f := table.Schema.Field(table.Column(name))
		fields[i] = arrow.Field{Name: name, Type: rows.ValueType(f.Type), Nullable: f.Nullable}
	}
	a.types = arrow.NewSchema(fields, nil)
	// The first rows of each key are the table's to choose only where it knows
	// which rows count, and in which order.
	if a.limit > 0 && n.relation.Through == nil && a.lookup != nil && rest.Where == nil && (len(a.order) == 0 || table.Capabilities.Has(sources.CapSort)) {
		a.asked.OrderBy, a.perKey = a.order, a.limit
	}
	return a
}

// orderOf is the order of the rows of one key: the one that is asked for, then
// the table's key, without what is the same for all of them.
func orderOf(table *sources.Table, asked []sources.Sort, key []string) []sources.Sort {
	var order []sources.Sort
	add := func(s sources.Sort) {
		if !slices.Contains(key, s.Column) && !slices.ContainsFunc(order, func(o sources.Sort) bool { return o.Column == s.Column }) {
			order = append(order, s)
		}
	}
	for _, s := range asked {
		add(s)
	}
	for _, column := range table.Key {
		if i := table.Column(column); i >= 0 && sources.Comparable(table.Schema.Field(i).Type, table.Schema.Field(i).Type) {
			add(sources.Sort{Column: column})
		}
	}
	return order
}

// findLookup finds a look-up by the key's columns, in whatever order it has
// them, and brings the key into its order.
func (a *keyAccess) findLookup() {
	for i := range a.table.Lookups {
		l := &a.table.Lookups[i]
		if len(l.Columns) != len(a.key) || slices.ContainsFunc(l.Columns, func(c string) bool { return !slices.Contains(a.key, c) }) {
			continue
		}
		a.lookup, a.key = l, l.Columns
		return
	}
	a.pushIn = len(a.key) == 1 && a.table.Filters[a.key[0]].Has(sources.OpIn)
}

// schema is that of the stream's records.
func (t *Tree) schema(scanned *arrow.Schema) *arrow.Schema {
	fields := slices.Clone(scanned.Fields()[:t.Shown])
	for _, n := range t.Nodes {
		if n.required {
			fields = append(fields, n.field(false))
		}
	}
	meta := scanned.Metadata()
	return arrow.NewSchema(fields, &meta)
}

// field is the relation's column: with the optional relations below it, or
// without.
func (n *node) field(optional bool) arrow.Field {
	fields := slices.Clone(n.fields)
	for _, b := range n.below {
		if optional || b.required {
			fields = append(fields, b.field(optional))
		}
	}
	row := arrow.StructOf(fields...)
	if n.relation.Kind.ToOne() {
		return arrow.Field{Name: n.relation.Name, Type: row, Nullable: true}
	}
	return arrow.Field{Name: n.relation.Name, Type: arrow.ListOfField(arrow.Field{Name: "item", Type: row})}
}

// tables are those that the tree reads, each once, the root's first.
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
	walk(t.Nodes)
	return tables
}

// each visits every node, parents first.
func (t *Tree) each(visit func(*node)) {
	var walk func([]*node)
	walk = func(nodes []*node) {
		for _, n := range nodes {
			visit(n)
			walk(n.below)
		}
	}
	walk(t.Nodes)
}
