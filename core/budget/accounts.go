package budget

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Owner identifies what a part of a stream's memory is used for.
type Owner uint8

// The owners.
const (
	Decode      Owner = iota // the page that the source is reading
	Page                     // pages waiting to become the next chunk
	PostProcess              // filtering, sorting and projecting in the engine
	Relations                // related rows
	KeyCache                 // looked-up rows kept for later look-ups
	ReadAhead                // pages fetched before they are needed
	Output                   // writers of chunks
	Consumer                 // chunks that the consumer has not released
	Idle                     // freed buffers kept for reuse
	Sandboxes                // processes and modules of sources, which have limits of their own
	numOwners
)

var ownerNames = [numOwners]string{"decode", "page", "shape", "relations", "cache", "read_ahead", "output", "consumer", "idle", "isolates"}

// String returns the owner's name, such as "read_ahead".
func (o Owner) String() string {
	if o < numOwners {
		return ownerNames[o]
	}
	return "owner?"
}

// Breakdown is the memory in use by each [Owner], in bytes: b[Consumer] is what the
// consumer holds. Its JSON form is an object of the non-zero amounts by owner name.
type Breakdown [numOwners]int64

// Add adds the amounts of other to b.
func (b *Breakdown) Add(other Breakdown) {
	for i, n := range other {
		b[i] += n
	}
}

// Total returns the sum of all amounts that count toward the limit: all but those
// of [Sandboxes].
func (b Breakdown) Total() int64 {
	var sum int64
	for i, n := range b {
		if Owner(i) != Sandboxes {
			sum += n
		}
	}
	return sum
}

// String lists the non-zero amounts, as in "page 1.5 MiB, consumer 20.0 MiB". It
// returns "nothing" if there are none.
func (b Breakdown) String() string {
	var parts []string
	for i, n := range b {
		if n > 0 {
			parts = append(parts, Owner(i).String()+" "+FormatBytes(n))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// MarshalJSON returns an object of the non-zero amounts by owner name.
func (b Breakdown) MarshalJSON() ([]byte, error) {
	byName := map[string]int64{}
	for i, n := range b {
		if n > 0 {
			byName[Owner(i).String()] = n
		}
	}
	return json.Marshal(byName)
}

// UnmarshalJSON reads what [Breakdown.MarshalJSON] returns. An unknown owner or a negative
// amount is an error.
func (b *Breakdown) UnmarshalJSON(text []byte) error {
	byName := map[string]int64{}
	if err := json.Unmarshal(text, &byName); err != nil {
		return err
	}
	var read Breakdown
	for i := range read {
		name := Owner(i).String()
		if read[i] = byName[name]; read[i] < 0 {
			return fmt.Errorf("%s: %d bytes", name, read[i])
		}
		delete(byName, name)
	}
	for name := range byName {
		return fmt.Errorf("unknown owner %.100q", name)
	}
	*b = read
	return nil
}

// Sandboxed is a session that runs in a process or module of its own, whose memory
// does not count toward the stream's limit. Isolation modes implement it; sources
// do not.
type Sandboxed interface {
	// SandboxMemory returns the private memory of the session's process or module,
	// in bytes: its current use, its peak, and its limit, which is 0 if there is
	// none. It returns at once, and is safe for concurrent use, also after the
	// session's Close.
	SandboxMemory() (held, peak, limit int64)
}

// Accounts track how much of a stream's budget each [Owner] uses. The stages of
// the stream report what they hold; what is live beyond that belongs to the
// [Consumer]. Accounts are safe for concurrent use.
type Accounts struct {
	budget  *Budget
	counts  [numOwners]atomic.Int64
	chunks  atomic.Int64 // chunks that the consumer has not released
	sandbox Sandboxed    // the stream's session if it is sandboxed, or nil
	// liveBeforeFetch is the budget's live bytes when the current fetch began, or
	// -1 between fetches. What has become live since then belongs to Decode.
	liveBeforeFetch atomic.Int64
}

// NewAccounts returns accounts of the budget of a stream. The sandbox is the
// stream's session if it is sandboxed, or nil.
func NewAccounts(b *Budget, sandbox Sandboxed) *Accounts {
	a := &Accounts{budget: b, sandbox: sandbox}
	a.liveBeforeFetch.Store(-1)
	return a
}

// Hold records that an owner holds a record, until release is called. It does not
// retain the record.
func (a *Accounts) Hold(owner Owner, r arrow.RecordBatch) (release func()) {
	n := footprint(r)
	a.counts[owner].Add(n)
	return func() { a.counts[owner].Add(-n) }
}

// BeginFetch records that the source begins to read a page.
func (a *Accounts) BeginFetch() { a.liveBeforeFetch.Store(a.budget.Live()) }

// EndFetch records that the source has delivered the page.
func (a *Accounts) EndFetch() { a.liveBeforeFetch.Store(-1) }

// Allocator returns an allocator that draws on the stream's budget and attributes
// what it allocates to an owner. The buffers must be freed by the same allocator.
func (a *Accounts) Allocator(owner Owner) memory.Allocator {
	return &ownerAllocator{budget: a.budget, count: &a.counts[owner]}
}

// Breakdown returns the memory in use by each owner. The amounts are read one
// after another, so memory that changes hands in the meantime may be missed or
// counted twice.
func (a *Accounts) Breakdown() Breakdown {
	var b Breakdown
	for i := range b {
		b[i] = a.counts[i].Load()
	}
	idle, live := a.budget.idleAndLive()
	b[Idle] = idle
	if a.sandbox != nil {
		b[Sandboxes], _, _ = a.sandbox.SandboxMemory()
	}
	if before := a.liveBeforeFetch.Load(); before >= 0 {
		b[Decode] = max(0, live-before)
	}
	unaccounted := live
	for i, n := range b {
		if Owner(i) != Idle && Owner(i) != Sandboxes {
			unaccounted -= n
		}
	}
	b[Consumer] += max(0, unaccounted)
	return b
}

// footprint returns how many bytes a record keeps alive: all of its buffers, even
// if it is a slice that shows only a part of them.
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
			n += int64(sizeClass(b.Len())) // as the budget rounds it up
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

// ownerAllocator is an allocator that counts what one owner has of a budget.
type ownerAllocator struct {
	budget *Budget
	count  *atomic.Int64
}

// Allocate is [Budget.Allocate], counted.
func (o *ownerAllocator) Allocate(size int) []byte {
	buf := o.budget.Allocate(size)
	o.count.Add(int64(cap(buf)))
	return buf
}

// Reallocate is [Budget.Reallocate], counted.
func (o *ownerAllocator) Reallocate(size int, old []byte) []byte {
	before := int64(cap(old))
	buf := o.budget.Reallocate(size, old)
	o.count.Add(int64(cap(buf)) - before)
	return buf
}

// Free is [Budget.Free], counted.
func (o *ownerAllocator) Free(buf []byte) {
	n := int64(cap(buf))
	o.budget.Free(buf)
	o.count.Add(-n)
}

// trackedRecord is the record of a chunk. It counts as one of the consumer's chunks
// until its last reference is released.
type trackedRecord struct {
	arrow.RecordBatch
	refs     atomic.Int64
	accounts *Accounts
}

// Track returns r as the consumer receives it: it counts as one of the consumer's
// chunks until its last reference is released. Track takes over the caller's
// reference to r.
func (a *Accounts) Track(r arrow.RecordBatch) arrow.RecordBatch {
	t := &trackedRecord{RecordBatch: r, accounts: a}
	t.refs.Store(1)
	a.chunks.Add(1)
	return t
}

// Retain adds a reference.
func (t *trackedRecord) Retain() { t.refs.Add(1) }

// Release drops a reference, and with the last one releases the record.
func (t *trackedRecord) Release() {
	if t.refs.Add(-1) == 0 {
		t.RecordBatch.Release()
		t.accounts.chunks.Add(-1)
	}
}
