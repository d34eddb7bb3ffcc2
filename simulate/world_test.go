package simulate

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// world describes a simulated world. The zero value of every field is the simplest case.
// Times are in milliseconds, sizes in bytes.
type world struct {
	Seed     uint64 // determines rows and delays
	Rows     int    // of table items
	Wide     int    `json:",omitempty"` // the longest text; 0 is 40
	Source   ability
	Host     bool       `json:",omitempty"` // read through a host, not through the engine alone
	Together bool       `json:",omitempty"` // actors act in the same instant, every millisecond
	Memory   int64      `json:",omitempty"` // for all streams and the cache; 0 is plenty
	Cache    *caching   `json:",omitempty"`
	Breaker  int        `json:",omitempty"` // failures that open the circuit; 0 is none
	Readers  []reader   `json:",omitempty"`
	Faults   []fault    `json:",omitempty"`
	Events   []happened `json:",omitempty"`
}

// ability is what the source can do.
type ability struct {
	Without   sources.Capability `json:",omitempty"` // the capabilities that it lacks
	NoFilters bool               `json:",omitempty"`
	Silent    bool               `json:",omitempty"` // it tells no versions
	Fleeting  bool               `json:",omitempty"` // its snapshots end with their session
	PageRows  int                `json:",omitempty"`
	Empty     bool               `json:",omitempty"` // empty pages are among the others
	MaxKeys   int                `json:",omitempty"`
	MaxScans  int                `json:",omitempty"`
	Sessions  int                `json:",omitempty"` // the most that are open at once; 0 is any number
	Slow      int                `json:",omitempty"` // the longest delay of a call or a page
}

// caching describes the cache.
type caching struct {
	TTL        int   `json:",omitempty"`
	MaxEntries int   `json:",omitempty"`
	MaxBytes   int64 `json:",omitempty"`
	Store      bool  `json:",omitempty"`
	Forgetful  bool  `json:",omitempty"` // the store loses every other entry, and breaks off every other load
}

// reader describes one consumer: what it asks for, and what it does with it.
type reader struct {
	At         int      `json:",omitempty"`
	Table      string   `json:",omitempty"` // items if empty
	Columns    []string `json:",omitempty"`
	Below      int64    `json:",omitempty"` // the condition n < Below
	Order      string   `json:",omitempty"` // "", "id" or "-n,id"
	Limit      int64    `json:",omitempty"`
	Load       string   `json:",omitempty"` // required relations
	Optional   string   `json:",omitempty"` // one optional relation
	Memory     int64    `json:",omitempty"`
	ChunkRows  int64    `json:",omitempty"`
	FlushAfter int      `json:",omitempty"`
	ReadAhead  bool     `json:",omitempty"`
	Parallel   int      `json:",omitempty"`
	Unordered  bool     `json:",omitempty"`
	Tokens     bool     `json:",omitempty"`
	NoPushdown bool     `json:",omitempty"`
	NoDigests  bool     `json:",omitempty"`
	Lazy       bool     `json:",omitempty"`
	Mode       uint8    `json:",omitempty"` // of the cache
	NoRetry    bool     `json:",omitempty"`
	CallLimit  int      `json:",omitempty"`
	StallLimit int      `json:",omitempty"`
	Timeout    int      `json:",omitempty"` // of the whole stream
	MaxWait    int      `json:",omitempty"` // for memory
	Slow       int      `json:",omitempty"` // the longest time with a chunk
	Hold       int      `json:",omitempty"` // the chunks that it keeps
	Leave      int      `json:",omitempty"` // the chunk after which it leaves the loop
	Restarts   int      `json:",omitempty"` // how often it resumes from its token
}

// fault is one call or scan of the source that goes wrong: the Nth with that name, or,
// for a scan, the Nth after its page Page.
type fault struct {
	Op   string // catalog, begin, plan, scan or close
	Nth  int    `json:",omitempty"`
	Page int    `json:",omitempty"`
	What string
	For  int `json:",omitempty"`
}

// happened is an event at a point in time.
type happened struct {
	At     int    `json:",omitempty"`
	What   string // change, invalidate, press, pause, restart, or what ends a reader: cancel, close, abort
	Reader int    `json:",omitempty"`
	For    int    `json:",omitempty"`
	Bytes  int    `json:",omitempty"`
}

func (w world) String() string {
	text, err := json.Marshal(w)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// pick returns one of the choices.
func pick[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }

// one reports true once in n times.
func one(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

// newWorld returns the world of a seed.
func newWorld(seed uint64) world {
	r := rand.New(rand.NewPCG(seed, 24))
	w := world{Seed: seed, Rows: pick(r, 0, 1, 7, 30, 60, 150), Host: one(r, 3), Together: one(r, 4), Wide: pick(r, 0, 0, 300, 2000)}
	w.Source = ability{PageRows: pick(r, 3, 10, 25, 0), Slow: pick(r, 0, 2, 20), MaxKeys: pick(r, 0, 0, 1, 5), Silent: one(r, 4), Fleeting: one(r, 4), NoFilters: one(r, 4), Empty: one(r, 5), MaxScans: pick(r, 0, 0, 1, 2, 3), Sessions: pick(r, 0, 0, 0, 2)}
	for c := sources.CapProject; c <= sources.CapLogic; c <<= 1 {
		if one(r, 4) {
			w.Source.Without |= c
		}
	}
	if one(r, 3) {
		w.Memory = pick[int64](r, 6<<10, 16<<10, 48<<10, 150<<10)
	}
	if one(r, 2) {
		w.Cache = &caching{TTL: pick(r, 20, 200, 0), MaxEntries: pick(r, 1, 2, 0), MaxBytes: pick[int64](r, 4<<10, 64<<10, 0), Store: !w.Host && one(r, 2), Forgetful: one(r, 3)}
	}
	if one(r, 6) {
		w.Breaker = 1 + r.IntN(3)
	}
	alike := reader{}
	for i := range 1 + r.IntN(4) {
		next := newReader(r)
		if i > 0 && one(r, 2) { // readers of the same query share scans and results
			next.Table, next.Columns, next.Below, next.Order, next.Limit, next.Load, next.Optional = alike.Table, alike.Columns, alike.Below, alike.Order, alike.Limit, alike.Load, alike.Optional
			next.Parallel, next.NoPushdown = alike.Parallel, alike.NoPushdown
		}
		alike = next
		w.Readers = append(w.Readers, next)
	}
	if one(r, 6) {
		w.cached(r)
	}
	if one(r, 3) {
		w.change(r)
	}
	if !one(r, 4) {
		for range r.IntN(4) {
			w.Faults = append(w.Faults, newFault(r))
		}
	}
	if !one(r, 3) {
		for range r.IntN(4) {
			w.Events = append(w.Events, newEvent(r, w))
		}
	}
	return w
}

// change makes the tables of a world change.
func (w *world) change(r *rand.Rand) {
	w.Source.Without &^= sources.CapSnapshot
	for i := range w.Readers {
		if w.Source.Silent {
			w.Readers[i].Load, w.Readers[i].Optional = "", ""
		}
	}
	for range 1 + r.IntN(4) {
		at := r.IntN(150)
		w.Events = append(w.Events, happened{At: at, What: "change"})
		if w.Cache != nil && one(r, 3) { // as a program does that knows of the change
			w.Events = append(w.Events, happened{At: at + r.IntN(10), What: "invalidate"})
		}
	}
}

// cached makes the readers of a world read the same rows, again and again, with what
// makes cached rows outdated.
func (w *world) cached(r *rand.Rand) {
	w.Cache = &caching{TTL: pick(r, 20, 50, 200, 0), Store: !w.Host && one(r, 2), Forgetful: one(r, 2)}
	w.Source.Silent, w.Source.Slow, w.Rows = one(r, 2), pick(r, 2, 20), max(w.Rows, 7)
	for len(w.Readers) < 4 {
		w.Readers = append(w.Readers, newReader(r))
	}
	first := reader{Table: w.Readers[0].Table, Below: w.Readers[0].Below, Order: w.Readers[0].Order}
	for i := range w.Readers {
		next := &w.Readers[i]
		next.At, next.Table, next.Columns, next.Below, next.Order, next.Limit, next.Load, next.Optional = r.IntN(400), first.Table, nil, first.Below, first.Order, 0, "", ""
		next.Mode, next.Parallel, next.NoPushdown = pick[uint8](r, 0, 0, 0, 1), 0, false
	}
	for range 1 + r.IntN(3) {
		w.Events = append(w.Events, happened{At: r.IntN(300), What: pick(r, "invalidate", "restart")})
	}
}

func newReader(r *rand.Rand) reader {
	a := reader{
		At: pick(r, 0, 0, r.IntN(50), r.IntN(300)), Below: pick[int64](r, 0, 0, 3, 8), Order: pick(r, "", "", "id", "-n,id"), Limit: pick[int64](r, 0, 0, 1, 5, 40),
		ChunkRows: pick[int64](r, 0, 1, 4, 17, 100), FlushAfter: pick(r, -1, 0, 1, 5), ReadAhead: one(r, 3), NoPushdown: one(r, 5), NoDigests: one(r, 6), Lazy: one(r, 3),
		Memory: pick[int64](r, 0, 0, 0, 4<<10, 16<<10, 40<<10, 200<<10), NoRetry: one(r, 6), Slow: pick(r, 0, 1, 30), Hold: pick(r, 0, 0, 1, 3, 20), MaxWait: pick(r, 0, 0, -1, 100),
	}
	if one(r, 5) {
		a.Table = "groups"
	}
	if one(r, 3) {
		a.Columns = []string{"id", "text"}
	}
	if one(r, 2) {
		a.Load = pick(r, "group", "tags", "labels", "tags(limit: 1)", "group,tags(order: [word:desc])", "group.items", "labels(limit: 2),group")
		a.Optional = pick(r, "", "", "tags")
		if strings.Contains(a.Load, "tags") { // it would have the options of the required one
			a.Optional = ""
		}
		if a.Table == "groups" {
			a.Load, a.Optional = pick(r, "items", "items(limit: 2, columns: [id])", "items.tags"), ""
		}
	}
	if one(r, 3) {
		a.Parallel, a.Unordered = 2+r.IntN(2), one(r, 2)
	}
	a.Mode = pick[uint8](r, 0, 0, 0, 1, 2)
	if one(r, 5) {
		a.CallLimit, a.StallLimit = pick(r, 0, 50), pick(r, 0, 50)
	}
	if one(r, 12) {
		a.Timeout = 1 + r.IntN(200)
	}
	if one(r, 4) {
		a.Leave = 1 + r.IntN(4)
	}
	if one(r, 3) {
		a.Tokens, a.Restarts = true, 1+r.IntN(3)
	}
	return a
}

func newFault(r *rand.Rand) fault {
	f := fault{Op: pick(r, "scan", "scan", "scan", "scan", "begin", "plan", "catalog", "close"), Nth: r.IntN(5), What: pick(r, "unavailable", "unavailable", "unavailable", "lost", "eof", "stall", "late", "throttled", "denied", "invalid", "plain", "panic", "disorder")}
	if f.Op == "scan" {
		f.Page = r.IntN(4)
	} else if f.What == "disorder" {
		f.What = "unavailable"
	}
	if f.Op == "close" && f.What == "stall" { // it has no context to end it
		f.What = "late"
	}
	if f.What == "late" {
		if f.For = pick(r, 10, 1000, 100_000); f.Op != "scan" { // the engine gives up a call, but not a scan
			f.For = pick(r, f.For, 10_000_000)
		}
	}
	return f
}

func newEvent(r *rand.Rand, w world) happened {
	e := happened{At: r.IntN(150), What: pick(r, "cancel", "abort", "pause", "pause", "close", "press", "invalidate", "restart"), Reader: r.IntN(len(w.Readers))}
	switch e.What {
	case "pause":
		e.For = pick(r, 1+r.IntN(100), 1+r.IntN(100), 5000)
	case "press":
		e.For, e.Bytes = r.IntN(100), 1<<(9+r.IntN(11))
	}
	return e
}

// changes reports whether the tables change. They do so only where a session sees one
// point in time; what a related row of an old result is then, the model does not say.
func (w world) changes() bool {
	if w.Source.Without.Has(sources.CapSnapshot) {
		return false
	}
	for _, r := range w.Readers {
		if w.Source.Silent && r.Load+r.Optional != "" {
			return false
		}
	}
	return slices.ContainsFunc(w.Events, func(e happened) bool { return e.What == "change" })
}

// milliseconds returns a time of the world.
func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// mix returns a number that is a function of the seed, of who acts and of how often.
func (w world) mix(who string, n int) uint64 {
	h := w.Seed*0x9e3779b97f4a7c15 ^ uint64(n)*0xbf58476d1ce4e5b9
	for _, c := range []byte(who) {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	h ^= h >> 31
	h *= 0x94d049bb133111eb
	return h ^ h>>29
}

// delay returns a time up to most milliseconds, which in most worlds differs from all
// others by some nanoseconds.
func (w world) delay(who string, n, most int) time.Duration {
	if most <= 0 {
		return 0
	}
	d := time.Duration(w.mix(who, n) % uint64(milliseconds(most)))
	if w.Together {
		d = d.Truncate(time.Millisecond)
	}
	return d
}
