//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proc is a process as the system describes it.
type proc struct {
	pid, parent int
	zombie      bool
	name        string
	cpu         time.Duration // of the process and of its children that have ended
}

var self = os.Getpid()

// adoptOrphans makes this process the parent of every process below it whose own parent
// ends, so that it finds those that a run leaves behind.
func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// processes returns all processes by their ids.
func processes() map[int]proc {
	entries, _ := os.ReadDir("/proc")
	all := map[int]proc{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil { // it has ended
			continue
		}
		// The name may contain spaces and parentheses.
		from, to := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		if from < 0 || to < from {
			continue
		}
		fields := strings.Fields(string(text[to+1:]))
		if len(fields) < 15 {
			continue
		}
		p := proc{pid: pid, name: string(text[from+1 : to]), zombie: fields[0] == "Z"}
		p.parent, _ = strconv.Atoi(fields[1])
		const perSecond = 100 // USER_HZ, on every architecture that Go supports
		for _, ticks := range fields[11:15] {
			n, _ := strconv.ParseInt(ticks, 10, 64)
			p.cpu += time.Duration(n) * time.Second / perSecond
		}
		all[pid] = p
	}
	return all
}

// below returns the processes below this one, without PostgreSQL, which serves all runs.
func below(all map[int]proc) []proc {
	var found []proc
	for _, p := range all {
		for at := p; at.name != "postgres"; {
			if at.parent == self {
				found = append(found, p)
				break
			}
			next, ok := all[at.parent]
			if !ok || next.pid == at.pid {
				break
			}
			at = next
		}
	}
	return found
}

// inventory is what this process holds at one time.
type inventory struct {
	goroutines, files int
	processes         map[int]proc
}

func takeInventory() inventory {
	i := inventory{goroutines: runtime.NumGoroutine(), processes: map[int]proc{}}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		i.files = len(files)
	}
	for _, p := range below(processes()) {
		i.processes[p.pid] = p
	}
	return i
}

// errOrphan marks a process that a run has left behind.
var errOrphan = errors.New("a process is left behind")

// left returns an error that lists what a run has left behind: goroutines, open files,
// processes, and files in the directories for temporary files. It waits for what ends by
// itself. The processes with the given ids must have been waited for by their host.
func (i inventory) left(directory string, pids map[int]bool, within time.Duration) error {
	return eventually(within, func() error {
		var faults []error
		now := takeInventory()
		if now.goroutines > i.goroutines {
			faults = append(faults, fmt.Errorf("%d goroutines, but %d before the run:\n%s", now.goroutines, i.goroutines, stacks()))
		}
		if now.files > i.files {
			faults = append(faults, fmt.Errorf("%d open files, but %d before the run", now.files, i.files))
		}
		for pid, p := range now.processes {
			_, old := i.processes[pid]
			switch {
			case old:
			case p.zombie && !pids[pid]:
				// Its parent has ended, so that this process has to wait for it.
				_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
			default:
				faults = append(faults, fmt.Errorf("%w: %s, pid %d, child of %d, zombie %t", errOrphan, p.name, pid, p.parent, p.zombie))
			}
		}
		files, err := os.ReadDir(directory)
		if err != nil || len(files) > 0 {
			faults = append(faults, fmt.Errorf("files are left behind: %v %w", files, err))
		}
		return errors.Join(faults...)
	})
}

// killOrphans ends the processes that a run has left behind, so that the next run is not
// blamed for them.
func (i inventory) killOrphans() {
	for pid := range takeInventory().processes {
		if _, old := i.processes[pid]; !old {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
}

// stacks returns the stacks of all goroutines.
func stacks() []byte {
	buf := make([]byte, 1<<20)
	return buf[:runtime.Stack(buf, true)]
}
