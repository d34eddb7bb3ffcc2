//go:build unix

package process_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

// openPool opens a source and closes it when the test ends.
func openPool(t *testing.T, o wall.Options) *process.Source {
	t.Helper()
	clean(t)
	source, err := process.Open(t.Context(), o, sources.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	})
	return source.(*process.Source)
}

func begin(t *testing.T, s *process.Source, mem memory.Allocator) sources.Session {
	t.Helper()
	session, err := s.Begin(t.Context(), sources.Env{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func end(t *testing.T, sessions ...sources.Session) {
	t.Helper()
	for _, n := range sessions {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

func pids(s *process.Source) (pids []int) {
	for _, u := range s.Sandboxes() {
		pids = append(pids, u.Pid)
	}
	return pids
}

// rows reads a table and returns the number of its rows.
func rows(ctx context.Context, n sources.Session, table string) (rows int64, err error) {
	for batch, err := range n.Scan(ctx, &sources.Query{Table: table}) {
		if err != nil {
			return rows, err
		}
		rows += batch.Record.NumRows()
	}
	return rows, nil
}

// eventually waits until a condition holds that depends on another goroutine or
// process.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never happened that %s", what)
		}
	}
}

// TestLease checks that each session has a process of its own, that the first
// session uses the process that was opened first, and that MaxIdle processes are
// kept for later sessions.
func TestLease(t *testing.T) {
	s := openPool(t, options("shop"))
	opened := pids(s)
	var sessions []sources.Session
	for range 4 {
		sessions = append(sessions, begin(t, s, memory.DefaultAllocator))
	}
	all := pids(s)
	if len(opened) != 1 || len(all) != 4 || !slices.Contains(all, opened[0]) {
		t.Fatalf("the processes %v serve four sessions, after %v was opened", all, opened)
	}
	if n := len(children(t, os.Getpid())); n != 4 {
		t.Errorf("%d processes run", n)
	}
	for _, n := range sessions {
		if got, err := rows(t.Context(), n, "orders"); err != nil || got != 40 {
			t.Errorf("%d rows, %v", got, err)
		}
	}
	end(t, sessions...)
	eventually(t, "two processes are left", func() bool { return len(children(t, os.Getpid())) == wall.DefaultMaxIdle })
	warm := pids(s)
	again := begin(t, s, memory.DefaultAllocator)
	if len(warm) != wall.DefaultMaxIdle || !slices.Equal(pids(s), warm) {
		t.Errorf("the processes %v serve the next session, where %v waited", pids(s), warm)
	}
	if u := s.Sandboxes(); u[0].Sessions+u[1].Sessions != 1 {
		t.Errorf("%+v serve one session", u)
	}
	end(t, again)
}

// TestIdle checks that an idle process is ended after IdleTimeout, and that the next
// session gets another one.
func TestIdle(t *testing.T) {
	o := options("shop")
	o.IdleTimeout = time.Millisecond
	s := openPool(t, o)
	eventually(t, "the idle process ends", func() bool { return len(pids(s)) == 0 && len(children(t, os.Getpid())) == 0 })
	n := begin(t, s, memory.DefaultAllocator)
	if got, err := rows(t.Context(), n, "orders"); err != nil || got != 40 {
		t.Errorf("%d rows, %v", got, err)
	}
	end(t, n)
}

// TestCold checks that a negative MaxIdle keeps no process.
func TestCold(t *testing.T) {
	o := options("shop")
	o.MaxIdle = -1
	s := openPool(t, o)
	end(t, begin(t, s, memory.DefaultAllocator))
	eventually(t, "no process is left", func() bool { return len(children(t, os.Getpid())) == 0 })
}

// TestDeadWhileIdle checks that an idle process that has died causes no error.
func TestDeadWhileIdle(t *testing.T) {
	s := openPool(t, options("shop"))
	if _, err := s.Catalog(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids(s) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	n := begin(t, s, memory.DefaultAllocator)
	if got, err := rows(t.Context(), n, "orders"); err != nil || got != 40 {
		t.Errorf("%d rows, %v", got, err)
	}
	end(t, n)
}

// TestShare checks that all sessions use one process, even if they begin at the same
// time.
func TestShare(t *testing.T) {
	o := options("shop")
	o.Share, o.IdleTimeout = true, time.Millisecond
	s := openPool(t, o)
	eventually(t, "the idle process ends", func() bool { return len(pids(s)) == 0 })
	begun := make(chan sources.Session, 8)
	for range cap(begun) {
		go func() {
			n, err := s.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
			if err != nil {
				t.Error(err)
			}
			begun <- n
		}()
	}
	var sessions []sources.Session
	for range cap(begun) {
		if n := <-begun; n != nil {
			sessions = append(sessions, n)
		}
	}
	if u := s.Sandboxes(); len(u) != 1 || u[0].Sessions != len(sessions) {
		t.Errorf("%d sessions have %+v", len(sessions), u)
	}
	end(t, sessions...)
	eventually(t, "the idle process ends", func() bool { return len(pids(s)) == 0 })
}

// bounded is an allocator with a limit, as a stream's budget has.
type bounded struct {
	memory.Allocator
	limit int64
}

func (b bounded) Limit() int64 { return b.limit }

// TestCapFollowsMemory checks that the cap is the session's own limit if that is
// above MinMemory.
func TestCapFollowsMemory(t *testing.T) {
	s := openPool(t, options("shop"))
	for limit, want := range map[int64]int64{1 << 20: wall.DefaultMinMemory, 1 << 30: 1 << 30} {
		n := begin(t, s, bounded{memory.DefaultAllocator, limit})
		if _, _, got := n.(interface {
			SandboxMemory() (held, peak, limit int64)
		}).SandboxMemory(); got != want {
			t.Errorf("with %d bytes of memory the cap is %d, want %d", limit, got, want)
		}
		end(t, n)
	}
}

// TestClosedPool checks that closing a source ends its open session, and that no
// session can begin afterwards.
func TestClosedPool(t *testing.T) {
	s := openPool(t, options("endless"))
	n := begin(t, s, memory.DefaultAllocator)
	var last error
	closed := false
	for _, err := range n.Scan(t.Context(), &sources.Query{Table: "tags"}) {
		last = err
		if !closed {
			closed = true
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if sources.KindOf(last) != sources.Unavailable {
		t.Errorf("the scan ends with %v", last)
	}
	end(t, n)
	if _, err := s.Begin(t.Context(), sources.Env{}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("a session of a closed source: %v", err)
	}
	if err := errors.Join(s.Close(), n.Close()); err != nil {
		t.Error(err)
	}
}
