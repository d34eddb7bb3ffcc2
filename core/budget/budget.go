package budget

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"sync"

	"github.com/penstock-data/penstock/sources"
)

// Budget is a bounded amount of memory: an Arrow allocator that counts what
// lives, reuses what is released, and refuses what is over its limit. Budgets
// nest: what a budget holds, its parent holds too, so a stream's budget lies
// under the host's.
//
// Allocate and Reallocate refuse by a panic with an [*sources.Error] of kind
// [sources.Exhausted], for the Arrow interface has no other way; the stages of
// a stream turn it into the stream's error. Arrow's builders and kernels that
// are refused so leave nothing behind once they are released.
//
// What is handed out is zeroed, also what was used before: a dirty buffer would
// carry the bytes of other streams out through null slots and padding.
//
// What is held here is charged to the parent, but never less than what was
// reserved: see [Budget.Reserve].
//
// A Budget is safe for concurrent use.
type Budget struct {
	name   string
	limit  int64
	parent *Budget

	mu         sync.Mutex
	held       int64            // live, idle, and what the budgets below are charged for
	live       int64            // handed out here and not yet freed
	idle       int64            // freed here and kept for the next one
	peak       int64            // the most that was held at once
	floor      int64            // what is always charged to the parent
	reserved   int64            // what is charged to the parent for now, where that is more
	charged    int64            // what the parent is charged for
	pool       map[int][][]byte // idle buffers by their capacity
	children   map[*Budget]struct{}
	reclaimers []*reclaimer
	waiters    []*waiter     // for room, the oldest first
	changed    chan struct{} // closed when something is given back; nil where nobody waits
	refused    *sources.Error
	closed     bool
}

// New returns a budget of limit bytes under a parent, which may be nil.
// The name stands in errors: `stream 7`, `host`. A limit of 0 or less is an
// [sources.Invalid] error.
func New(name string, limit int64, parent *Budget) (*Budget, error) {
	if limit <= 0 {
		return nil, &sources.Error{Op: "budget", Kind: sources.Invalid, Err: fmt.Errorf("%s: a limit of %d bytes holds nothing", name, limit)}
	}
	b := &Budget{name: name, limit: limit, parent: parent, pool: map[int][][]byte{}, children: map[*Budget]struct{}{}}
	if parent != nil {
		parent.mu.Lock()
		parent.children[b] = struct{}{}
		parent.mu.Unlock()
	}
	return b, nil
}

// Refusal is the cause of a budget's [sources.Exhausted] errors.
type Refusal struct {
	Budget string // the name of the budget that refused: the stream's or one above
	Asked  int64  // bytes
	Held   int64  // bytes held when it was asked
	Limit  int64  // bytes
}

// Error says who holds what: "stream 7 holds 31.2 of its 32.0 MiB and needs
// 1.3 MiB more".
func (r *Refusal) Error() string {
	return fmt.Sprintf("%s holds %s of its %s and needs %s more", r.Budget, FormatBytes(r.Held), FormatBytes(r.Limit), FormatBytes(r.Asked))
}

// FormatBytes writes a number of bytes for people, as in "1.5 MiB".
func FormatBytes(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	units, f := "KMGTPE", float64(n)/(1<<10)
	i := 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// Limit is the most that the budget holds, in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Held is what the budget holds now, in bytes: what lives, what is kept for
// reuse, and what the budgets below hold.
func (b *Budget) Held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// Live is what is handed out and not yet freed, here and in the budgets below,
// in bytes. It is 0 when everyone has given back what they had.
func (b *Budget) Live() int64 {
	_, live := b.idleAndLive()
	return live
}

// idleAndLive are what is kept here for reuse and what lives here, in the budgets
// below too.
func (b *Budget) idleAndLive() (idle, live int64) {
	b.mu.Lock()
	idle, live = b.idle, b.live
	b.mu.Unlock()
	for _, c := range b.childBudgets() {
		i, l := c.idleAndLive()
		idle, live = idle+i, live+l
	}
	return idle, live
}

// Peak is the most that the budget ever held, in bytes.
func (b *Budget) Peak() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.peak
}

// Refused returns the last refusal, or nil. It keeps its type and figures where
// an Arrow function in between has made a plain text of it.
func (b *Budget) Refused() *sources.Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// Close gives what is kept for reuse back. Buffers that still live may be freed
// afterwards, and are counted until then, also in the parent. A closed budget
// refuses what it is asked for.
func (b *Budget) Close() {
	b.mu.Lock()
	b.closed = true
	b.floor, b.reserved = 0, 0
	b.mu.Unlock()
	b.ReleaseIdle()
}

// Allocate returns a zeroed buffer of that length, or panics as [Budget] says.
func (b *Budget) Allocate(size int) []byte {
	if size <= 0 {
		return []byte{}
	}
	buf, err := b.buffer(size)
	if err != nil {
		panic(err)
	}
	return buf
}

// Reallocate returns a buffer of that length with the old one's contents, as
// far as they fit, and zeroes behind them. The old buffer is gone. Making a
// buffer smaller never fails; where making it larger is refused, by a panic as
// [Budget] says, the old buffer is still the caller's.
func (b *Budget) Reallocate(size int, old []byte) []byte {
	switch {
	case cap(old) == 0:
		return b.Allocate(size)
	case size <= 0:
		b.Free(old)
		return []byte{}
	case sizeClass(size) == cap(old):
		if size > len(old) {
			clear(old[len(old):size])
		}
		return old[:size]
	}
	buf, err := b.buffer(size)
	if err != nil {
		if size <= len(old) {
			return old[:size]
		}
		panic(err)
	}
	copy(buf, old)
	b.Free(old)
	return buf
}

// Free takes back what Allocate or Reallocate returned, with its capacity as it
// was.
func (b *Budget) Free(buf []byte) {
	n := cap(buf)
	if n == 0 {
		return
	}
	if sizeClass(n) != n {
		panic(&sources.Error{Op: "free", Kind: sources.Internal, Err: fmt.Errorf("%s: a buffer of %d bytes is not one of this budget's", b.name, n)})
	}
	b.mu.Lock()
	b.live -= int64(n)
	if !b.closed && b.idle+int64(n) <= b.maxIdle() {
		b.pool[n] = append(b.pool[n], buf[:n])
		b.idle += int64(n)
		b.mu.Unlock()
		return
	}
	b.mu.Unlock()
	b.release(int64(n))
}

// maxIdle is how much is kept for reuse at most: enough for the few pages that go
// round, little enough to leave the limit to what lives.
func (b *Budget) maxIdle() int64 { return b.limit / 8 }

// buffer returns a zeroed buffer, from the pool where there is one.
func (b *Budget) buffer(size int) ([]byte, error) {
	class := sizeClass(size)
	b.mu.Lock()
	if list := b.pool[class]; len(list) > 0 {
		buf := list[len(list)-1][:size]
		list[len(list)-1] = nil
		b.pool[class] = list[:len(list)-1]
		b.idle -= int64(class)
		b.live += int64(class)
		b.mu.Unlock()
		clear(buf)
		return buf, nil
	}
	b.mu.Unlock()
	if err := b.acquire(int64(class)); err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.live += int64(class)
	b.mu.Unlock()
	return make([]byte, class)[:size], nil
}

// acquire makes room for n bytes here and in every budget above. No lock is held
// while another is taken, so budgets cannot deadlock.
func (b *Budget) acquire(n int64) error {
	b.mu.Lock()
	if b.held+n > b.limit {
		// What is kept for reuse must not stand in the way of what is needed, nor
		// what its owner can do without.
		missing := b.held + n - b.limit
		b.mu.Unlock()
		b.makeRoom(missing)
		b.mu.Lock()
	}
	if b.closed || b.held+n > b.limit {
		err := b.refuse(n)
		b.mu.Unlock()
		return err
	}
	b.held += n
	more := b.chargeParent()
	b.mu.Unlock()
	if more > 0 && b.parent != nil {
		if err := b.parent.acquire(more); err != nil {
			b.mu.Lock()
			b.held -= n
			b.charged -= more
			errors.As(err, &b.refused)
			b.mu.Unlock()
			return err
		}
	}
	b.mu.Lock()
	b.peak = max(b.peak, b.held)
	b.mu.Unlock()
	return nil
}

// chargeParent brings what the parent is charged for up to what is held, reserved or
// its floor, and returns how much more that is; the caller takes it from the
// parent. The caller holds the lock.
func (b *Budget) chargeParent() int64 {
	more := max(b.held, b.floor, b.reserved) - b.charged
	if more <= 0 {
		return 0
	}
	b.charged += more
	return more
}

// dischargeParent is the opposite of charge: it returns what the parent gets back.
func (b *Budget) dischargeParent() int64 {
	less := b.charged - max(b.held, b.floor, b.reserved)
	if less <= 0 {
		return 0
	}
	b.charged -= less
	return less
}

// refuse makes the error of a refusal. The caller holds the lock.
func (b *Budget) refuse(n int64) *sources.Error {
	var cause error = &Refusal{Budget: b.name, Asked: n, Held: b.held, Limit: b.limit}
	if b.closed {
		cause = fmt.Errorf("%s is closed", b.name)
	}
	b.refused = &sources.Error{Kind: sources.Exhausted, Err: cause}
	return b.refused
}

// release takes n bytes off what this budget and those above hold, and lets the
// oldest waiters have them.
func (b *Budget) release(n int64) {
	b.mu.Lock()
	b.held -= n
	b.rebalance()
}

// rebalance gives back to the parent what is not charged any more, and to those who
// wait what there is. The caller holds the lock, and has lost it afterwards.
func (b *Budget) rebalance() {
	less := b.dischargeParent()
	gone := b.closed && b.held == 0
	b.admitWaiters()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	b.mu.Unlock()
	if b.parent == nil {
		return
	}
	if less > 0 {
		b.parent.release(less)
	}
	if gone {
		b.parent.mu.Lock()
		delete(b.parent.children, b)
		b.parent.mu.Unlock()
	}
}

// ReleaseIdle drops what is kept for reuse here.
func (b *Budget) ReleaseIdle() {
	b.mu.Lock()
	n := b.idle
	b.idle = 0
	clear(b.pool)
	b.mu.Unlock()
	b.release(n)
}

// releaseAllIdle drops what is kept for reuse here and in every budget below.
func (b *Budget) releaseAllIdle() {
	b.ReleaseIdle()
	for _, c := range b.childBudgets() {
		c.releaseAllIdle()
	}
}

func (b *Budget) childBudgets() []*Budget {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.children))
}

// sizeClass rounds a size up to the capacity that is allocated for it: multiples
// of 64 bytes, which Arrow likes for alignment, and from 512 bytes on four
// steps for each doubling, so that at most a fifth of a buffer is unused and
// what one page released fits the next.
func sizeClass(n int) int {
	step := 64
	if n > 512 {
		step = 1 << (bits.Len(uint(n-1)) - 3)
	}
	return (n + step - 1) / step * step
}
