package process

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// meter looks at what a process holds for itself alone, and ends it where that is
// over its cap. It looks the more often the nearer the process is to the cap: no
// process takes memory faster than hogRate, so none gets far between two looks.
type meter struct {
	name  string
	limit atomic.Int64 // bytes
	held  atomic.Int64 // at the last look
	peak  atomic.Int64 // the most of all looks since begin

	exceeded atomic.Pointer[sources.Error]
	wake     chan struct{} // look at once
	quit     chan struct{} // the process is gone
	done     sync.WaitGroup

	mu   sync.Mutex // of what follows
	look func() (held, most int64, ok bool)
	kill func()
}

const (
	hogRate   = 4 << 30 // bytes in a second
	leastLook = 2 * time.Millisecond
	mostLook  = 100 * time.Millisecond
)

func newMeter(name string, limit int64) *meter {
	m := &meter{name: name, wake: make(chan struct{}, 1), quit: make(chan struct{})}
	m.limit.Store(limit)
	return m
}

// start begins to look at a process that has just started. It ends with stop, or
// with the process.
func (m *meter) start(pid int, kill func()) {
	look, shut, ok := private(pid)
	if !ok {
		return // no such thing on this system
	}
	m.mu.Lock()
	m.look, m.kill = look, kill
	m.mu.Unlock()
	m.done.Go(func() {
		defer func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.look = nil
			shut()
		}()
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case <-m.quit:
				return
			case <-m.wake:
			case <-timer.C:
			}
			held, ok := m.now()
			if !ok {
				return
			}
			if m.over() != nil {
				m.last()
				return
			}
			timer.Reset(nextLook(m.limit.Load() - held))
		}
	})
}

// now looks, returns what it saw, and ends the process where that is over the cap.
func (m *meter) now() (held int64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.look == nil {
		return 0, false
	}
	if held, _, ok = m.look(); !ok {
		return 0, false
	}
	m.saw(held)
	if limit := m.limit.Load(); held > limit && m.over() == nil {
		m.exceeded.Store(&sources.Error{Kind: sources.Exhausted, Err: &Excess{Name: m.name, Held: held, Limit: limit}})
		m.kill()
	}
	return held, true
}

// nextLook is how long a process with so much room cannot reach its cap.
func nextLook(room int64) time.Duration {
	return min(max(time.Duration(float64(room)/hogRate*float64(time.Second)), leastLook), mostLook)
}

func (m *meter) saw(held int64) {
	m.held.Store(held)
	for peak := m.peak.Load(); held > peak && !m.peak.CompareAndSwap(peak, held); peak = m.peak.Load() {
	}
}

// last looks on while a process that was killed is dying: what it had taken by
// then is its peak.
func (m *meter) last() {
	for range 100 {
		m.mu.Lock()
		_, most, ok := m.look()
		m.mu.Unlock()
		if !ok {
			return
		}
		m.saw(most)
		select {
		case <-m.quit:
			return
		case <-time.After(200 * time.Microsecond):
		}
	}
}

// stop ends the looking, once the process has ended.
func (m *meter) stop() {
	close(m.quit)
	m.done.Wait()
	m.held.Store(0)
}

// begin sets another cap, and counts the peak anew. The next look is at once.
func (m *meter) begin(limit int64) {
	m.limit.Store(limit)
	m.peak.Store(0)
	m.now()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// over returns why the process was killed, or nil.
func (m *meter) over() error {
	if e := m.exceeded.Load(); e != nil {
		return e
	}
	return nil
}

// peaked reports whether the process came so near to its cap that a new one is
// better: what a process once had it seldom gives back, and what it keeps the
// next session lacks.
func (m *meter) peaked() bool { return m.peak.Load() > m.limit.Load()/4*3 }

// Excess is the cause of the [sources.Exhausted] error of a process that was
// killed for what it held.
type Excess struct {
	Name  string // the plugin's
	Held  int64  // private bytes when it was looked at last
	Limit int64  // bytes
}

// Error says who held what: `plugin "csv" held 259 MiB of its 256 MiB`.
func (e *Excess) Error() string {
	return fmt.Sprintf("plugin %q held %d MiB of its %s; raise the isolate limit, or ask for less at once", e.Name, (e.Held+1<<20-1)>>20, mebibytes(e.Limit))
}

func mebibytes(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
