package wire

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// Version is the version of the protocol. Both ends must have the same. It changes if
// it would be wrong for an older end to ignore what it does not know.
const Version = 2

// MaxMessage is the maximum length of a control message in bytes. The longest ones
// contain the keys of a lookup or the catalog of a large database.
const MaxMessage = 64 << 20

// MaxReply is the maximum length of a reply in bytes, except for that to [OpCatalog],
// which may have [MaxMessage].
const MaxReply = 16 << 20

// ReplyLimit returns the maximum length of the reply to an operation, in bytes.
func ReplyLimit(op Op) int {
	if op == OpCatalog {
		return MaxMessage
	}
	return MaxReply
}

// CheckVersion returns an error of kind [sources.Invalid], with a remedy, if the peer's
// version differs from [Version]. The name is that of the peer, for the error.
func CheckVersion(name string, theirs int) error {
	switch {
	case theirs == Version:
		return nil
	case theirs < Version:
		return invalid("%s speaks version %d of the source protocol, this program version %d; build %s against a newer penstock", name, theirs, Version, name)
	}
	return invalid("%s speaks version %d of the source protocol, this program version %d; use a newer penstock", name, theirs, Version)
}

// Op is the operation that a request asks for.
type Op string

// The operations, with the fields of their requests.
const (
	OpOpen    Op = "open"    // Config; must be the first request
	OpCatalog Op = "catalog" // none
	OpBegin   Op = "begin"   // Env
	OpPlan    Op = "plan"    // Session and Query
	OpScan    Op = "scan"    // Session and Query; answered by pages and a trailer
	OpEnd     Op = "end"     // Session
	OpClose   Op = "close"   // none
)

// Request is a request of the host to the source.
type Request struct {
	Op Op
	// Version is the version of the host, in an open request.
	Version int
	// Session is the session of the reply to begin. It is 0 for carriers with only one
	// session at a time.
	Session uint64
	// Memory is the memory limit of the whole process or module in bytes, in an open or
	// begin request; 0 means that it is not known. The host kills a process that exceeds
	// it, so a source should stay below.
	Memory int64
	// Config belongs to open. It may contain secrets, so do not log requests.
	Config *sources.Config
	// Env belongs to begin. Its Mem is not sent; each end has its own.
	Env *sources.Env
	// Query belongs to plan and scan.
	Query *sources.Query
	// Tables belongs to catalog: the tables of [sources.ForTables], or nil for all.
	Tables []string
}

// CatalogRequest returns the request for a call of [sources.Source.Catalog].
func CatalogRequest(ctx context.Context) Request {
	r := Request{Op: OpCatalog}
	if tables, some := sources.TablesFor(ctx); some {
		r.Tables = append([]string{}, tables...)
	}
	return r
}

// Context returns the context of the call that the request stands for.
func (r Request) Context(ctx context.Context) context.Context {
	if r.Tables == nil {
		return ctx
	}
	return sources.ForTables(ctx, r.Tables...)
}

type requestJSON struct {
	Op      Op          `json:"op"`
	Version int         `json:"version,omitzero"`
	Session uint64      `json:"session,omitzero"`
	Memory  int64       `json:"memory,omitzero"`
	Config  *configJSON `json:"config,omitempty"`
	Env     *envJSON    `json:"env,omitempty"`
	Query   *queryJSON  `json:"query,omitempty"`
	Tables  []text      `json:"tables,omitzero"`
}

// MarshalRequest encodes a request. An open request without a version gets [Version].
func MarshalRequest(r Request) ([]byte, error) {
	out := requestJSON{Op: r.Op, Version: r.Version, Session: r.Session, Memory: r.Memory}
	if r.Tables != nil {
		out.Tables = append([]text{}, texts(r.Tables)...)
	}
	if r.Op == OpOpen && r.Version == 0 {
		out.Version = Version
	}
	if r.Config != nil {
		for k := range r.Config.Options {
			if !utf8.ValidString(k) {
				return nil, invalid("the option name %q is not UTF-8", k)
			}
		}
		out.Config = configOut(*r.Config)
	}
	if r.Env != nil {
		out.Env = envOut(*r.Env)
	}
	if r.Query != nil {
		q, err := queryOut(r.Query)
		if err != nil {
			return nil, err
		}
		out.Query = q
	}
	return encode("request", out)
}

// UnmarshalRequest decodes a request and checks that it has the fields of its Op. Keys
// are allocated from mem; the caller must call [Request.Release].
func UnmarshalRequest(b []byte, mem memory.Allocator) (Request, error) {
	var in requestJSON
	if err := decode("request", b, &in); err != nil {
		return Request{}, err
	}
	r := Request{Op: in.Op, Version: in.Version, Session: in.Session, Memory: in.Memory}
	if in.Tables != nil {
		r.Tables = append([]string{}, stringsOf(in.Tables)...)
	}
	missing := ""
	switch in.Op {
	case OpOpen:
		if in.Config == nil {
			missing = "config"
		}
	case OpBegin:
		if in.Env == nil {
			in.Env = new(envJSON)
		}
	case OpPlan, OpScan:
		if in.Query == nil {
			missing = "query"
		}
	case OpCatalog, OpEnd, OpClose:
	default:
		return Request{}, invalid("malformed request: unknown op %q", shorten(string(in.Op), 64))
	}
	if missing != "" {
		return Request{}, invalid("malformed request: %s without a %s", in.Op, missing)
	}
	if in.Config != nil {
		c := in.Config.config()
		r.Config = &c
	}
	if in.Env != nil {
		e := in.Env.env()
		r.Env = &e
	}
	if in.Query != nil {
		q, err := in.Query.query(mem)
		if err != nil {
			return Request{}, err
		}
		r.Query = q
	}
	return r, nil
}

// Release frees the memory that [UnmarshalRequest] allocated.
func (r *Request) Release() {
	if r.Query != nil && r.Query.Keys != nil && r.Query.Keys.Values != nil {
		r.Query.Keys.Values.Release()
		r.Query.Keys.Values = nil
	}
}

// Reply is the answer to any request except scan: Err, or the result of its Op.
type Reply struct {
	Version int    // the version of the source, in the reply to open
	Session uint64 // of the reply to begin
	Catalog *sources.Catalog
	Plan    *sources.Plan
	Err     error // an [*sources.Error] if it was decoded
}

type replyJSON struct {
	Version int          `json:"version,omitzero"`
	Session uint64       `json:"session,omitzero"`
	Catalog *catalogJSON `json:"catalog,omitempty"`
	Plan    *planJSON    `json:"plan,omitempty"`
	Err     *errorJSON   `json:"error,omitempty"`
}

// MarshalReply encodes a reply. It returns an error if the catalog or the plan cannot
// be represented.
func MarshalReply(r Reply) ([]byte, error) {
	out := replyJSON{Version: r.Version, Session: r.Session, Err: errorOut(r.Err)}
	if r.Catalog != nil {
		c, err := catalogOut(r.Catalog)
		if err != nil {
			return nil, invalid("catalog cannot be sent: %w", err)
		}
		out.Catalog = c
	}
	if r.Plan != nil {
		out.Plan = planOut(r.Plan)
	}
	return encode("reply", out)
}

// UnmarshalReply decodes the reply to a request of the given op, and checks that it has
// the result. An error of the source is in Reply.Err; the error of UnmarshalReply is
// about the message.
func UnmarshalReply(op Op, b []byte) (Reply, error) {
	var in replyJSON
	if err := decode("reply", b, &in); err != nil {
		return Reply{}, err
	}
	r := Reply{Version: in.Version, Session: in.Session, Err: in.Err.error()}
	if r.Err != nil {
		return r, nil
	}
	if in.Catalog != nil {
		c, err := in.Catalog.catalog()
		if err != nil {
			return Reply{}, invalid("malformed catalog: %w", err)
		}
		r.Catalog = c
	}
	if in.Plan != nil {
		r.Plan = in.Plan.plan()
		if err := sources.CheckPlan(r.Plan); err != nil {
			return Reply{}, invalid("malformed plan: %w", cause(err))
		}
	}
	if op == OpCatalog && r.Catalog == nil || op == OpPlan && r.Plan == nil {
		return Reply{}, invalid("malformed reply: the answer to %s has no %s", op, op)
	}
	return r, nil
}

// MarshalError encodes an error, for carriers that send errors separately.
func MarshalError(err error) []byte {
	b, _ := marshal(errorOut(err)) // plain strings cannot fail
	return b
}

// UnmarshalError decodes the result of [MarshalError]. It returns false if b is
// something else.
func UnmarshalError(b []byte) (*sources.Error, bool) {
	var in errorJSON
	if err := decode("error", b, &in); err != nil || in.Kind == "" {
		return nil, false
	}
	e, _ := in.error().(*sources.Error)
	return e, true
}

type errorJSON struct {
	Op      prose  `json:"op,omitempty"`
	Table   prose  `json:"table,omitempty"`
	Kind    string `json:"kind"`
	Message prose  `json:"message,omitempty"`
}

func errorOut(err error) *errorJSON {
	if err == nil {
		return nil
	}
	e, ok := err.(*sources.Error)
	if !ok {
		e = sources.NewError(sources.KindOf(err), "", "", err)
	}
	out := &errorJSON{Op: prose(e.Op), Table: prose(e.Table), Kind: e.Kind.String()}
	if e.Err != nil {
		out.Message = prose(e.Err.Error())
	}
	return out
}

// error returns the decoded error. It is an untyped nil if there is none.
func (in *errorJSON) error() error {
	if in == nil {
		return nil
	}
	e := &sources.Error{Op: string(in.Op), Table: string(in.Table), Kind: parseKind(in.Kind)}
	if in.Message != "" {
		e.Err = errors.New(string(in.Message))
	}
	return e
}

func parseKind(name string) sources.Kind {
	for k := sources.Internal; k <= sources.Canceled; k++ {
		if k.String() == name {
			return k
		}
	}
	return sources.Internal // a kind that a newer peer knows
}

// Page is the metadata of a page.
type Page struct {
	Rows    int64 // in the page
	Cursor  sources.Cursor
	Due     bool // see [sources.Batch]
	Skipped sources.Skipped
}

// Trailer ends a scan. A scan without a trailer is truncated, even if all its pages are
// valid.
type Trailer struct {
	Rows    int64  // in all pages
	Batches int64  // the number of pages
	Sum     string // the checksum of [Tally]; empty if the source does not compute it
	Err     error  // nil if the scan is complete
}

// Meta is the metadata that accompanies the records of a scan: a page's metadata or the
// trailer. Exactly one of the fields is set.
type Meta struct {
	Page    *Page
	Trailer *Trailer
}

type metaJSON struct {
	Page    *pageJSON    `json:"page,omitempty"`
	Trailer *trailerJSON `json:"trailer,omitempty"`
}

type pageJSON struct {
	Rows    int64        `json:"rows"`
	Cursor  []byte       `json:"cursor,omitzero"`
	Due     bool         `json:"due,omitzero"`
	Skipped *skippedJSON `json:"skipped,omitempty"`
}

type skippedJSON struct {
	Records int64   `json:"records"`
	First   []prose `json:"first"`
}

type trailerJSON struct {
	Rows     int64      `json:"rows"`
	Batches  int64      `json:"batches"`
	Sum      string     `json:"sum,omitempty"`
	Complete bool       `json:"complete"`
	Err      *errorJSON `json:"error,omitempty"`
}

// MarshalMeta encodes m.
func MarshalMeta(m Meta) []byte {
	var out metaJSON
	if p := m.Page; p != nil {
		out.Page = &pageJSON{Rows: p.Rows, Cursor: p.Cursor, Due: p.Due}
		if s := p.Skipped; s.Records != 0 {
			out.Page.Skipped = &skippedJSON{Records: s.Records, First: listOf[prose](s.Locations)}
		}
	}
	if t := m.Trailer; t != nil {
		out.Trailer = &trailerJSON{Rows: t.Rows, Batches: t.Batches, Sum: t.Sum, Complete: t.Err == nil, Err: errorOut(t.Err)}
	}
	b, _ := marshal(out) // numbers and strings cannot fail
	return b
}

// UnmarshalMeta decodes the result of [MarshalMeta].
func UnmarshalMeta(b []byte) (Meta, error) {
	var in metaJSON
	if err := decode("page metadata", b, &in); err != nil {
		return Meta{}, err
	}
	switch p, t := in.Page, in.Trailer; {
	case (p == nil) == (t == nil):
		return Meta{}, invalid("malformed page metadata: it must have either a page or a trailer")
	case p != nil && p.Rows < 0, t != nil && (t.Rows < 0 || t.Batches < 0):
		return Meta{}, invalid("malformed page metadata: a negative count")
	case p != nil:
		page := &Page{Rows: p.Rows, Cursor: p.Cursor, Due: p.Due}
		if s := p.Skipped; s != nil {
			page.Skipped = sources.Skipped{Records: s.Records, Locations: stringsOf(s.First)}
			for i, location := range page.Skipped.Locations {
				page.Skipped.Locations[i] = sources.Clip(location, sources.MaxLocation)
			}
		}
		if err := page.Skipped.Check(); err != nil {
			return Meta{}, invalid("malformed page metadata: %w", err)
		}
		return Meta{Page: page}, nil
	case t.Complete == (t.Err != nil):
		return Meta{}, invalid("malformed trailer: a scan is complete, or it has an error, not both")
	default:
		return Meta{Trailer: &Trailer{Rows: t.Rows, Batches: t.Batches, Sum: t.Sum, Err: t.Err.error()}}, nil
	}
}

func (m Meta) String() string {
	switch {
	case m.Page != nil:
		return fmt.Sprintf("page of %d rows", m.Page.Rows)
	case m.Trailer != nil:
		return fmt.Sprintf("trailer of %d rows in %d pages", m.Trailer.Rows, m.Trailer.Batches)
	}
	return "nothing"
}
