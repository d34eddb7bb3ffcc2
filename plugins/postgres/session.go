package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// session is one snapshot, held by the transactions of its members. Without a
// snapshot a member lives as long as its scan.
type session struct {
	s    *source
	c    *catalog
	env  sources.Env
	size int // how many of the pool's connections are set aside for it

	mu      sync.Mutex
	idle    []*member
	members map[*member]struct{} // those that live, in use or not
	opening int                  // members on their way
	spare   chan struct{}        // closed when the second member is there, or cannot be had; nil where nobody fetches it
	over    error                // why nothing more is read
	timer   *time.Timer          // of the snapshot's limit
	life    context.Context
	end     context.CancelFunc // of the fetching of the second member
}

var (
	errLost = &sources.Error{Kind: sources.Unavailable, Err: errors.New("the snapshot is lost: the connections that held it are gone; " +
		"read again, or open with the option snapshot=renew to go on in another snapshot")}
	errBusy   = errors.New("all scans that the session may run are running")
	errClosed = &sources.Error{Kind: sources.Invalid, Err: errors.New("the session is closed")}
)

var snapshotName = regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{8}-[0-9]{1,10}$`)

// Begin takes all the connections that the session may need, and waits for
// other sessions where there are too few. It opens the first. A second one is
// opened with the first page that is read: a snapshot that two hold survives the
// loss of one.
func (s *source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	c, err := s.catalog(ctx)
	if err != nil {
		return nil, sources.WithOp("begin", "", err)
	}
	most := s.options.connections
	size := env.MaxScans
	if size <= 0 {
		size = 2
	}
	switch {
	case size > most:
		return nil, &sources.Error{Op: "begin", Kind: sources.Exhausted, Err: fmt.Errorf("%d scans at once, and the source may have %d connections: raise the option connections, or ask for fewer at once", size, most)}
	case env.Snapshot != "" && s.options.snapshot == none:
		return nil, &sources.Error{Op: "begin", Kind: sources.Invalid, Err: errors.New("the source was opened with snapshot=none: there is no snapshot to join")}
	case env.Snapshot != "" && !snapshotName.MatchString(env.Snapshot):
		return nil, &sources.Error{Op: "begin", Kind: sources.Invalid, Err: fmt.Errorf("%q names no snapshot of this source", env.Snapshot)}
	}
	if err := s.take(ctx, size); err != nil {
		return nil, sources.WithOp("begin", "", err)
	}
	n := &session{s: s, c: c, env: env, size: size, members: map[*member]struct{}{}}
	n.life, n.end = context.WithCancel(context.Background())
	if s.options.snapshot == none {
		return n, nil
	}
	first, err := s.join(ctx, env.Snapshot)
	if err != nil {
		n.end()
		s.give(size)
		return nil, sources.WithOp("begin", "", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.members[first] = struct{}{}
	n.idle = append(n.idle, first)
	if limit := s.options.snapshotLimit; limit > 0 {
		n.timer = time.AfterFunc(limit, n.expire)
	}
	return n, nil
}

// keep sees to it that two members hold the snapshot, where there is room for
// two and one to join: another is opened in the background.
func (n *session) keep() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.s.options.snapshot == none || n.spare != nil || n.over != nil || len(n.members)+n.opening != 1 || n.size < 2 {
		return
	}
	spare, snapshot := make(chan struct{}), n.anyName()
	n.spare = spare
	n.opening++
	go func() {
		m, err := n.s.join(n.life, snapshot)
		n.mu.Lock()
		n.opening--
		n.spare = nil
		late := err == nil && n.over != nil
		if err == nil && !late { // after an error whoever needs it tries again, and says what is wrong
			n.members[m] = struct{}{}
			n.idle = append(n.idle, m)
		}
		n.mu.Unlock()
		if late {
			m.release()
		}
		close(spare)
	}()
}

// anyName is the name of the snapshot with one of the members. The caller holds
// the lock.
func (n *session) anyName() string {
	for m := range n.members {
		return m.snapshot
	}
	return ""
}

// acquire hands out a member for one scan.
func (n *session) acquire(ctx context.Context) (*member, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if n.over != nil {
			return nil, n.over
		}
		if k := len(n.idle); k > 0 {
			m := n.idle[k-1]
			n.idle = n.idle[:k-1]
			return m, nil
		}
		if n.spare == nil {
			break
		}
		spare := n.spare
		n.mu.Unlock()
		select {
		case <-spare:
		case <-ctx.Done():
		}
		n.mu.Lock()
		if ctx.Err() != nil {
			return nil, fault(ctx, ctx.Err())
		}
	}
	name := n.anyName()
	switch mode := n.s.options.snapshot; {
	case len(n.members)+n.opening >= n.size:
		return nil, &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("%w: %d in a session that asked for no more", errBusy, n.size)}
	case name == "" && mode == strict:
		return nil, errLost
	}
	n.opening++
	n.mu.Unlock()
	m, err := n.s.join(ctx, name)
	n.mu.Lock()
	n.opening--
	if err != nil {
		return nil, err
	}
	if n.over != nil {
		m.release()
		return nil, n.over
	}
	n.members[m] = struct{}{}
	return m, nil
}

// giveBack takes a member after its scan. One whose connection is gone is lost,
// and with the last one the snapshot.
func (n *session) giveBack(m *member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over != nil || m.lost() || n.s.options.snapshot == none {
		delete(n.members, m)
		m.release()
		return
	}
	n.idle = append(n.idle, m)
}

// expire ends the snapshot because it has been held for too long, also under
// those who read.
func (n *session) expire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over != nil {
		return
	}
	n.over = &sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("the snapshot was held for its limit of %s: read faster or less at once, or raise the option snapshot_limit", n.s.options.snapshotLimit)}
	for _, m := range n.idle {
		delete(n.members, m)
		m.release()
	}
	n.idle = nil
	for m := range n.members {
		m.cut()
	}
	n.end()
}

// fault is what an error of a statement means here.
func (n *session) fault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over != nil && ctx.Err() == nil {
		return n.over
	}
	return fault(ctx, err)
}

// Close ends the snapshot.
func (n *session) Close() error {
	n.mu.Lock()
	if n.over == errClosed {
		n.mu.Unlock()
		return nil
	}
	n.over = errClosed
	n.end()
	if n.timer != nil {
		n.timer.Stop()
	}
	spare, idle := n.spare, n.idle
	n.idle = nil
	n.mu.Unlock()
	if spare != nil {
		<-spare
	}
	for _, m := range idle {
		m.release()
	}
	n.s.give(n.size)
	return nil
}
