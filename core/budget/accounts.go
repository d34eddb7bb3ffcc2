package budget

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Owner is one of those who hold memory of a stream.
type Owner uint8

// The holders.
const (
	Decode    Owner = iota // the source and its carrier: what is being read
	Page                   // pages that are to become the next chunk
	Shape                  // the engine's filter, sort and projection
	Relations              // rows that relations lead to
	KeyCache               // rows that were looked up and may be wanted again
	ReadAhead              // the page after the next
	Output                 // whoever writes the chunks
	Consumer               // chunks that the consumer has, or has retained
	Idle                   // nobody: freed, and kept for the next one
	Sandboxes              // processes and modules of sources: beside the limit, under their own
	owners
)

var ownerNames = [owners]string{"decode", "page", "shape", "relations", "cache", "read_ahead", "output", "consumer", "idle", "isolates"}

// String is the holder's name, as in "read_ahead".
func (h Owner) String() string {
	if h < owners {
		return ownerNames[h]
	}
	return "holder?"
}

// Breakdown says who holds how many bytes. Its JSON is an object of those who hold
// any, by name.
type Breakdown [owners]int64

// Add adds what others hold.
func (h *Breakdown) Add(other Breakdown) {
	for i, n := range other {
		h[i] += n
	}
}

// Total is what all hold together but for the isolates: what counts for the
// limit.
func (h Breakdown) Total() int64 {
	var sum int64
	for i, n := range h {
		if Owner(i) != Sandboxes {
			sum += n
		}
	}
	return sum
}

// String lists those who hold something, as in "page 1.5 MiB, consumer 20.0 MiB".
func (h Breakdown) String() string {
	var parts []string
	for i, n := range h {
		if n > 0 {
			parts = append(parts, Owner(i).String()+" "+FormatBytes(n))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// MarshalJSON writes the holders that hold something.
func (h Breakdown) MarshalJSON() ([]byte, error) {
	byName := map[string]int64{}
	for i, n := range h {
		if n > 0 {
			byName[Owner(i).String()] = n
		}
	}
	return json.Marshal(byName)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (h *Breakdown) UnmarshalJSON(b []byte) error {
	byName := map[string]int64{}
	if err := json.Unmarshal(b, &byName); err != nil {
		return err
	}
	*h = Breakdown{}
	for i := range h {
		h[i] = byName[Owner(i).String()]
		delete(byName, Owner(i).String())
	}
	for name := range byName {
		return fmt.Errorf("there is no holder %q", name)
	}
	return nil
}

// Sandboxed is a session that runs behind a wall, in memory of its own beside the
// stream's. Carriers implement it, not sources.
type Sandboxed interface {
	// SandboxMemory says what the session's process or module holds now, the most that
	// it held, and its cap, in bytes of private memory; a cap of 0 is none. It
	// asks nobody, and is safe for concurrent use, also after the session's Close.
	SandboxMemory() (held, peak, limit int64)
}

// Accounts is what the stages of a stream say that they hold. Everything else that
// lives in the stream's budget is the consumer's. It is safe for concurrent use.
type Accounts struct {
	budget  *Budget
	counts  [owners]atomic.Int64
	chunks  atomic.Int64 // handed out and not yet released
	sandbox Sandboxed    // the session, where it is behind a wall; nil elsewhere
	// fetching is what lived when the source was last asked for a page, and -1
	// while it is not asked: what has come since is being read.
	fetching atomic.Int64
}

func NewAccounts(b *Budget, sandbox Sandboxed) *Accounts {
	l := &Accounts{budget: b, sandbox: sandbox}
	l.fetching.Store(-1)
	return l
}

// Hold says that a stage holds a record, until the result is called.
func (l *Accounts) Hold(h Owner, r arrow.RecordBatch) (release func()) {
	n := footprint(r)
	l.counts[h].Add(n)
	return func() { l.counts[h].Add(-n) }
}

// BeginFetch says that the source is asked for a page, fetched that it has come.
func (l *Accounts) BeginFetch() { l.fetching.Store(l.budget.Live()) }
func (l *Accounts) EndFetch()   { l.fetching.Store(-1) }

// Allocator returns the stream's budget as the allocator of one holder, for what
// never leaves it.
func (l *Accounts) Allocator(h Owner) memory.Allocator {
	return &ownerAllocator{budget: l.budget, count: &l.counts[h]}
}

// Breakdown is who holds what. The figures are taken one after the other, and may miss
// what moves at that moment.
func (l *Accounts) Breakdown() Breakdown {
	var h Breakdown
	for i := range h {
		h[i] = l.counts[i].Load()
	}
	idle, live := l.budget.idleAndLive()
	h[Idle] = idle
	if l.sandbox != nil {
		h[Sandboxes], _, _ = l.sandbox.SandboxMemory()
	}
	if begun := l.fetching.Load(); begun >= 0 {
		h[Decode] = max(0, live-begun)
	}
	rest := live
	for i, n := range h {
		if Owner(i) != Idle && Owner(i) != Sandboxes {
			rest -= n
		}
	}
	h[Consumer] += max(0, rest)
	return h
}

// footprint is what a record keeps alive: the whole of its buffers, of which a
// slice may show a part.
func footprint(r arrow.RecordBatch) int64 {
	var n int64
	for _, c := range r.Columns() {
		n += dataFootprint(c.Data())
	}
	return n
}

func dataFootprint(d arrow.ArrayData) int64 {
	var n int64
	for _, b := range d.Buffers() {
		if b != nil {
			n += int64(sizeClass(b.Len())) // what the budget took for it
		}
	}
	for _, c := range d.Children() {
		n += dataFootprint(c)
	}
	if dictionary := d.Dictionary(); d.DataType().ID() == arrow.DICTIONARY && dictionary != nil {
		n += dataFootprint(dictionary)
	}
	return n
}

// ownerAllocator is a budget that counts what one holder has of it.
type ownerAllocator struct {
	budget *Budget
	count  *atomic.Int64
}

func (v *ownerAllocator) Allocate(size int) []byte {
	buf := v.budget.Allocate(size)
	v.count.Add(int64(cap(buf)))
	return buf
}

func (v *ownerAllocator) Reallocate(size int, old []byte) []byte {
	before := int64(cap(old))
	buf := v.budget.Reallocate(size, old)
	v.count.Add(int64(cap(buf)) - before)
	return buf
}

func (v *ownerAllocator) Free(buf []byte) {
	n := int64(cap(buf))
	v.budget.Free(buf)
	v.count.Add(-n)
}

// trackedRecord is a chunk's record, which counts as one chunk of the consumer's until
// it is released as often as it was retained.
type trackedRecord struct {
	arrow.RecordBatch
	refs     atomic.Int64
	accounts *Accounts
}

// Track takes over one reference to the record, and returns the record as the
// consumer gets it.
func (l *Accounts) Track(r arrow.RecordBatch) arrow.RecordBatch {
	h := &trackedRecord{RecordBatch: r, accounts: l}
	h.refs.Store(1)
	l.chunks.Add(1)
	return h
}

// Retain keeps the record for longer than its iteration.
func (h *trackedRecord) Retain() { h.refs.Add(1) }

// Release gives the record back.
func (h *trackedRecord) Release() {
	if h.refs.Add(-1) == 0 {
		h.RecordBatch.Release()
		h.accounts.chunks.Add(-1)
	}
}
