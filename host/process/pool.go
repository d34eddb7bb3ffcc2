package process

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/penstock-data/penstock/sources"
)

// pool has the processes of one source: those that sessions lease, and a few that
// wait for the next session.
type pool struct {
	options Options
	config  sources.Config
	// turn is held by who starts a shared process: others wait for that one.
	turn chan struct{}

	mu     sync.Mutex
	all    map[*isolate]struct{}
	idle   []*isolate // of all; the one that waits longest is first
	closed bool
	ending sync.WaitGroup // isolates that end by themselves
}

func newPool(o Options, c sources.Config) *pool {
	return &pool{options: o, config: c, turn: make(chan struct{}, 1), all: map[*isolate]struct{}{}}
}

// lease returns an isolate for a session, and whether it waited there: one that
// waited may have died a moment ago.
func (p *pool) lease(ctx context.Context, limit int64) (i *isolate, warm bool, err error) {
	if i := p.take(limit); i != nil {
		return i, true, nil
	}
	if p.options.Share {
		select {
		case p.turn <- struct{}{}:
			defer func() { <-p.turn }()
		case <-ctx.Done():
			return nil, false, &sources.Error{Kind: sources.Canceled, Err: context.Cause(ctx)}
		}
		if i := p.take(limit); i != nil {
			return i, true, nil
		}
	}
	i, err = p.open(ctx, limit)
	return i, false, err
}

// take leases an isolate that is there; nil is none.
func (p *pool) take(limit int64) *isolate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.options.Share {
		for i := range p.all {
			if i.sessions > 0 && i.alive() && !i.spoilt {
				i.sessions++
				// The cap of all is that of the largest.
				i.child.meter.limit.Store(max(i.child.meter.limit.Load(), limit))
				return i
			}
		}
	}
	for len(p.idle) > 0 {
		i := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		i.timer.Stop()
		if !i.alive() {
			p.retire(i)
			continue
		}
		i.sessions = 1
		i.child.meter.begin(limit)
		return i
	}
	return nil
}

// open starts a process, opens its source, and leases it.
func (p *pool) open(ctx context.Context, limit int64) (*isolate, error) {
	c, err := start(ctx, p.options)
	if err != nil {
		return nil, err
	}
	i := &isolate{child: c, client: flight.NewFlightServiceClient(c.conn), call: p.options.Call, sessions: 1}
	if err := i.open(ctx, p.options.Opening, p.config); err != nil {
		c.kill()
		return nil, err
	}
	c.meter.begin(limit)
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.all[i] = struct{}{}
	}
	p.mu.Unlock()
	if closed {
		return nil, errors.Join(&sources.Error{Kind: sources.Invalid, Err: errors.New("the source is closed")}, i.end())
	}
	return i, nil
}

// release takes an isolate back whose session has ended. It waits for the next
// one, unless it is of no further use (spoilt: it did not end the session as it
// should), or there are enough.
func (p *pool) release(i *isolate, spoilt bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i.spoilt = i.spoilt || spoilt
	if i.sessions--; i.sessions > 0 || p.closed {
		return
	}
	if i.spoilt || !i.alive() || i.child.meter.peaked() || len(p.idle) >= p.options.Warm {
		p.retire(i)
		return
	}
	p.idle = append(p.idle, i)
	i.timer = time.AfterFunc(p.options.Idle, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if at := slices.Index(p.idle, i); at >= 0 && !p.closed {
			p.idle = slices.Delete(p.idle, at, at+1)
			p.retire(i)
		}
	})
}

// retire ends an isolate in the background; the lock is held. Nobody waits for
// it but close.
func (p *pool) retire(i *isolate) {
	delete(p.all, i)
	p.ending.Go(func() { _ = i.end() }) // the source's Close is told by those that are left
}

// close ends all isolates, also those that are leased.
func (p *pool) close() error {
	p.mu.Lock()
	p.closed = true
	for _, i := range p.idle {
		i.timer.Stop()
	}
	var faults []error
	var each sync.WaitGroup
	var mu sync.Mutex
	for i := range p.all {
		i.spoilt = i.spoilt || i.sessions > 0 // it could wait for a scan that nobody reads
		each.Go(func() {
			if err := i.end(); err != nil {
				mu.Lock()
				faults = append(faults, err)
				mu.Unlock()
			}
		})
	}
	p.idle = nil
	clear(p.all)
	p.mu.Unlock()
	each.Wait()
	p.ending.Wait()
	if len(faults) > 0 {
		return faults[0]
	}
	return nil
}

// Usage is what one of a source's processes holds.
type Usage struct {
	Name     string `json:"name"`     // the plugin's
	Pid      int    `json:"pid"`      // of the process
	Sessions int    `json:"sessions"` // that lease it; 0: it waits for the next one
	Held     int64  `json:"held"`     // private bytes at the last look, at most a tenth of a second ago
	Peak     int64  `json:"peak"`     // the most of them since it was leased
	Limit    int64  `json:"limit"`    // its cap, in bytes
}

// usage lists the isolates, the oldest process first.
func (p *pool) usage() []Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Usage, 0, len(p.all))
	for i := range p.all {
		m := i.child.meter
		all = append(all, Usage{
			Name: i.child.name, Pid: i.child.cmd.Process.Pid, Sessions: i.sessions,
			Held: m.held.Load(), Peak: m.peak.Load(), Limit: m.limit.Load(),
		})
	}
	slices.SortFunc(all, func(a, b Usage) int { return a.Pid - b.Pid })
	return all
}
