package process_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

// kinds are the ways in which a plugin starts processes that could get away from it; see
// testdata/hog.
var kinds = []string{"setsid", "orphan", "crowd", "runner"}

// hogs returns the ids of all processes that run the plugin of testdata/hog.
func hogs(t *testing.T) (pids []int) {
	t.Helper()
	program := hogFile(t)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if file, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe")); err == nil && file == program {
			pids = append(pids, pid)
		}
	}
	return pids
}

func noHogs(t *testing.T) {
	t.Helper()
	eventually(t, "all processes of the plugin have ended", func() bool { return len(hogs(t)) == 0 })
}

// endHogs ends what a failed test leaves.
func endHogs(t *testing.T) {
	t.Cleanup(func() {
		// Those that start others must be missed by several looks in a row.
		for tries, missed := 0, 0; tries < 100 && missed < 3; tries++ {
			left := hogs(t)
			if missed++; len(left) > 0 {
				missed = 0
			}
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
			}
		}
	})
}

// TestChildrenHog checks that the memory of a plugin's descendants counts toward its cap,
// and that they are killed with it.
func TestChildrenHog(t *testing.T) {
	for _, kind := range []string{"plain", "orphan"} {
		t.Run(kind, func(t *testing.T) {
			endHogs(t)
			source := hog(t, wall.Options{Memory: isolateCap, StallTimeout: wall.DefaultStallTimeout}, map[string]string{"rate": "1", "child": kind, "childrate": "400e6", "childuntil": "1e9"})
			session := begin(t, source, memory.DefaultAllocator)
			_, err := rows(t.Context(), session, "hog")
			var excess *process.Excess
			if sources.KindOf(err) != sources.Exhausted || !errors.As(err, &excess) || excess.Held <= isolateCap || excess.Held > 2*isolateCap {
				t.Errorf("the scan ends with %v", err)
			}
			end(t, session)
			noHogs(t)
		})
	}
}

// TestSharedPages checks that pages count once, also if a plugin and its child share them.
func TestSharedPages(t *testing.T) {
	for _, kind := range []string{"fork", "execs"} {
		t.Run(kind, func(t *testing.T) {
			endHogs(t)
			source := hog(t, wall.Options{Memory: isolateCap}, map[string]string{"rate": "1e9", "until": "150e6", "at": "open", "child": kind, "childat": "open"})
			session := begin(t, source, memory.DefaultAllocator) // takes a sample
			if n, err := rows(t.Context(), session, "modest"); n != 10 || err != nil {
				t.Errorf("%d rows, %v", n, err)
			}
			held, peak, _ := session.(interface {
				SandboxMemory() (held, peak, limit int64)
			}).SandboxMemory()
			if held < 150e6 || peak > isolateCap {
				t.Errorf("the plugin holds %d bytes and held %d", held, peak)
			}
			end(t, session)
		})
	}
}

// TestChildrenEnd checks that the descendants of a plugin end when its source is closed, and
// when the plugin ends.
func TestChildrenEnd(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			endHogs(t)
			source := hog(t, wall.Options{}, map[string]string{"rate": "1", "child": kind, "childat": "open"})
			if len(hogs(t)) < 2 && kind != "runner" {
				t.Fatal("the plugin has no child")
			}
			if err := source.Close(); err != nil {
				t.Error(err)
			}
			if left := hogs(t); len(left) > 0 {
				t.Errorf("the processes %v outlive the closed source", left)
			}
		})
		t.Run(kind+" of a killed plugin", func(t *testing.T) {
			endHogs(t)
			source := hog(t, wall.Options{}, map[string]string{"rate": "1", "child": kind, "childat": "open"})
			if err := syscall.Kill(pids(source)[0], syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			noHogs(t)
			// The next session gets another process.
			session := begin(t, source, memory.DefaultAllocator)
			if n, err := rows(t.Context(), session, "modest"); n != 10 || err != nil {
				t.Errorf("%d rows, %v", n, err)
			}
			end(t, session)
		})
	}
}

// TestChildrenOfKilledHost checks that no descendant of a plugin outlives a killed host.
func TestChildrenOfKilledHost(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			endHogs(t)
			host := exec.Command(self)
			host.Env = append(host.Environ(), "TEST_PLUGIN=host", "TEST_HOG="+hogFile(t), "TEST_CHILD="+kind, "TMPDIR="+t.TempDir())
			out, err := host.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil || line != "ready\n" {
				t.Fatalf("the host says %q, %v", line, err)
			}
			supervisors := children(t, host.Process.Pid)
			if err := host.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = host.Wait() // it was killed
			noHogs(t)
			for _, pid := range supervisors {
				eventually(t, "the supervisor has ended", func() bool { return !running(pid) })
			}
		})
	}
}

// TestStopper checks that a plugin that stops its supervisor again and again ends with its
// children when the source is closed.
func TestStopper(t *testing.T) {
	endHogs(t)
	source := hog(t, wall.Options{}, map[string]string{"rate": "1", "child": "stopper", "childat": "open"})
	if err := source.Close(); err != nil {
		t.Error(err)
	}
	if left := hogs(t); len(left) > 0 {
		t.Errorf("the processes %v outlive the closed source", left)
	}
}

// TestKilledSupervisor checks that a plugin whose supervisor is killed ends with the
// children that the last sample of its memory has found.
func TestKilledSupervisor(t *testing.T) {
	endHogs(t)
	source := hog(t, wall.Options{}, map[string]string{"rate": "1", "child": "setsid", "childat": "open"})
	session := begin(t, source, memory.DefaultAllocator) // takes a sample
	for _, pid := range children(t, os.Getpid()) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rows(t.Context(), session, "hog"); sources.KindOf(err) != sources.Unavailable {
		t.Errorf("the scan ends with %v", err)
	}
	end(t, session)
	noHogs(t)
}

// TestStoppedSupervisor checks that a plugin whose supervisor is stopped works, and ends.
func TestStoppedSupervisor(t *testing.T) {
	source := hog(t, wall.Options{}, map[string]string{"rate": "1", "child": "setsid", "childat": "open"})
	for _, pid := range children(t, os.Getpid()) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	session := begin(t, source, memory.DefaultAllocator)
	if n, err := rows(t.Context(), session, "modest"); n != 10 || err != nil {
		t.Errorf("%d rows, %v", n, err)
	}
	end(t, session)
	if err := source.Close(); err != nil {
		t.Error(err)
	}
	if left := hogs(t); len(left) > 0 {
		t.Errorf("the processes %v outlive the closed source", left)
	}
}
