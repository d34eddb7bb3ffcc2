// Package lock has a lock for work that takes as long as a source does: whoever waits
// for it can stop waiting.
package lock

import "context"

// Lock is a lock that one goroutine holds at a time. [New] returns one. A [sync.Mutex] is
// the right lock for all that takes no time.
type Lock chan struct{}

// New returns a lock that nobody holds.
func New() Lock { return make(Lock, 1) }

// Acquire waits until the lock is free, and takes it. It reports false if ctx ends
// first. A free lock is taken even if ctx has ended.
func (l Lock) Acquire(ctx context.Context) bool {
	select {
	case l <- struct{}{}:
		return true
	default:
	}
	select {
	case l <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Lock waits until the lock is free, and takes it.
func (l Lock) Lock() { l <- struct{}{} }

// Unlock frees the lock. Only its holder may call it.
func (l Lock) Unlock() { <-l }
