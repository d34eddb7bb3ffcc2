package postgres

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// endlessPage always has rows, and is due every millisecond. It calls a function after
// some pages.
type endlessPage struct {
	due   time.Time
	pages int
	after func()
}

func (p *endlessPage) dueAt() time.Time {
	if p.due.IsZero() {
		p.due = time.Now().Add(time.Millisecond)
	}
	return p.due
}

func (p *endlessPage) handOnDue() {
	p.due = time.Time{}
	if p.pages--; p.pages == 0 {
		p.after()
	}
}

// TestDeadlinesOfPgx tests that a read which was interrupted for due pages goes on, and that
// a deadline which pgx sets during it still ends it.
func TestDeadlinesOfPgx(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	c := newDueConn(here)
	defer c.Close()
	buf := make([]byte, 8)

	c.attach(&endlessPage{pages: 3, after: func() { go func() { _, _ = there.Write([]byte("late")) }() }})
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "late" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	c.attach(&endlessPage{pages: 3, after: func() { _ = c.SetDeadline(time.Now()) }})
	if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline of pgx: %v", err)
	}
	_ = c.SetDeadline(time.Time{})
	c.attach(nil)
	go func() { _, _ = there.Write([]byte("next")) }()
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "next" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

// TestAttachEndsOtherReads tests that a read on another goroutine ends before a scan is
// attached, and that nothing is lost.
func TestAttachEndsOtherReads(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	c := newDueConn(here)
	defer c.Close()
	other := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 8))
		other <- err
	}()
	for running := 0; running == 0; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		running = c.reads
		c.mu.Unlock()
	}
	c.attach(&endlessPage{pages: 1, after: func() { go func() { _, _ = there.Write([]byte("text")) }() }})
	if err := <-other; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the other read ends with %v", err)
	}
	buf := make([]byte, 8)
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "text" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}
