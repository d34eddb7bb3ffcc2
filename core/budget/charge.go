package budget

// Charge counts n bytes that were allocated elsewhere as live in b, until
// [Budget.Uncharge] is called. It is for memory that a cache lends to a stream, and
// for the cache's own memory, which the budget does not reuse. Unlike Allocate, it
// returns a refusal as an error, of kind [sources.Exhausted].
func (b *Budget) Charge(n int64) error {
	if err := b.acquire(n); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live += n
	return nil
}

// Uncharge returns n bytes that were charged with [Budget.Charge].
func (b *Budget) Uncharge(n int64) {
	b.mu.Lock()
	b.live -= n
	b.mu.Unlock()
	b.release(n)
}

// HasWaiters reports whether anyone waits for memory of the parent. Caches and other
// optional uses of memory should then take none.
func (b *Budget) HasWaiters() bool {
	if b.parent == nil {
		return false
	}
	b.parent.mu.Lock()
	defer b.parent.mu.Unlock()
	return len(b.parent.waiters) > 0
}
