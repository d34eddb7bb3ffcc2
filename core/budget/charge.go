package budget

// Charge counts n bytes as living here though somebody else made them, or refuses
// as Allocate does, but by its result: for memory that a cache lends, and for the
// cache's own, which is not made in the sizes that a budget reuses.
func (b *Budget) Charge(n int64) error {
	if err := b.acquire(n); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live += n
	return nil
}

// Uncharge is the end of a claim.
func (b *Budget) Uncharge(n int64) {
	b.mu.Lock()
	b.live -= n
	b.mu.Unlock()
	b.release(n)
}

// HasWaiters reports whether somebody waits for memory of the budget above: what can
// be done without is not taken then.
func (b *Budget) HasWaiters() bool {
	if b.parent == nil {
		return false
	}
	b.parent.mu.Lock()
	defer b.parent.mu.Unlock()
	return len(b.parent.waiters) > 0
}
