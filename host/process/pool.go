package process

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

// pool holds the processes of one source: those that sessions lease, and some idle
// ones for later sessions. It is safe for concurrent use.
type pool struct {
	options wall.Options
	config  sources.Config
	// environ is the environment of every process. Answers may depend on it, so those of
	// one source must not differ from one process to the next.
	environ []string
	// starting is a semaphore for the start of a shared process.
	starting chan struct{}

	mu     sync.Mutex
	all    map[*sandbox]struct{}
	idle   []*sandbox // those without sessions; the one that was idle longest is first
	closed bool
	ending sync.WaitGroup // sandboxes that end in the background
}

func newPool(o wall.Options, c sources.Config) *pool {
	return &pool{options: o, config: c, environ: environment(os.Environ(), o.Environment), starting: make(chan struct{}, 1), all: map[*sandbox]struct{}{}}
}

// lease returns a sandbox for a session, and whether it is a reused one: its process
// may have ended unnoticed.
func (p *pool) lease(ctx context.Context, limit int64) (s *sandbox, reused bool, err error) {
	if s := p.reuse(limit); s != nil {
		return s, true, nil
	}
	if p.options.Share {
		select {
		case p.starting <- struct{}{}:
			defer func() { <-p.starting }()
		case <-ctx.Done():
			return nil, false, sources.NewError(sources.Canceled, "", "", context.Cause(ctx))
		}
		if s := p.reuse(limit); s != nil {
			return s, true, nil
		}
	}
	s, err = p.open(ctx, limit)
	return s, false, err
}

// reuse leases a shared or idle sandbox, or returns nil if there is none.
func (p *pool) reuse(limit int64) *sandbox {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.options.Share {
		for s := range p.all {
			if s.sessions > 0 && s.alive() && !s.unusable {
				s.sessions++
				// A shared process has the highest cap of its sessions.
				s.child.meter.limit.Store(max(s.child.meter.limit.Load(), limit))
				return s
			}
		}
	}
	for len(p.idle) > 0 {
		s := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		s.timer.Stop()
		if !s.alive() {
			p.retire(s)
			continue
		}
		s.sessions = 1
		s.child.meter.begin(limit)
		return s
	}
	return nil
}

// open starts a process, opens its source, and leases it.
func (p *pool) open(ctx context.Context, limit int64) (*sandbox, error) {
	c, err := start(ctx, p.options, p.environ)
	if err != nil {
		return nil, err
	}
	s := &sandbox{child: c, client: flight.NewFlightServiceClient(c.conn), callTimeout: p.options.CallTimeout, sessions: 1}
	if err := s.open(ctx, p.options.OpenMemory, p.config); err != nil {
		c.kill()
		return nil, err
	}
	c.meter.begin(limit)
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.all[s] = struct{}{}
	}
	p.mu.Unlock()
	if closed {
		return nil, errors.Join(sources.Errorf(sources.Invalid, "", "", "the source is closed"), s.end())
	}
	return s, nil
}

// release returns a sandbox whose session has ended. It becomes idle, unless it is
// unusable (it did not end the session in order), close to its cap, or there are
// enough idle ones.
func (p *pool) release(s *sandbox, unusable bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.unusable = s.unusable || unusable
	if s.sessions--; s.sessions > 0 || p.closed {
		return
	}
	if s.unusable || !s.alive() || s.child.meter.nearCap() || len(p.idle) >= p.options.MaxIdle {
		p.retire(s)
		return
	}
	p.idle = append(p.idle, s)
	s.timer = time.AfterFunc(p.options.IdleTimeout, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if at := slices.Index(p.idle, s); at >= 0 && !p.closed {
			p.idle = slices.Delete(p.idle, at, at+1)
			p.retire(s)
		}
	})
}

// retire ends a sandbox in the background. The caller holds the lock; only close
// waits for the end.
func (p *pool) retire(s *sandbox) {
	delete(p.all, s)
	p.ending.Go(func() { _ = s.end() }) // Close reports the errors of the remaining ones
}

// close ends all sandboxes, including leased ones.
func (p *pool) close() error {
	p.mu.Lock()
	p.closed = true
	for _, s := range p.idle {
		s.timer.Stop()
	}
	var faults []error
	var each sync.WaitGroup
	var mu sync.Mutex
	for s := range p.all {
		s.unusable = s.unusable || s.sessions > 0 // it may be blocked in a scan that is not read
		each.Go(func() {
			if err := s.end(); err != nil {
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

// usage returns the memory use of the processes, in the order of their ids.
func (p *pool) usage() []wall.Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]wall.Usage, 0, len(p.all))
	for s := range p.all {
		m := s.child.meter
		all = append(all, wall.Usage{
			Name: s.child.name, Pid: s.child.group.pid(), Sessions: s.sessions,
			Held: m.held.Load(), Peak: m.peak.Load(), Limit: m.limit.Load(),
		})
	}
	slices.SortFunc(all, func(a, b wall.Usage) int { return a.Pid - b.Pid })
	return all
}
