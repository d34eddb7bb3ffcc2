package lock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-data/penstock/core/internal/lock"
)

// TestLock tests that a wait for a lock ends when it is free, or with the context.
func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lock.New()
		ended, end := context.WithCancel(t.Context())
		end()
		if !l.Acquire(ended) {
			t.Error("a free lock was not taken")
		}
		if l.Acquire(ended) {
			t.Error("a lock was taken twice")
		}
		time.AfterFunc(time.Second, l.Unlock)
		started := time.Now()
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if l.Acquire(short) || time.Since(started) != time.Millisecond {
			t.Errorf("the wait did not end with the context, after %s", time.Since(started))
		}
		if l.Lock(); time.Since(started) != time.Second {
			t.Errorf("the lock was free after %s", time.Since(started))
		}
		l.Unlock()
	})
}
