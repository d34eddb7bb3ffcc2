package budget

// Charge counts n bytes that were allocated elsewhere as live in b, until
// [Budget.Uncharge]. It is for memory that a cache lends to a stream, and for the
// cache's own memory, which is not allocated in the size classes that a budget
// reuses. Unlike Allocate it returns a refusal as an error, of kind
// [sources.Exhausted].
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

// HasWaiters reports whether anyone waits for memory of the parent. Memory that is
// not strictly needed should not be taken then.
func (b *Budget) HasWaiters() bool {
	if b.parent == nil {
		return false
	}
	b.parent.mu.Lock()
	defer b.parent.mu.Unlock()
	return len(b.parent.waiters) > 0
}
