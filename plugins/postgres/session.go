package postgres

import (
	"context"
	"errors"
	"regexp"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// session has one snapshot, which the transactions of its connections hold. With
// snapshot=none, a connection is released after each scan.
type session struct {
	s    *source
	c    *catalog
	env  sources.Env
	size int // how many connections of the pool it has reserved

	mu          sync.Mutex
	idle        []*snapshotConn
	conns       map[*snapshotConn]struct{} // all open connections, in use or idle
	opening     int                        // connections that are being opened
	spare       chan struct{}              // closed when the second connection is open or has failed; nil if none is being opened
	endErr      error                      // why the session has ended; nil if it has not
	timer       *time.Timer                // for the option snapshot_limit
	spareCtx    context.Context
	cancelSpare context.CancelFunc // cancels spareCtx
}

var (
	errGone = errors.New("the snapshot is lost: the connections that held it are gone; " +
		"read again, or open with the option snapshot=renew to continue in a new snapshot")
	// errLost is the error of the session. Another session may help if nothing was read yet.
	errLost   = sources.NewError(sources.Unavailable, "", "", errGone)
	errBusy   = errors.New("the session already runs its maximum number of scans")
	errClosed = sources.Errorf(sources.Invalid, "", "", "the session is closed")
)

var snapshotName = regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{8}-[0-9]{1,10}$`)

// Begin reserves all connections that the session may need, waiting for other sessions
// if necessary, and opens the first one. The second one is opened after the first page,
// so that the snapshot survives the loss of a connection.
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
		return nil, sources.Errorf(sources.Exhausted, "begin", "", "the session needs %d connections for concurrent scans, but the source may have only %d: raise the option connections, or run fewer scans concurrently", size, most)
	case env.Snapshot != "" && s.options.snapshot == snapshotNone:
		return nil, sources.Errorf(sources.Invalid, "begin", "", "the source was opened with snapshot=none and has no snapshots")
	case env.Snapshot != "" && !snapshotName.MatchString(env.Snapshot):
		return nil, sources.Errorf(sources.Invalid, "begin", "", "%q is not a snapshot of this source", env.Snapshot)
	}
	if err := s.reserveConns(ctx, size); err != nil {
		return nil, sources.WithOp("begin", "", err)
	}
	n := &session{s: s, c: c, env: env, size: size, conns: map[*snapshotConn]struct{}{}}
	n.spareCtx, n.cancelSpare = context.WithCancel(context.Background())
	if s.options.snapshot == snapshotNone {
		return n, nil
	}
	first, err := s.openSnapshotConn(ctx, env.Snapshot)
	if err != nil {
		n.cancelSpare()
		s.returnConns(size)
		return nil, sources.WithOp("begin", "", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[first] = struct{}{}
	n.idle = append(n.idle, first)
	if limit := s.options.snapshotLimit; limit > 0 {
		n.timer = time.AfterFunc(limit, n.expire)
	}
	return n, nil
}

// openSpare opens a second connection in the background, if the session has one connection
// and may have two.
func (n *session) openSpare() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.s.options.snapshot == snapshotNone || n.spare != nil || n.endErr != nil || len(n.conns)+n.opening != 1 || n.size < 2 {
		return
	}
	spare, snapshot := make(chan struct{}), n.exportedName()
	n.spare = spare
	n.opening++
	go func() {
		m, err := n.s.openSnapshotConn(n.spareCtx, snapshot)
		n.mu.Lock()
		n.opening--
		n.spare = nil
		late := err == nil && n.endErr != nil
		if err == nil && !late { // after an error, a scan that needs the connection tries again
			n.conns[m] = struct{}{}
			n.idle = append(n.idle, m)
		}
		n.mu.Unlock()
		if late {
			m.release()
		}
		close(spare)
	}()
}

// exportedName returns the exported name of the snapshot, or an empty string if there is
// no connection. The caller must hold the lock.
func (n *session) exportedName() string {
	for m := range n.conns {
		return m.exported
	}
	return ""
}

// acquire returns a connection for one scan.
func (n *session) acquire(ctx context.Context) (*snapshotConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if n.endErr != nil {
			return nil, n.endErr
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
			return nil, translateError(ctx, ctx.Err())
		}
	}
	name := n.exportedName()
	switch mode := n.s.options.snapshot; {
	case len(n.conns)+n.opening >= n.size:
		return nil, sources.Errorf(sources.Invalid, "", "", "%w: %d", errBusy, n.size)
	case name == "" && mode == snapshotStrict:
		return nil, errLost
	}
	n.opening++
	n.mu.Unlock()
	m, err := n.s.openSnapshotConn(ctx, name)
	n.mu.Lock()
	n.opening--
	if err != nil {
		return nil, err
	}
	if n.endErr != nil {
		m.release()
		return nil, n.endErr
	}
	n.conns[m] = struct{}{}
	return m, nil
}

// release takes back a connection after its scan. A connection that is closed is removed;
// with the last one, the snapshot is lost.
func (n *session) release(m *snapshotConn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endErr != nil || m.isClosed() || n.s.options.snapshot == snapshotNone {
		delete(n.conns, m)
		m.release()
		return
	}
	n.idle = append(n.idle, m)
}

// expire ends the session when the snapshot has reached its limit, and interrupts
// running scans.
func (n *session) expire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endErr != nil {
		return
	}
	n.endErr = sources.Errorf(sources.Exhausted, "", "", "the snapshot has reached its limit of %s: read faster or less at once, or raise the option snapshot_limit", n.s.options.snapshotLimit)
	for _, m := range n.idle {
		delete(n.conns, m)
		m.release()
	}
	n.idle = nil
	for m := range n.conns {
		m.closeNow()
	}
	n.cancelSpare()
}

// translateError returns the error of the session if it has ended, and otherwise translates an
// error of pgx.
func (n *session) translateError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endErr != nil && ctx.Err() == nil {
		return n.endErr
	}
	return n.s.translateError(ctx, err)
}

// Close ends the snapshot and releases the connections.
func (n *session) Close() error {
	n.mu.Lock()
	if n.endErr == errClosed {
		n.mu.Unlock()
		return nil
	}
	n.endErr = errClosed
	n.cancelSpare()
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
	n.s.returnConns(n.size)
	return nil
}
