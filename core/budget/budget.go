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

// Budget is an Arrow allocator with a memory limit. It counts the buffers that are
// live, reuses those that are freed, and refuses allocations beyond the limit.
// Budgets form a tree: memory held by a budget is charged to its parent as well.
// The parent of a stream's budget is the host's.
//
// Because Arrow's allocator interface has no error result, Allocate and Reallocate
// refuse by panicking with an [*sources.Error] of kind [sources.Exhausted]. The
// stages of a stream recover it and return it as the stream's error. Arrow's
// builders and kernels leave no memory behind after such a panic, once they are
// released.
//
// Buffers are always zeroed. A reused buffer that was not would leak the data of
// other streams through NULL slots and padding.
//
// A budget charges its parent for what it holds, or for what is reserved if that
// is more: see [Budget.Reserve].
//
// A Budget is safe for concurrent use.
type Budget struct {
	name   string
	limit  int64
	parent *Budget

	mu         sync.Mutex
	held       int64            // live and idle bytes, and what the children charge
	live       int64            // bytes allocated from this budget and not yet freed
	idle       int64            // freed bytes that are kept for reuse
	peak       int64            // the maximum of held
	floor      int64            // the least that the parent is charged until Close
	reserved   int64            // the least that the parent is charged until the reservation ends
	charged    int64            // what the parent is charged: the maximum of held, floor and reserved
	pool       map[int][][]byte // idle buffers by capacity
	children   map[*Budget]struct{}
	reclaimers []*reclaimer
	waiters    []*waiter      // for memory of this budget, the oldest first
	changed    chan struct{}  // closed when memory is released; nil if nobody waits for that
	refused    *sources.Error // the last refusal
	closed     bool
}

// New returns a budget of limit bytes. The parent may be nil. The name appears in
// errors, as in "stream 7" or "host". If limit is not positive, the error is of kind
// [sources.Invalid]. The caller closes the budget.
func New(name string, limit int64, parent *Budget) (*Budget, error) {
	if limit <= 0 {
		return nil, sources.Errorf(sources.Invalid, "budget", "", "%s: the memory limit must be positive (got %d bytes)", name, limit)
	}
	b := &Budget{name: name, limit: limit, parent: parent, pool: map[int][][]byte{}, children: map[*Budget]struct{}{}}
	if parent != nil {
		parent.mu.Lock()
		parent.children[b] = struct{}{}
		parent.mu.Unlock()
	}
	return b, nil
}

// Refusal is the cause of a budget's [sources.Exhausted] errors. Amounts are in
// bytes.
type Refusal struct {
	Budget string // the name of the budget that refused: the one asked, or one above it
	Asked  int64  // the amount requested
	Held   int64  // the amount held at that time
	Limit  int64  // the limit of the budget that refused
}

// Error describes the refusal, as in "stream 7 holds 31.2 MiB of its 32.0 MiB and
// needs 1.3 MiB more".
func (r *Refusal) Error() string {
	return fmt.Sprintf("%s holds %s of its %s and needs %s more", r.Budget, FormatBytes(r.Held), FormatBytes(r.Limit), FormatBytes(r.Asked))
}

// FormatBytes formats a number of bytes for people, as in "1.5 MiB".
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

// Limit returns the most that the budget may hold, in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Held returns what the budget holds now, in bytes: live buffers, idle buffers, and
// what the budgets below charge it.
func (b *Budget) Held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// Live returns the bytes that are allocated and not yet freed, including those of
// the budgets below. It returns 0 once everything has been freed.
func (b *Budget) Live() int64 {
	_, live := b.idleAndLive()
	return live
}

// idleAndLive returns the idle and the live bytes, including those of the budgets
// below.
func (b *Budget) idleAndLive() (idle, live int64) {
	b.mu.Lock()
	idle, live = b.idle, b.live
	b.mu.Unlock()
	for _, c := range b.childBudgets() {
		childIdle, childLive := c.idleAndLive()
		idle, live = idle+childIdle, live+childLive
	}
	return idle, live
}

// Peak returns the most that the budget has held at any time, in bytes.
func (b *Budget) Peak() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.peak
}

// Refused returns the last refusal, or nil. Use it to recover the typed error where
// an Arrow function has reduced a panic to its text.
func (b *Budget) Refused() *sources.Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// Close releases idle buffers, the reservation and the floor. Live buffers remain
// charged to the parent until they are freed, which is allowed after Close. A closed
// budget refuses all requests.
func (b *Budget) Close() {
	b.mu.Lock()
	b.closed = true
	b.floor, b.reserved = 0, 0
	b.mu.Unlock()
	b.ReleaseIdle()
}

// Allocate returns a zeroed buffer of size bytes. It panics if that is refused, as
// described at [Budget].
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

// Reallocate returns a buffer of size bytes that begins with the contents of old, as
// far as they fit, followed by zeros. It takes over old, which may be reused as the
// result. Shrinking a buffer never fails. If growing it is refused, Reallocate
// panics as described at [Budget], and old still belongs to the caller.
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

// Free releases a buffer that Allocate or Reallocate returned. Its capacity must be
// unchanged. Free panics with an error of kind [sources.Internal] if the buffer
// cannot be one of this budget's.
func (b *Budget) Free(buf []byte) {
	n := cap(buf)
	if n == 0 {
		return
	}
	if sizeClass(n) != n {
		panic(sources.Errorf(sources.Internal, "free", "", "%s: the buffer of %d bytes was not allocated by this budget", b.name, n))
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

// maxIdle returns the most bytes that are kept for reuse: enough for the few pages
// that a stream cycles through, and a small part of the limit.
func (b *Budget) maxIdle() int64 { return b.limit / 8 }

// buffer returns a zeroed buffer of size bytes, from the pool if it has one.
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

// acquire adds n bytes to what this budget and those above hold, or returns a
// refusal. It never holds the lock of one budget while it takes that of another, so
// budgets cannot deadlock.
func (b *Budget) acquire(n int64) error {
	b.mu.Lock()
	if b.held+n > b.limit {
		// Idle buffers and caches must not take memory from what is needed.
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

// chargeParent raises charged to the maximum of held, floor and reserved, and
// returns the increase, which the caller must acquire from the parent. The caller
// holds the lock.
func (b *Budget) chargeParent() int64 {
	more := max(b.held, b.floor, b.reserved) - b.charged
	if more <= 0 {
		return 0
	}
	b.charged += more
	return more
}

// dischargeParent lowers charged to the maximum of held, floor and reserved, and
// returns the decrease, which the caller must release to the parent. The caller
// holds the lock.
func (b *Budget) dischargeParent() int64 {
	less := b.charged - max(b.held, b.floor, b.reserved)
	if less <= 0 {
		return 0
	}
	b.charged -= less
	return less
}

// refuse records and returns the refusal of n bytes. The caller holds the lock.
func (b *Budget) refuse(n int64) *sources.Error {
	var cause error = &Refusal{Budget: b.name, Asked: n, Held: b.held, Limit: b.limit}
	if b.closed {
		cause = fmt.Errorf("%s is closed", b.name)
	}
	b.refused = sources.NewError(sources.Exhausted, "", "", cause)
	return b.refused
}

// release subtracts n bytes from what this budget and those above hold, and grants
// them to the oldest waiters.
func (b *Budget) release(n int64) {
	b.mu.Lock()
	b.held -= n
	b.rebalance()
}

// rebalance grants memory to waiters and releases to the parent what is no longer
// charged. The caller holds the lock, which rebalance unlocks.
func (b *Budget) rebalance() {
	less := b.dischargeParent()
	finished := b.closed && b.held == 0
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
	if finished {
		b.parent.mu.Lock()
		delete(b.parent.children, b)
		b.parent.mu.Unlock()
	}
}

// ReleaseIdle releases the buffers that the budget keeps for reuse.
func (b *Budget) ReleaseIdle() {
	b.mu.Lock()
	n := b.idle
	b.idle = 0
	clear(b.pool)
	b.mu.Unlock()
	b.release(n)
}

// releaseAllIdle releases the idle buffers of this budget and of all below it.
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

// sizeClass rounds a size in bytes up to the capacity that is allocated for it. Size
// classes are multiples of 64 bytes, as Arrow recommends for alignment. Above 512
// bytes there are four for each doubling: at most a fifth of a buffer is unused, and
// the buffers that one page frees fit the next.
func sizeClass(n int) int {
	step := 64
	if n > 512 {
		step = 1 << (bits.Len(uint(n-1)) - 3)
	}
	return (n + step - 1) / step * step
}
