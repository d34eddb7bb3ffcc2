package budget

import (
	"context"
	"slices"
)

// Reserve ensures that n bytes can be allocated in addition to what is live, or
// fails at once. Reserved memory is charged to the parent as if it were held, and
// allocations draw on it. The reservation lasts until the next one, or until
// [Budget.EndReservation]; the unused part is then released.
//
// The error is of kind [sources.Exhausted]. Its [Refusal] names this budget if its
// own limit is too low, and otherwise the budget above that refused.
//
// Only one goroutine at a time, the one that is about to allocate, may reserve.
func (b *Budget) Reserve(n int64) error {
	more, err := b.reserve(n)
	if err != nil || more == 0 {
		return err
	}
	if err := b.parent.acquireInTurn(more); err != nil {
		b.unreserve(more)
		return err
	}
	return nil
}

// ReserveWait is like [Budget.Reserve], but waits for its turn if the parent has no
// room: the oldest waiter is served first. It does not wait for room under its own
// limit. If ctx ends first, ReserveWait returns the parent's refusal.
func (b *Budget) ReserveWait(ctx context.Context, n int64) error {
	more, err := b.reserve(n)
	if err != nil || more == 0 {
		return err
	}
	if err := b.parent.acquireWait(ctx, more); err != nil {
		b.unreserve(more)
		return err
	}
	return nil
}

// reserve sets the reservation, and returns how many bytes the caller must acquire
// from the parent for it.
func (b *Budget) reserve(n int64) (more int64, err error) {
	b.mu.Lock()
	// Idle memory counts as available: it is reused, or released if it does not fit.
	if missing := b.held - b.idle + n - b.limit; missing > 0 {
		b.mu.Unlock()
		b.makeRoom(missing)
		b.mu.Lock()
	}
	if b.closed || b.held-b.idle+n > b.limit {
		err := b.refuse(n)
		b.mu.Unlock()
		return 0, err
	}
	b.reserved = b.held - b.idle + n
	if more = b.chargeParent(); more > 0 {
		b.mu.Unlock()
	} else {
		b.rebalance()
	}
	if b.parent == nil {
		more = 0
	}
	return more, nil
}

// unreserve undoes a reservation that the parent refused, where more is what reserve
// returned.
func (b *Budget) unreserve(more int64) {
	b.mu.Lock()
	b.charged -= more
	b.reserved = 0
	b.rebalance()
}

// Reserved returns how many bytes of the reservation, or of the floor if that is
// more, can still be allocated.
func (b *Budget) Reserved() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.reserved, b.floor) - (b.held - b.idle)
}

// EndReservation ends the reservation, and releases the part that was not used.
func (b *Budget) EndReservation() {
	b.mu.Lock()
	b.reserved = 0
	b.rebalance()
}

// Admit sets the budget's floor to n bytes: the parent is always charged for at
// least that, so the budget can always allocate it, until it is closed. If the
// parent has no room, Admit waits for its turn. If ctx ends first, it returns the
// parent's refusal, an error of kind [sources.Exhausted].
func (b *Budget) Admit(ctx context.Context, n int64) error {
	b.mu.Lock()
	b.floor = min(n, b.limit)
	more := b.chargeParent()
	b.mu.Unlock()
	if b.parent == nil || more == 0 {
		return nil
	}
	if err := b.parent.acquireWait(ctx, more); err != nil {
		b.mu.Lock()
		b.floor = 0
		b.charged -= more
		b.rebalance()
		return err
	}
	return nil
}

// waiter is a pending request for n bytes.
type waiter struct {
	n       int64
	granted chan struct{} // closed when the bytes are granted
}

// acquireInTurn is like acquire, but refuses if others are waiting.
func (b *Budget) acquireInTurn(n int64) error {
	b.mu.Lock()
	if len(b.waiters) > 0 {
		err := b.refuse(n)
		b.mu.Unlock()
		return err
	}
	b.mu.Unlock()
	return b.acquire(n)
}

// acquireWait is like acquire, but waits for its turn until ctx ends.
func (b *Budget) acquireWait(ctx context.Context, n int64) error {
	if n > b.limit {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.refuse(n)
	}
	err := b.acquireInTurn(n)
	if err == nil {
		return nil
	}
	w := &waiter{n: n, granted: make(chan struct{})}
	b.mu.Lock()
	if b.closed {
		defer b.mu.Unlock()
		return b.refuse(n)
	}
	b.waiters = append(b.waiters, w)
	b.admitWaiters() // memory may have been released since
	b.mu.Unlock()
	b.makeRoom(n)
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	i := slices.Index(b.waiters, w)
	if i < 0 { // granted at the same time
		b.mu.Unlock()
		return nil
	}
	b.waiters = slices.Delete(b.waiters, i, i+1)
	b.admitWaiters() // later waiters may need less
	err = b.refuse(n)
	b.mu.Unlock()
	return err
}

// admitWaiters grants the requests of the oldest waiters until one does not fit. Only
// a budget without a parent grants requests. The caller holds the lock.
func (b *Budget) admitWaiters() {
	for len(b.waiters) > 0 && b.parent == nil && b.held+b.waiters[0].n <= b.limit {
		w := b.waiters[0]
		b.waiters = slices.Delete(b.waiters, 0, 1)
		b.held += w.n
		b.peak = max(b.peak, b.held)
		close(w.granted)
	}
}

// refusal returns the refusal of n bytes, for callers that know that they do not fit.
func (b *Budget) refusal(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refuse(n)
}

// chargedToParent returns how many bytes the parent is charged.
func (b *Budget) chargedToParent() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.charged
}

// released returns a channel that is closed when memory of this budget is released.
func (b *Budget) released() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// reclaimer is a registered callback of [Budget.OnShortage].
type reclaimer struct {
	free func(bytes int64)
}

// OnShortage registers free to be called, with the number of bytes that are
// missing, when memory is short in b or in a budget above it. A cache uses it to
// evict entries. free may be called from any goroutine, also concurrently, and must
// not block. It may call methods of budgets. Call remove to end the registration.
func (b *Budget) OnShortage(free func(bytes int64)) (remove func()) {
	r := &reclaimer{free: free}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reclaimers = append(b.reclaimers, r)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.reclaimers = slices.DeleteFunc(b.reclaimers, func(other *reclaimer) bool { return other == r })
	}
}

// makeRoom tries to free missing bytes in b and the budgets below: first it releases
// idle buffers, and if that is not enough it shrinks caches.
func (b *Budget) makeRoom(missing int64) {
	before := b.Held()
	b.releaseAllIdle()
	if missing -= before - b.Held(); missing > 0 {
		b.reclaimCaches(missing)
		b.releaseAllIdle()
	}
}

// reclaimCaches asks all registered caches, here and below, to free missing bytes.
func (b *Budget) reclaimCaches(missing int64) {
	b.mu.Lock()
	reclaimers := slices.Clone(b.reclaimers)
	b.mu.Unlock()
	for _, r := range reclaimers {
		r.free(missing)
	}
	for _, c := range b.childBudgets() {
		c.reclaimCaches(missing)
	}
}
