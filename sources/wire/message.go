package wire

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// Version is the protocol's version. Two ends talk where theirs are equal; it
// changes when an end that ignores what it does not know would be wrong.
const Version = 1

// MaxMessage is how long a control message may be, in bytes: the keys of a
// look-up and the catalogue of a large database are the longest there are.
const MaxMessage = 64 << 20

// CheckVersion returns an [sources.Invalid] error that says what to do where the
// peer's version is another. The name is the peer's, as its user knows it.
func CheckVersion(name string, theirs int) error {
	switch {
	case theirs == Version:
		return nil
	case theirs < Version:
		return invalid("%s speaks version %d of the source protocol, this program version %d; build %s against a newer penstock", name, theirs, Version, name)
	}
	return invalid("%s speaks version %d of the source protocol, this program version %d; use a newer penstock", name, theirs, Version)
}

// Op is what a request asks for.
type Op string

// The requests.
const (
	OpOpen    Op = "open"    // Config; the first request of all
	OpCatalog Op = "catalog" // nothing
	OpBegin   Op = "begin"   // Env
	OpPlan    Op = "plan"    // Session and Query
	OpScan    Op = "scan"    // Session and Query; pages and a trailer answer
	OpEnd     Op = "end"     // Session
	OpClose   Op = "close"   // nothing
)

// Request is one call across a wall.
type Request struct {
	Op Op
	// Version is the caller's, in an open request.
	Version int
	// Session is what the reply to begin said. A carrier with one session at a
	// time leaves it 0.
	Session uint64
	// Memory is the cap on all that the process or module that is asked may hold,
	// in bytes, in an open or a begin request; 0 where the caller does not say. One
	// that holds more is ended: who can bounds itself below it.
	Memory int64
	// Config goes with open. It may hold secrets: a request is never logged.
	Config *sources.Config
	// Env goes with begin. Its Mem does not cross a wall: each end has its own.
	Env *sources.Env
	// Query goes with plan and scan.
	Query *sources.Query
}

type requestJSON struct {
	Op      Op          `json:"op"`
	Version int         `json:"version,omitzero"`
	Session uint64      `json:"session,omitzero"`
	Memory  int64       `json:"memory,omitzero"`
	Config  *configJSON `json:"config,omitempty"`
	Env     *envJSON    `json:"env,omitempty"`
	Query   *queryJSON  `json:"query,omitempty"`
}

// MarshalRequest returns the request's message. An open request gets this
// program's [Version] where it has none.
func MarshalRequest(r Request) ([]byte, error) {
	out := requestJSON{Op: r.Op, Version: r.Version, Session: r.Session, Memory: r.Memory}
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

// UnmarshalRequest reads a request and checks that it has what its Op needs.
// Keys are in memory of mem: call [Request.Release] when the request is done.
func UnmarshalRequest(b []byte, mem memory.Allocator) (Request, error) {
	var in requestJSON
	if err := decode("request", b, &in); err != nil {
		return Request{}, err
	}
	r := Request{Op: in.Op, Version: in.Version, Session: in.Session, Memory: in.Memory}
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
		return Request{}, invalid("malformed request: there is no op %q", shorten(string(in.Op), 64))
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

// Release frees what [UnmarshalRequest] allocated.
func (r *Request) Release() {
	if r.Query != nil && r.Query.Keys != nil && r.Query.Keys.Values != nil {
		r.Query.Keys.Values.Release()
		r.Query.Keys.Values = nil
	}
}

// Reply answers every request but a scan: with Err, or with what the request's
// Op asks for.
type Reply struct {
	Version int    // the source's own, of an open request
	Session uint64 // of begin
	Catalog *sources.Catalog
	Plan    *sources.Plan
	Err     error // an [*sources.Error] where it came from the wire
}

type replyJSON struct {
	Version int          `json:"version,omitzero"`
	Session uint64       `json:"session,omitzero"`
	Catalog *catalogJSON `json:"catalog,omitempty"`
	Plan    *planJSON    `json:"plan,omitempty"`
	Err     *errorJSON   `json:"error,omitempty"`
}

// MarshalReply returns the reply's message. A catalogue or a plan that cannot
// be said on the wire is an error.
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

// UnmarshalReply reads the reply to a request of that op, and checks that it has
// what was asked for. An error that the source answered is in Reply.Err; the
// error of UnmarshalReply itself is about the message.
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
	}
	if op == OpCatalog && r.Catalog == nil || op == OpPlan && r.Plan == nil {
		return Reply{}, invalid("malformed reply: the answer to %s has no %s", op, op)
	}
	return r, nil
}

// MarshalError returns the message of an error, for a carrier with a place of
// its own for errors.
func MarshalError(err error) []byte {
	b, _ := marshal(errorOut(err)) // plain strings cannot fail
	return b
}

// UnmarshalError reads what [MarshalError] made: the source's error and true, or
// false where b is something else.
func UnmarshalError(b []byte) (*sources.Error, bool) {
	var in errorJSON
	if err := decode("error", b, &in); err != nil || in.Kind == "" {
		return nil, false
	}
	e, _ := in.error().(*sources.Error)
	return e, true
}

type errorJSON struct {
	Op      text   `json:"op,omitempty"`
	Table   text   `json:"table,omitempty"`
	Kind    string `json:"kind"`
	Message text   `json:"message,omitempty"`
}

// maxErrorText bounds an error's message: a panic brings its stack along.
const maxErrorText = 64 << 10

func errorOut(err error) *errorJSON {
	if err == nil {
		return nil
	}
	e, ok := err.(*sources.Error)
	if !ok {
		e = &sources.Error{Kind: sources.KindOf(err), Err: err}
	}
	out := &errorJSON{Op: text(e.Op), Table: text(e.Table), Kind: e.Kind.String()}
	if e.Err != nil {
		out.Message = text(shorten(e.Err.Error(), maxErrorText))
	}
	return out
}

// error returns an untyped nil for no error.
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
	return sources.Internal // a newer peer's kind
}

// Page goes with every page of a scan.
type Page struct {
	Rows    int64 // in the page
	Cursor  sources.Cursor
	Skipped sources.Skipped
}

// Trailer ends a scan. Where none came, the scan was cut, whatever the pages
// looked like.
type Trailer struct {
	Rows    int64  // of all pages
	Batches int64  // how many pages
	Sum     string // the checksum of what was sent, as [Tally] makes it; empty where the source made none
	Err     error  // nil where the scan is complete
}

// Meta is what stands beside the records of a scan: a page's, or the trailer.
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
	Skipped *skippedJSON `json:"skipped,omitempty"`
}

type skippedJSON struct {
	Records int64  `json:"records"`
	First   []text `json:"first"`
}

type trailerJSON struct {
	Rows     int64      `json:"rows"`
	Batches  int64      `json:"batches"`
	Sum      string     `json:"sum,omitempty"`
	Complete bool       `json:"complete"`
	Err      *errorJSON `json:"error,omitempty"`
}

// MarshalMeta returns the message of the one that is set.
func MarshalMeta(m Meta) []byte {
	var out metaJSON
	if p := m.Page; p != nil {
		out.Page = &pageJSON{Rows: p.Rows, Cursor: p.Cursor}
		if s := p.Skipped; s.Records != 0 {
			out.Page.Skipped = &skippedJSON{Records: s.Records, First: texts(s.Locations)}
		}
	}
	if t := m.Trailer; t != nil {
		out.Trailer = &trailerJSON{Rows: t.Rows, Batches: t.Batches, Sum: t.Sum, Complete: t.Err == nil, Err: errorOut(t.Err)}
	}
	b, _ := marshal(out) // numbers and strings cannot fail
	return b
}

// UnmarshalMeta reads what [MarshalMeta] made. Exactly one of the two is set.
func UnmarshalMeta(b []byte) (Meta, error) {
	var in metaJSON
	if err := decode("page metadata", b, &in); err != nil {
		return Meta{}, err
	}
	switch p, t := in.Page, in.Trailer; {
	case (p == nil) == (t == nil):
		return Meta{}, invalid("malformed page metadata: it is not one of a page and a trailer")
	case p != nil && p.Rows < 0, t != nil && (t.Rows < 0 || t.Batches < 0):
		return Meta{}, invalid("malformed page metadata: a negative count")
	case p != nil:
		page := &Page{Rows: p.Rows, Cursor: p.Cursor}
		if s := p.Skipped; s != nil {
			page.Skipped = sources.Skipped{Records: s.Records, Locations: stringsOf(s.First)}
		}
		if err := page.Skipped.Check(); err != nil {
			return Meta{}, invalid("malformed page metadata: %w", err)
		}
		return Meta{Page: page}, nil
	case t.Complete == (t.Err != nil):
		return Meta{}, invalid("malformed trailer: a scan is complete, or it has an error")
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
