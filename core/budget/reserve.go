package budget

import (
	"context"
	"slices"
)

// Reserve makes sure that n bytes more than live now can be allocated, or fails
// at once: all of it or nothing. What is reserved is charged to the parent as if
// it were held; allocating draws on it. The next Reserve or [Budget.Yield] ends
// it, and with it what was not used. A budget that cannot hold so much by
// its own limit is refused with its own name, else the parent's: errors are of
// kind [sources.Exhausted].
//
// It is for one goroutine at a time, the one that is about to allocate.
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

// ReserveWait is Reserve, but waits for its turn where the parent has no room: the
// oldest waiter is served first. It does not wait for room of its own limit. The
// context's end is its error then.
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

// reserve raises what is reserved, and returns what the parent is to be charged
// for it.
func (b *Budget) reserve(n int64) (more int64, err error) {
	b.mu.Lock()
	// What is kept for reuse is reused, or shed for what does not fit it.
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

// unreserve takes back a reservation that the parent did not grant.
func (b *Budget) unreserve(more int64) {
	b.mu.Lock()
	b.charged -= more
	b.reserved = 0
	b.rebalance()
}

// Reserved is how much can still be allocated of what was reserved, or of the
// floor.
func (b *Budget) Reserved() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.reserved, b.floor) - (b.held - b.idle)
}

// Yield ends the reservation.
func (b *Budget) Yield() {
	b.mu.Lock()
	b.reserved = 0
	b.rebalance()
}

// Admit makes n bytes the least that the budget is always charged for, and so can
// always allocate, until it is closed: its floor. Where the parent has no room
// for that, it waits for its turn until the context ends.
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

// waiter waits for n bytes; granted is closed when it has them.
type waiter struct {
	n       int64
	granted chan struct{}
}

// acquireInTurn is take, but for those who can do with less: it does not go before
// others who wait.
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

// acquireWait is take, but waits for its turn.
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
	b.admitWaiters() // room may have come since
	b.mu.Unlock()
	b.makeRoom(n)
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	i := slices.Index(b.waiters, w)
	if i < 0 { // it was granted in the same moment
		b.mu.Unlock()
		return nil
	}
	b.waiters = slices.Delete(b.waiters, i, i+1)
	b.admitWaiters() // those behind may want less
	err = b.refuse(n)
	b.mu.Unlock()
	return err
}

// admitWaiters grants what there is room for, the oldest first, and nobody before it.
// The caller holds the lock. Waiting is for the budget on top: one that lies
// under another is not waited for.
func (b *Budget) admitWaiters() {
	for len(b.waiters) > 0 && b.parent == nil && b.held+b.waiters[0].n <= b.limit {
		w := b.waiters[0]
		b.waiters = slices.Delete(b.waiters, 0, 1)
		b.held += w.n
		b.peak = max(b.peak, b.held)
		close(w.granted)
	}
}

// wouldRefuse is the error of n bytes that do not fit, for those who know without
// trying.
func (b *Budget) wouldRefuse(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refuse(n)
}

// chargedToParent is what the parent is charged for.
func (b *Budget) chargedToParent() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.charged
}

// released returns a channel that is closed when something is given back here.
func (b *Budget) released() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// reclaimer gives memory back that its owner can do without.
type reclaimer struct {
	free func(bytes int64)
}

// OnShortage has free called when memory is short here or in a budget above,
// with how many bytes are missing, for a cache to drop what it can. It is called
// from any goroutine, and without any lock of the budget's; it must not wait.
// The result ends that.
func (b *Budget) OnShortage(free func(bytes int64)) (remove func()) {
	r := &reclaimer{free: free}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reclaimers = append(b.reclaimers, r)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.reclaimers = slices.DeleteFunc(b.reclaimers, func(x *reclaimer) bool { return x == r })
	}
}

// makeRoom frees what can be done without, here and below: first what is kept for
// reuse, and where that is not enough what the owners of caches hold.
func (b *Budget) makeRoom(missing int64) {
	before := b.Held()
	b.releaseAllIdle()
	if missing -= before - b.Held(); missing > 0 {
		b.reclaimCaches(missing)
		b.releaseAllIdle()
	}
}

// reclaimCaches asks every owner of a cache here and below.
func (b *Budget) reclaimCaches(missing int64) {
	b.mu.Lock()
	owners := slices.Clone(b.reclaimers)
	b.mu.Unlock()
	for _, r := range owners {
		r.free(missing)
	}
	for _, c := range b.childBudgets() {
		c.reclaimCaches(missing)
	}
}
