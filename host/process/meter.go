package process

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// meter samples the private memory of a process and its descendants, and kills them if
// together they exceed the process's cap. The closer they are to the cap, the shorter the
// interval between samples: a process cannot allocate faster than maxRate, so it does not
// exceed the cap by much.
type meter struct {
	name  string
	limit atomic.Int64 // bytes
	held  atomic.Int64 // bytes, the last sample
	peak  atomic.Int64 // bytes, the highest sample since begin

	exceeded atomic.Pointer[sources.Error]
	wake     chan struct{} // requests a sample at once
	quit     chan struct{} // closed when the process has ended
	done     sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	family *family    // nil if it is not known, or has ended
	kill   func()
}

const (
	maxRate     = 4 << 30 // bytes per second
	minInterval = 2 * time.Millisecond
	maxInterval = 100 * time.Millisecond
)

func newMeter(name string, limit int64) *meter {
	m := &meter{name: name, wake: make(chan struct{}, 1), quit: make(chan struct{})}
	m.limit.Store(limit)
	return m
}

// start samples a process that has just started, until stop is called or the
// process and its descendants have ended.
func (m *meter) start(g group, kill func()) {
	family, ok := newFamily(g.root())
	if !ok {
		return // not supported on this system
	}
	m.mu.Lock()
	m.family, m.kill = family, kill
	m.mu.Unlock()
	m.done.Go(func() {
		defer func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.family = nil
			family.close()
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
			held, ok := m.sample()
			if !ok {
				return
			}
			if m.over() != nil {
				m.sampleDying()
				return
			}
			timer.Reset(nextInterval(m.limit.Load() - held))
		}
	})
}

// sample takes a sample, returns it, and kills the process and its descendants if they
// exceed the cap.
func (m *meter) sample() (held int64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.family == nil {
		return 0, false
	}
	if held, _, ok = m.family.sum(); !ok {
		return 0, false
	}
	limit := m.limit.Load()
	if held > limit {
		held = m.family.exact(held)
	}
	m.record(held)
	if held > limit && m.over() == nil {
		m.exceeded.Store(sources.NewError(sources.Exhausted, "", "", &Excess{Name: m.name, Held: held, Limit: limit}))
		m.family.kill()
		m.kill()
	}
	return held, true
}

// killAll kills the processes that the last sample has found.
func (m *meter) killAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.family != nil {
		m.family.kill()
	}
}

// nextInterval returns for how long a process that is that many bytes below its cap
// cannot reach it.
func nextInterval(room int64) time.Duration {
	return min(max(time.Duration(float64(room)/maxRate*float64(time.Second)), minInterval), maxInterval)
}

func (m *meter) record(held int64) {
	m.held.Store(held)
	for peak := m.peak.Load(); held > peak && !m.peak.CompareAndSwap(peak, held); peak = m.peak.Load() {
	}
}

// sampleDying samples killed processes until they have ended, so that the peak includes
// what they allocated until then.
func (m *meter) sampleDying() {
	for range 100 {
		m.mu.Lock()
		_, highest, ok := m.family.sum()
		m.mu.Unlock()
		if !ok {
			return
		}
		m.record(highest)
		select {
		case <-m.quit:
			return
		case <-time.After(200 * time.Microsecond):
		}
	}
}

// stop ends the sampling. The process must have ended.
func (m *meter) stop() {
	close(m.quit)
	m.done.Wait()
	m.held.Store(0)
}

// begin sets the cap, resets the peak, and takes a sample at once.
func (m *meter) begin(limit int64) {
	m.limit.Store(limit)
	m.peak.Store(0)
	m.sample()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// over returns the error of a process that was killed for exceeding its cap, else
// nil.
func (m *meter) over() error {
	if e := m.exceeded.Load(); e != nil {
		return e
	}
	return nil
}

// nearCap reports whether the process came so close to its cap that the next session
// should have a new one: a process rarely returns memory to the system.
func (m *meter) nearCap() bool { return m.peak.Load() > m.limit.Load()/4*3 }

// Excess is the cause of the [sources.Exhausted] error of a process that was
// killed because it and its descendants exceeded its memory cap.
type Excess struct {
	Name  string // the source's name, as in [wall.Options]
	Held  int64  // private bytes in the last sample, including those of its descendants
	Limit int64  // memory cap in bytes
}

// Error returns how much memory was held, and the remedy.
func (e *Excess) Error() string {
	return fmt.Sprintf("plugin %q held %d MiB of its %s; raise the process's memory limit, or read less at once", e.Name, (e.Held+1<<20-1)>>20, mebibytes(e.Limit))
}

func mebibytes(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
