package postgres

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// dueConn is the network connection of a connection to a server, below TLS. While a scan
// is attached, a Read that waits for the server hands on the scan's page when that is due,
// and then goes on waiting. pgx, which closes a connection after a timeout, never sees
// one of these.
//
// The page is handed on by the goroutine that reads, which is that of the scan: pgx reads
// on another one only while it sends a statement, and attach ends that.
type dueConn struct {
	net.Conn

	mu       sync.Mutex
	idle     sync.Cond // signals that no Read is running
	reads    int       // how many Reads are running
	scan     duePage   // nil while no scan is attached
	deadline time.Time // for reading, as set by pgx; zero means none
	due      time.Time // when the current Read is interrupted for the scan; zero means never
}

// duePage is the page that a scan is building.
type duePage interface {
	// dueAt returns when the page is to be handed on, or the zero time if it has no rows.
	dueAt() time.Time
	// handOnDue hands the page on to the consumer, whose panic passes through.
	handOnDue()
}

// dialDue returns a function that dials with dial and returns a dueConn.
func dialDue(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newDueConn(conn), nil
	}
}

func newDueConn(conn net.Conn) *dueConn {
	c := &dueConn{Conn: conn}
	c.idle.L = &c.mu
	return c
}

// dueConnOf returns the dueConn below a connection, or nil if there is none.
func dueConnOf(conn net.Conn) *dueConn {
	for {
		switch c := conn.(type) {
		case *dueConn:
			return c
		case interface{ NetConn() net.Conn }: // TLS
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// attach attaches a scan, or detaches it if scan is nil. The result of the scan's
// statement must have begun. If sending the statement took long, pgx may still be reading
// on a goroutine of its own. Such a Read is interrupted, which pgx expects: it then reads
// on the goroutine of the scan.
func (c *dueConn) attach(scan duePage) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// The next Read reports what is wrong with a connection whose deadline cannot be set.
	for c.reads > 0 {
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
		c.idle.Wait()
	}
	c.scan, c.due = scan, time.Time{}
	_ = c.Conn.SetReadDeadline(c.earliest())
}

// begin counts a Read and returns the attached scan.
func (c *dueConn) begin() duePage {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	return c.scan
}

func (c *dueConn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads--
	c.idle.Broadcast()
}

func (c *dueConn) Read(b []byte) (int, error) {
	scan := c.begin()
	defer c.end()
	for scan != nil {
		due := scan.dueAt()
		if due.IsZero() {
			break
		}
		if time.Until(due) <= 0 {
			scan.handOnDue()
			continue
		}
		if err := c.interruptAt(due); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || c.expired() {
			return n, err
		}
	}
	if err := c.interruptAt(time.Time{}); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// interruptAt sets when a Read is interrupted for the scan. Most calls change nothing.
func (c *dueConn) interruptAt(due time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.due.Equal(due) {
		return nil
	}
	c.due = due
	return c.Conn.SetReadDeadline(c.earliest())
}

// expired reports whether the deadline of pgx has passed.
func (c *dueConn) expired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.deadline.IsZero() && time.Until(c.deadline) <= 0
}

// earliest returns the earlier one of both deadlines. The caller holds the lock.
func (c *dueConn) earliest() time.Time {
	if c.due.IsZero() || !c.deadline.IsZero() && c.deadline.Before(c.due) {
		return c.deadline
	}
	return c.due
}

// SetReadDeadline sets the deadline of pgx. pgx calls it from other goroutines, too, to
// interrupt a Read.
func (c *dueConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetReadDeadline(c.earliest())
}

// SetDeadline is SetReadDeadline, and the same for writing.
func (c *dueConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetWriteDeadline(t), c.SetReadDeadline(t))
}
