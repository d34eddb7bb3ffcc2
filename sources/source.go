// Package sources is the contract between penstock and its data sources.
//
// Read this file first: it is the specification. A source is three things:
//
//   - an [Open] function, which turns a [Config] into a [Source];
//   - a [Source], shared by streams, which shows its [Catalog] and begins sessions;
//   - a [Session], one stream's reading, which plans and scans.
//
// The same source runs linked into the host, as a process of its own, or as a
// WebAssembly module, without a line changed. What a table can do is data in
// its catalogue, never a type assertion, so it crosses every wall and no
// wrapper can hide it. The engine asks a table only for what it says it can do,
// and does the rest itself.
//
// An author without sessions or snapshots needs only [Simple], and [FromRows]
// where the data comes row by row. The package testkit checks a source against
// every rule written here.
package sources

import (
	"context"
	"iter"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Config says what to open. It crosses the wall in the open call, so no secret
// of it appears in an argument list or in an environment. Nothing in it may be
// written to a log or into an error without care: both fields can hold secrets.
type Config struct {
	// URI is the data's address as the user wrote it, without the source's name
	// where the name is a mere prefix ("csv:DIR" opens with URI "DIR"), and
	// whole where it is part of a URL ("postgres://host/db").
	URI string
	// Options are the source's own settings. A key that the source does not
	// know is an error of kind [Invalid] that names the nearest one.
	Options map[string]string
}

// Open opens a source. It should fail fast on what can never work (a bad URI,
// a missing directory, a wrong password), with an [*Error] of a fitting kind.
// What it started, it stops when it returns an error.
type Open func(ctx context.Context, c Config) (Source, error)

// Source is opened once and shared by streams: it is safe for concurrent use.
type Source interface {
	// Catalog describes the tables. The catalogue belongs to the source: callers
	// must not change it. Two calls without a change of the data's structure
	// between them give equal catalogues.
	Catalog(ctx context.Context) (*Catalog, error)

	// Begin starts the reading of one stream. The caller closes the session. The
	// context bounds Begin itself, not the session.
	Begin(ctx context.Context, env Env) (Session, error)

	// Close frees what the source holds. Every session is closed before. A second
	// Close does nothing.
	Close() error
}

// Session is one stream's reading of a source. Where the table can [CapSnapshot],
// everything that a session reads is of one moment. Plan and Scan may be called
// from several goroutines; how many scans may run at once is the table's
// [Table.Scans].
type Session interface {
	// Plan says what a scan of q would be like, and reads no rows. The query is
	// checked: a fault in it is of kind [Invalid], a missing table or column of
	// kind [NotFound].
	Plan(ctx context.Context, q *Query) (*Plan, error)

	// Scan reads. It is lazy: nothing is done before the result is ranged over,
	// and everything is undone when the range ends, however it ends. The source
	// must not keep q or change it.
	//
	// The context cancels: a scan that waits returns an error of kind [Canceled]
	// within a second of the context's end.
	Scan(ctx context.Context, q *Query) Batches

	// Close ends the session's snapshot and frees what it held. Every scan has
	// ended before. A second Close does nothing.
	Close() error
}

// Batches are the pages of one scan. A scan that succeeds yields at least one
// batch; an empty result is one batch of no rows, so that its schema is known.
// An error comes once, and last, with a zero Batch: after it nothing is
// yielded. Leaving the loop early is the way to stop, and frees everything.
//
// The sequence is single use: ranging over it again yields an [Invalid] error.
// It must be ranged over by one goroutine at a time.
type Batches = iter.Seq2[Batch, error]

// Batch is one page of a scan.
type Batch struct {
	// Record holds the rows. It belongs to the scan and is valid in its iteration
	// of the loop: Retain it to keep it longer, and Release it then.
	//
	// Its schema is the table's, or the queried columns of it in the query's
	// order: the same names, types and nullability for every batch of the scan.
	Record arrow.RecordBatch
	// Cursor resumes the scan right after this batch's last row, where the table
	// can [CapResume]; else it is nil. A batch of no rows ends where the scan began:
	// it may have the query's own cursor, and nil at the beginning.
	Cursor Cursor
	// Skipped are the records that the scan left out between the batch before and
	// this one, or among this one's rows. What it left out at its end comes with
	// a last batch, which may have no rows.
	Skipped Skipped
}

// Cursor is a place in the result of a scan: opaque outside its source. It is
// good for the same query on the same data, also in another session and in
// another process. A cursor that does not fit is refused as [Invalid].
type Cursor []byte

// Part is one of the partitions that a [Plan] names: opaque outside its source.
type Part []byte

// Env is what a session works with.
type Env struct {
	// Mem allocates every byte that batches hold: the stream's budget. It is safe
	// for concurrent use. Where it refuses, it panics with an [*Error] of kind
	// [Exhausted]; [Guard] turns that into the scan's error. A source that holds
	// much memory outside of batches should take it from here too.
	Mem memory.Allocator
	// Page is the ceiling of each page, fixed for the session. The zero value
	// means [DefaultLimits].
	Page Limits
	// Join is the [Plan.Snapshot] of another session of the same source, whose
	// moment this session is to see. Empty starts a snapshot of its own.
	Snapshot string
	// Scratch is a directory for spills, emptied after the session. Empty means
	// that there is none.
	Scratch string
	// Stream names the stream that reads, for logs; empty where it has no name.
	Stream string
	// Scans is how many scans the session will run at once at most, and no more
	// than a [Table.Scans] of what it reads; 0 means two, a scan and a look-up
	// beside it. A source whose scans cost something that is scarce, as a
	// database's connections are, sets aside so many in Begin, all together: two
	// sessions that took theirs one by one could each wait for the other's for
	// ever. It waits until they are free, and refuses as [Exhausted] what it can
	// never have.
	MaxScans int
}

// Limits bound one page.
type Limits struct {
	Bytes int64 // at most so many bytes as [Size] counts them; a page of one row may be larger
	Rows  int64 // at most so many rows
}

// DefaultLimits are what a page holds when nobody says otherwise: 1 MiB and
// 64 Ki rows.
var DefaultLimits = Limits{Bytes: 1 << 20, Rows: 64 << 10}

// OrDefault returns l with its zero fields replaced by those of
// [DefaultLimits].
func (l Limits) OrDefault() Limits {
	if l.Bytes <= 0 {
		l.Bytes = DefaultLimits.Bytes
	}
	if l.Rows <= 0 {
		l.Rows = DefaultLimits.Rows
	}
	return l
}

// Catalog describes what a source holds, in an order that does not change
// between calls.
type Catalog struct {
	Tables []Table
}

// Table returns the table of that exact name, or nil.
func (c *Catalog) Table(name string) *Table {
	for i := range c.Tables {
		if c.Tables[i].Name == name {
			return &c.Tables[i]
		}
	}
	return nil
}

// Table describes one table: what it holds, and what it can do by itself.
type Table struct {
	Name string
	// Schema has the columns with their types and nullability. A column's
	// comment and its type in the source, where there are such, are in the
	// field's metadata under [MetaComment] and [MetaType].
	Schema *arrow.Schema
	// Key is the primary key's columns; nil where there is none.
	Key []string
	// Unique are further column sets whose values identify a row.
	Unique [][]string
	// Relations lead from a row of this table to rows of others. [Relate] makes
	// them from foreign keys, with the same names for every source.
	Relations []Relation
	// Can is what the table does by itself.
	Capabilities Capability
	// Filters says, for each column, which operators the table takes in a
	// conjunct at the top of [Query.Where]. What is not here is never sent.
	Filters map[string]Ops
	// Lookups are the column sets that [Query.Keys] may name.
	Lookups []Lookup
	// Scans is how many scans may run at once in one session that asked for so
	// many by [Env.Scans]; 0 is any number.
	MaxScans int
	// Rows is an estimate of the table's rows; -1 where it is not known.
	Rows int64
	// Comment is the source's own words about the table.
	Comment string
}

// Metadata keys of a table's fields.
const (
	MetaComment = "penstock.comment" // the source's own words about the column
	MetaType    = "penstock.type"    // the column's type in the source's own terms
	// MetaDefault is what a new row has in the column where nobody gives a value,
	// and MetaGenerated how the source makes the column's values itself, both in
	// the source's own terms.
	MetaDefault   = "penstock.default"
	MetaGenerated = "penstock.generated"
)

// Column returns the index of the column of that exact name, or -1.
func (t *Table) Column(name string) int {
	if i := t.Schema.FieldIndices(name); len(i) > 0 {
		return i[0]
	}
	return -1
}

// Ability is a set of things that a table does by itself.
type Capability uint32

// The abilities. They are wire constants: append only.
const (
	CapProject   Capability = 1 << iota // takes [Query.Columns]; else every column comes, in the table's order
	CapSort                             // takes [Query.OrderBy], any columns, with the order of [Compare]
	CapLimit                            // takes [Query.Limit]
	CapResume                           // its batches carry cursors, and [Query.After] takes them
	CapStable                           // two scans of one query give the same rows in the same order while the data is the same
	CapPartition                        // its plans have [Plan.Parts], and [Query.Part] takes them
	CapSnapshot                         // a session sees one moment of it
	CapLogic                            // takes And, Or and Not over what Filters lists, not conjuncts alone
)

var abilityNames = []string{"project", "sort", "limit", "resume", "stable", "partition", "snapshot", "logic"}

// Has reports whether every ability of b is in a.
func (a Capability) Has(b Capability) bool { return a&b == b }

// String lists the abilities by name, as in "project, limit".
func (a Capability) String() string { return bitNames(uint32(a), abilityNames) }

func bitNames(bits uint32, names []string) string {
	var out []string
	for i, name := range names {
		if bits&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}

// Lookup is a set of columns that a table finds rows by.
type Lookup struct {
	Columns []string
	MaxKeys int // how many keys one query may name; 0 is any number
}

// RelationKind says how many rows a relation leads to.
type RelationKind uint8

// The kinds of relations. They are wire constants: append only.
const (
	BelongsTo  RelationKind = 1 + iota // this row holds the key of at most one other
	HasOne                             // at most one other row holds this one's key
	HasMany                            // any number of other rows hold this one's key
	ManyToMany                         // rows of a third table hold both keys
)

// String returns the kind's name, as in "belongs_to".
func (k RelationKind) String() string {
	switch k {
	case BelongsTo:
		return "belongs_to"
	case HasOne:
		return "has_one"
	case HasMany:
		return "has_many"
	case ManyToMany:
		return "many_to_many"
	}
	return "relation kind?"
}

// ToOne reports whether the relation leads to at most one row.
func (k RelationKind) ToOne() bool { return k == BelongsTo || k == HasOne }

// Relation leads from a row of its table to those rows of another table whose
// Target columns equal this row's Columns, pairwise. NULL equals nothing.
type Relation struct {
	Name          string // unique among the table's relations and columns
	Kind          RelationKind
	Columns       []string // of the table that has the relation
	TargetTable   string   // the other table
	TargetColumns []string // of the other table
	Through       *Through // of a many_to_many, else nil
}

// Through is the join table of a many_to_many relation: its Near columns equal
// [Relation.Columns], its Far columns equal [Relation.Target].
type Through struct {
	Table string
	Near  []string
	Far   []string
}

// Plan is what a session expects of a scan.
type Plan struct {
	Rows  int64 // estimate; -1 where it is not known
	Bytes int64 // estimate, as [Size] counts; -1 where it is not known
	// Version names the state of the table's data: while it is the same, so is
	// every answer. Empty where the source cannot tell.
	Version string
	// Parts are partitions that together hold every row of the result once; nil
	// where the scan cannot be divided.
	Parts []Part
	// Snapshot names the session's moment for [Env.Join] of another; empty where
	// it cannot be joined.
	Snapshot string
	// Detail is for people: how the source goes about it, as in the SQL it sends.
	// It holds no secret.
	Detail string
}
