// Package sources defines the interface between the engine and its data sources.
//
// The documentation of this package is the specification for authors of sources.
// A source consists of:
//
//   - an [Open] function, which opens a [Config] and returns a [Source];
//   - a [Source], which is shared by streams, has a [Catalog] and begins sessions;
//   - a [Session], in which one stream plans and scans.
//
// The same code runs linked into the host, as a separate process, and as a
// WebAssembly module. A table declares its capabilities as data in the catalog,
// not by implementing optional interfaces, so that they work in every isolation
// mode and through wrappers. The engine pushes down only what a table declares,
// and does the rest itself.
//
// A source that needs neither sessions nor snapshots can be made by [Simple], and
// a scan that produces single rows by [FromRows]. The function TestSource of
// package testkit checks a source against this specification.
package sources

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Config is what an [Open] function opens. Both fields may contain secrets: do not
// write them to logs or into errors. A source in a separate process receives its
// Config in a message, not by its command line or environment.
type Config struct {
	// URI is the address of the data as the user wrote it. A prefix that only names
	// the source is removed: "csv:DIR" becomes "DIR", while "postgres://host/db"
	// stays as it is.
	URI string
	// Options holds the source's own settings. Open must return an error of kind
	// [Invalid] for an unknown key; see [Suggest].
	Options map[string]string
}

// Open opens a source. It should detect permanent problems, such as an invalid URI,
// a missing directory or a wrong password, and return an [*Error] of a suitable
// kind. If it returns an error, it has released all resources.
type Open func(ctx context.Context, c Config) (Source, error)

// Source is an open data source. It is shared by streams and must be safe for
// concurrent use.
type Source interface {
	// Catalog returns a description of the tables. The catalog belongs to the source;
	// callers must not modify it. Two calls return equal catalogs unless the structure
	// of the data has changed in between. [TablesFor] tells which tables the caller
	// needs; a source for which that makes no difference always describes all.
	Catalog(ctx context.Context) (*Catalog, error)

	// Begin starts a session for one stream. The caller must close it. The context
	// applies to Begin only, not to the session.
	Begin(ctx context.Context, env Env) (Session, error)

	// Close releases the source's resources. Callers close all sessions first. A
	// second Close does nothing.
	Close() error
}

// Session is one stream's view of a source. If a table has [CapSnapshot], the whole
// session sees that table as of one point in time. Plan and Scan may be called from
// several goroutines; [Table.MaxScans] limits how many scans may run concurrently.
type Session interface {
	// Plan describes how a scan of q would run. It reads no rows. If q is not valid,
	// the error is of kind [Invalid]; if a table or column does not exist, it is of
	// kind [NotFound].
	Plan(ctx context.Context, q *Query) (*Plan, error)

	// Scan returns the result of q. It is lazy: work starts when the caller ranges
	// over the result, and all resources are released when the range loop ends, for
	// whatever reason. The source must not modify q or retain it.
	//
	// When the context is canceled, a blocked scan yields an error of kind [Canceled]
	// within one second.
	Scan(ctx context.Context, q *Query) Batches

	// Close ends the snapshot and releases the session's resources. Callers end all
	// scans first. A second Close does nothing.
	Close() error
}

// Batches is the sequence of pages of one scan. A successful scan yields at least
// one batch; an empty result is one batch without rows, which still has a schema.
// An error is yielded at most once, with a zero Batch, and ends the sequence. The
// consumer stops a scan by leaving the range loop, which releases all resources.
//
// The sequence is single-use: ranging over it again yields an error of kind
// [Invalid]. It is not safe for concurrent use.
type Batches = iter.Seq2[Batch, error]

// Batch is one page of a scan.
type Batch struct {
	// Record holds the rows. It belongs to the scan and is valid during its iteration
	// of the range loop. To keep it longer, call Retain, and later Release.
	//
	// Its schema is that of the table, or of the queried columns in the query's order.
	// Names, types and nullability are the same in every batch of a scan.
	Record arrow.RecordBatch
	// Cursor resumes the scan after the last row of this batch. It is nil unless the
	// table has [CapResume]. A batch without rows ends where the batch before it
	// ended; if it is the first batch, its cursor may be [Query.After] or nil.
	Cursor Cursor
	// Due tells that the batch was handed on because [Env.FlushAfter] had passed, and not
	// because it was full. The engine then hands on the rows that it has collected.
	Due bool
	// Skipped counts the records left out since the previous batch, and among the
	// rows of this one. If records are left out at the end of a scan, a last batch
	// reports them; it may have no rows.
	Skipped Skipped
}

// Cursor is a position in the result of a scan. Its contents are known only to the
// source. A cursor is valid for the same query on the same data, also in another
// session or process. A source rejects any other cursor with an error of kind
// [Invalid], except that a table with a [Plan.State] may accept one after its data has
// changed.
type Cursor []byte

// Part identifies one partition of a [Plan]. Its contents are known only to the
// source.
type Part []byte

// Env is the environment of a session.
type Env struct {
	// Mem allocates all memory of batches; it is the stream's memory budget. It is
	// safe for concurrent use. If the budget is exhausted, it panics with an [*Error]
	// of kind [Exhausted], which [Guard] turns into the scan's error. A source should
	// also use it for other large allocations.
	Mem memory.Allocator
	// Page limits the size of each page. It does not change during the session. The
	// zero value means [DefaultLimits].
	Page Limits
	// FlushAfter is how long a scan collects rows: a page that has rows is handed on, with
	// [Batch.Due], when this time has passed since the scan last handed on a page or
	// since the consumer asked for the next one. Zero means [DefaultFlushAfter], and a
	// negative value no limit.
	//
	// A source that waits for data in a call that it cannot interrupt, as a WebAssembly
	// guest does in a read, hands the rows on when that call returns.
	FlushAfter time.Duration
	// Snapshot is the [Plan.Snapshot] of another session of the same source. This
	// session then sees the same point in time. Empty means a new snapshot.
	Snapshot string
	// Scratch is a directory for temporary files, which is emptied after the session.
	// Empty means that there is none.
	Scratch string
	// Stream is the name of the stream, for logs. It may be empty.
	Stream string
	// MaxScans is how many scans the session may run concurrently. It is at most the
	// [Table.MaxScans] of the tables that it reads. Zero means two: a scan and a
	// lookup.
	//
	// A source whose scans need a scarce resource, such as database connections,
	// reserves all MaxScans of them in Begin at once; sessions that reserved them one
	// by one could deadlock. Begin waits until they are available, and returns an
	// error of kind [Exhausted] if they never can be.
	MaxScans int
}

// DueAt returns when a page that the consumer asked for at the given time is due; see
// [Env.FlushAfter]. It is the zero time if pages never are.
func (e Env) DueAt(asked time.Time) time.Time {
	switch {
	case e.FlushAfter < 0:
		return time.Time{}
	case e.FlushAfter == 0:
		return asked.Add(DefaultFlushAfter)
	}
	return asked.Add(e.FlushAfter)
}

// Limits limits the size of a page.
type Limits struct {
	Bytes int64 // the maximum of bytes, as counted by [Size]; a page of one row may be larger
	Rows  int64 // the maximum of rows
}

// DefaultFlushAfter is the default of [Env.FlushAfter].
const DefaultFlushAfter = 100 * time.Millisecond

// DefaultLimits is the default of [Env.Page]: 1 MiB and 65,536 rows.
var DefaultLimits = Limits{Bytes: 1 << 20, Rows: 64 << 10}

// OrDefault returns l with zero fields replaced by those of [DefaultLimits].
func (l Limits) OrDefault() Limits {
	if l.Bytes <= 0 {
		l.Bytes = DefaultLimits.Bytes
	}
	if l.Rows <= 0 {
		l.Rows = DefaultLimits.Rows
	}
	return l
}

// Catalog describes the tables of a source. Their order does not change between
// calls of [Source.Catalog].
type Catalog struct {
	Tables []Table
	// Unreadable has the tables that exist but cannot be described, for example since
	// their file cannot be opened. They are not among Tables. A query of one fails with
	// its error.
	Unreadable []TableError
	// Identity identifies everything besides the [Config] and the query on which answers
	// of the source depend, and which [Plan.Version] does not cover: for example, the
	// role that a connection resolved to and its settings, the files that Open read, and
	// the values of environment variables. Sources whose Config, code and Identity are
	// equal give the same answers for equal versions of a table. It must not contain
	// secrets; hash what is secret.
	//
	// If it is empty, answers are not cached beyond the process of the host.
	Identity string
}

// TableError says why a table cannot be read.
type TableError struct {
	Table  string
	Kind   Kind
	Reason string
}

// Table returns the table with the exact name, or nil.
func (c *Catalog) Table(name string) *Table {
	for i := range c.Tables {
		if c.Tables[i].Name == name {
			return &c.Tables[i]
		}
	}
	return nil
}

// Table describes a table: its contents and its capabilities.
type Table struct {
	Name string
	// Schema has the columns with their types and nullability. The metadata of a field
	// may hold a comment, the type in the source and more; see [MetaComment].
	Schema *arrow.Schema
	// Key lists the columns of the primary key. It is nil if there is none.
	Key []string
	// Unique lists further sets of columns whose values identify a row.
	Unique [][]string
	// Relations lead from a row of this table to rows of other tables. [Relate]
	// derives them from foreign keys, with the same names for every source.
	Relations []Relation
	// Capabilities is what the table supports.
	Capabilities Capability
	// Filters lists, for each column, the operators that the table accepts in a
	// conjunct of [Query.Where]. Operators not listed are never pushed down.
	Filters map[string]Ops
	// Lookups lists the sets of columns that [Query.Keys] may use.
	Lookups []Lookup
	// MaxScans is how many scans may run concurrently in one session; see
	// [Env.MaxScans]. Zero means any number.
	MaxScans int
	// Rows is an estimate of the number of rows, or -1 if it is not known.
	Rows int64
	// Comment describes the table for people.
	Comment string
	// Pending tells that only the name of the table is known, since to find out more is
	// slow and the caller did not ask for the table; see [ForTables]. Its Schema has no
	// columns, Rows is -1, and the other fields have their zero values.
	Pending bool
	// Denied has the columns that exist but may not be read, with the reason. They are not
	// in Schema, and a query that names one fails with an error of kind [Denied].
	Denied map[string]string
}

// Metadata keys of the fields of a table's schema.
const (
	MetaComment   = "penstock.comment"   // a description of the column
	MetaType      = "penstock.type"      // the column's type in the source's own terms
	MetaDefault   = "penstock.default"   // the column's default value in the source's own terms
	MetaGenerated = "penstock.generated" // how the source generates the column's values, in its own terms
	MetaEquality  = "penstock.equality"  // which values are equal; see [Meaning]
	MetaOrder     = "penstock.order"     // which value is smaller; see [Meaning]
	MetaLabels    = "penstock.labels"    // for [ByLabels]: the labels in their order, as a JSON array

	// A logical type that Arrow knows as an extension type is its storage type with these
	// keys, whether or not the extension type is registered with Arrow. Examples are
	// arrow.uuid, arrow.json and arrow.opaque.
	MetaExtension     = "ARROW:extension:name"
	MetaExtensionData = "ARROW:extension:metadata"
)

// Column returns the index of the column with the exact name, or -1.
func (t *Table) Column(name string) int {
	if i := t.Schema.FieldIndices(name); len(i) > 0 {
		return i[0]
	}
	return -1
}

// Capability is a set of features that a table supports.
type Capability uint32

// The capabilities. They are wire constants: append only.
const (
	CapProject   Capability = 1 << iota // supports [Query.Columns]; otherwise a scan yields all columns in the table's order
	CapSort                             // supports [Query.OrderBy] for any columns, in the order of their [Meaning]
	CapLimit                            // supports [Query.Limit]
	CapResume                           // batches have cursors, and [Query.After] is supported
	CapStable                           // while the data is the same, a query always returns the same rows in the same order
	CapPartition                        // plans have [Plan.Parts], and [Query.Part] is supported
	CapSnapshot                         // a session sees one point in time
	CapLogic                            // accepts And, Or and Not over the operators of Filters, not only conjuncts
)

var capabilityNames = []string{"project", "sort", "limit", "resume", "stable", "partition", "snapshot", "logic"}

// Has reports whether a contains all capabilities of b.
func (a Capability) Has(b Capability) bool { return a&b == b }

// String lists the capabilities by name, as in "project, limit".
func (a Capability) String() string { return bitNames(uint32(a), capabilityNames) }

func bitNames(bits uint32, names []string) string {
	var out []string
	for i, name := range names {
		if bits&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}

// Lookup is a set of columns by which a table finds rows.
type Lookup struct {
	Columns []string
	MaxKeys int // how many keys a query may have; 0 means any number
	// Ordinals tells that only the source can tell which rows equal a key, because the
	// [Meaning] of one of the columns is [BySource], as for text without regard to case. See
	// [Keys] for what this changes.
	Ordinals bool
}

// OrdinalColumn is the name of the column with the ordinals of keys; see [Keys].
const OrdinalColumn = "penstock.ordinal"

// RelationKind is the cardinality of a relation.
type RelationKind uint8

// The kinds of relations. They are wire constants: append only.
const (
	BelongsTo  RelationKind = 1 + iota // this row has the key of at most one other row
	HasOne                             // at most one other row has this row's key
	HasMany                            // any number of other rows have this row's key
	ManyToMany                         // rows of a join table have both keys
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

// Relation leads from a row of its table to the rows of the target table whose
// TargetColumns equal this row's Columns, pairwise. NULL equals nothing.
type Relation struct {
	// Name is the qualified name. It is unique among the table's relations, and leads to
	// the same rows whatever other keys, columns and tables are added.
	Name string
	// Aliases are short names. One of them leads to this relation as long as no other
	// relation of the table and no column has it too; otherwise it is an error to ask for
	// it. See [Table.FindRelation].
	Aliases []string
	// Unusable says why the relation cannot be loaded, for example because the types of
	// its columns cannot be compared. It is empty for a usable relation.
	Unusable      string
	Kind          RelationKind
	Columns       []string // columns of the table that has the relation
	TargetTable   string
	TargetColumns []string // columns of the target table
	Through       *Through // the join table of a many_to_many relation; otherwise nil
}

// Through is the join table of a many_to_many relation. A row of it connects the row
// whose [Relation.Columns] equal Near with the row whose [Relation.TargetColumns]
// equal Far.
type Through struct {
	Table string   // the name of the join table
	Near  []string // columns of the join table that refer to the table with the relation
	Far   []string // columns of the join table that refer to the target table
}

// Plan describes how a scan would run.
type Plan struct {
	Rows  int64 // an estimate, or -1 if it is not known
	Bytes int64 // an estimate, as counted by [Size], or -1 if it is not known
	// Version identifies the state of the table's data: scans of equal versions
	// return the same rows. It is empty if the source cannot tell.
	Version string
	// State identifies the data that the session sees of the table: sessions with equal
	// States read the same rows. Unlike Version, which caches compare, it may change
	// although the table has not. A read that resumes at a [Cursor] in another session
	// compares States, so a table whose cursors are also valid after its data has changed
	// must have one. If it cannot tell, it gives each session another State.
	//
	// Empty means that the cursors of the table are checked against its data.
	State string
	// Parts divides the result into partitions, which together contain every row
	// exactly once. It is nil if the scan cannot be divided.
	Parts []Part
	// Snapshot identifies the session's snapshot, for [Env.Snapshot] of another
	// session. It is empty if another session cannot use the snapshot.
	Snapshot string
	// Detail describes for people how the source runs the scan, for example as SQL.
	// It must not contain secrets.
	Detail string
}
