package budget

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock-data/penstock/sources"
)

// TestReserveIsAllOrNothing checks that the parent grants a reservation or refuses
// it, that allocations draw on it, and that the rest is released.
func TestReserveIsAllOrNothing(t *testing.T) {
	host := budget(t, "host", 10<<20, nil)
	a, b := budget(t, "a", 8<<20, host), budget(t, "b", 8<<20, host)
	if err := a.Reserve(6 << 20); err != nil {
		t.Fatal(err)
	}
	if host.Held() != 6<<20 || a.Held() != 0 || a.Reserved() != 6<<20 {
		t.Errorf("the host holds %d, a %d", host.Held(), a.Held())
	}
	var r *Refusal
	if err := b.Reserve(5 << 20); !errors.As(err, &r) || r.Budget != "host" || host.Held() != 6<<20 {
		t.Errorf("%v; the host holds %d", err, host.Held())
	}
	if err := b.Reserve(9 << 20); !errors.As(err, &r) || r.Budget != "b" {
		t.Errorf("%v", err)
	}
	buf := a.Allocate(4 << 20)
	if host.Held() != 6<<20 || a.Reserved() != 2<<20 {
		t.Errorf("after an allocation the host holds %d, and a has %d reserved", host.Held(), a.Reserved())
	}
	a.EndReservation()
	if host.Held() != 4<<20 {
		t.Errorf("after the step the host holds %d", host.Held())
	}
	a.Free(buf)
	a.Close()
	b.Close()
	if host.Held() != 0 {
		t.Errorf("in the end the host holds %d", host.Held())
	}
}

// TestFloorIsAlwaysAvailable checks that other budgets cannot take the floor that a
// budget was admitted with.
func TestFloorIsAlwaysAvailable(t *testing.T) {
	host := budget(t, "host", 4<<20, nil)
	a, b := budget(t, "a", 4<<20, host), budget(t, "b", 4<<20, host)
	if err := a.Admit(t.Context(), 1<<20); err != nil {
		t.Fatal(err)
	}
	greedy := b.Allocate(3 << 20)
	if err := refusal(func() { b.Allocate(1) }); err == nil {
		t.Error("b took the floor of a")
	}
	buf := a.Allocate(1 << 20)
	a.Free(buf)
	if host.Held() != 4<<20 {
		t.Errorf("the host holds %d", host.Held())
	}
	b.Free(greedy)
	a.Close()
	b.Close()
	if host.Held() != 0 {
		t.Errorf("in the end the host holds %d", host.Held())
	}
}

// TestWaitersAreServedInTurn checks that the oldest waiter is served first, and that
// no smaller request overtakes it.
func TestWaitersAreServedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := budget(t, "host", 10<<20, nil)
		owner := budget(t, "owner", 10<<20, host)
		buf := owner.Allocate(8 << 20)
		var order []string
		var mu sync.Mutex
		var wait sync.WaitGroup
		for _, w := range []struct {
			name string
			n    int64
		}{{"first", 9 << 20}, {"second", 2 << 20}, {"third", 9 << 20}} {
			wait.Go(func() {
				b := budget(t, w.name, 10<<20, host)
				if err := b.ReserveWait(t.Context(), w.n); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, w.name)
				mu.Unlock()
				time.Sleep(time.Second)
				b.Close()
			})
			synctest.Wait()
		}
		late := budget(t, "late", 10<<20, host)
		if err := late.Reserve(1 << 20); err == nil {
			t.Error("a later request overtook the waiters")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := late.ReserveWait(ctx, 1<<20); sources.KindOf(err) != sources.Exhausted {
			t.Errorf("giving up returned %v, want exhausted", err)
		}
		owner.Free(buf)
		owner.Close()
		wait.Wait()
		if len(order) != 3 || order[0] != "first" || order[1] != "second" {
			t.Errorf("served %v", order)
		}
		if host.Held() != 0 {
			t.Errorf("in the end the host holds %d", host.Held())
		}
	})
}

// TestShortageReclaims checks that caches are shrunk before anyone is refused.
func TestShortageReclaims(t *testing.T) {
	host := budget(t, "host", 4<<20, nil)
	cache, stream := budget(t, "cache", 4<<20, host), budget(t, "stream", 4<<20, host)
	kept := [][]byte{cache.Allocate(1 << 20), cache.Allocate(1 << 20), cache.Allocate(1 << 20)}
	remove := cache.OnShortage(func(missing int64) {
		for len(kept) > 0 && missing > 0 {
			missing -= int64(cap(kept[0]))
			cache.Free(kept[0])
			kept = kept[1:]
		}
	})
	stream.Free(stream.Allocate(2 << 20))
	if len(kept) != 2 {
		t.Errorf("%d of 3 are kept", len(kept))
	}
	remove()
	if err := refusal(func() { stream.Allocate(3 << 20) }); err == nil || len(kept) != 2 {
		t.Errorf("%v, %d are kept", err, len(kept))
	}
	for _, buf := range kept {
		cache.Free(buf)
	}
}

// TestReservationsAddUp checks that whatever budgets under one parent do concurrently,
// the parent is charged what they hold or have reserved, never more than its limit,
// and nothing in the end.
func TestReservationsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 1 << 20
		host, err := New("host", limit, nil)
		if err != nil {
			t.Fatal(err)
		}
		type step struct {
			kind int
			n    int
		}
		var plans [][]step
		for range rapid.IntRange(1, 4).Draw(t, "budgets") {
			var plan []step
			for range rapid.IntRange(0, 30).Draw(t, "steps") {
				plan = append(plan, step{rapid.IntRange(0, 4).Draw(t, "kind"), rapid.IntRange(1, limit/2).Draw(t, "n")})
			}
			plans = append(plans, plan)
		}
		var wait sync.WaitGroup
		for i, plan := range plans {
			wait.Go(func() {
				b, err := New(string(rune('a'+i)), limit, host)
				if err != nil {
					t.Error(err)
					return
				}
				defer b.Close()
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				defer cancel()
				var bufs [][]byte
				for _, s := range plan {
					switch s.kind {
					case 0:
						_ = b.Reserve(int64(s.n)) // may be refused
					case 1:
						_ = b.ReserveWait(ctx, int64(s.n))
					case 2:
						_ = refusal(func() { bufs = append(bufs, b.Allocate(s.n)) })
					case 3:
						if len(bufs) > 0 {
							b.Free(bufs[0])
							bufs = bufs[1:]
						}
					default:
						b.EndReservation()
					}
				}
				for _, buf := range bufs {
					b.Free(buf)
				}
			})
		}
		wait.Wait()
		if host.Held() != 0 || host.Live() != 0 || host.Peak() > limit {
			t.Errorf("the host holds %d, live %d, and held %d at most", host.Held(), host.Live(), host.Peak())
		}
	})
}
