//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// raceLog is the log of a host. It keeps what the race detector of a child says on its
// standard error, and discards the rest. Derived handlers are the same log.
type raceLog struct {
	mu    sync.Mutex
	lines []string
	rest  int // lines of the current report that are still kept
}

// reportLines is how many lines of a report are kept.
const reportLines = 30

// The lines that the race detector, and a fatal error such as a concurrent write of a map,
// begin with.
var alarms = []string{"WARNING: DATA RACE", "fatal error: ", "panic: "}

// Enabled reports that every record is looked at.
func (*raceLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle keeps the record if it belongs to a report.
func (l *raceLog) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, alarm := range alarms {
		if strings.Contains(r.Message, alarm) && len(l.lines) < maxFaults*reportLines {
			l.rest = reportLines
		}
	}
	if l.rest > 0 {
		l.rest--
		l.lines = append(l.lines, r.Message)
	}
	return nil
}

// WithAttrs returns the same log.
func (l *raceLog) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup returns the same log.
func (l *raceLog) WithGroup(string) slog.Handler { return l }

// found returns the reports, as one text; none if there are none.
func (l *raceLog) found() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 0 {
		return nil
	}
	return []string{strings.Join(l.lines, "\n")}
}

func stacks() []byte {
	b := make([]byte, 4<<20)
	return b[:runtime.Stack(b, true)]
}

// state is what a storm must leave as it was.
type state struct {
	goroutines, files int
	children          map[int]bool
}

func resources() state {
	s := state{goroutines: runtime.NumGoroutine(), children: children()}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		s.files = len(files)
	}
	return s
}

// children returns the ids of the processes whose parent is this one.
func children() map[int]bool {
	all := map[int]bool{}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return all
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err == nil && parent(pid) == os.Getpid() {
			all[pid] = true
		}
	}
	return all
}

// parent returns the id of a process's parent, or 0 if there is no such process.
func parent(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name is in parentheses, and may contain spaces.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	n, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return n
}

// left returns an error that lists what a storm has left behind. It waits for what ends by
// itself.
func left(before state, scratch string, seen *sync.Map) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		var faults []error
		now := resources()
		if now.goroutines > before.goroutines {
			faults = append(faults, fmt.Errorf("%d goroutines, but %d before:\n%s", now.goroutines, before.goroutines, stacks()))
		}
		if now.files > before.files {
			faults = append(faults, fmt.Errorf("%d open files, but %d before", now.files, before.files))
		}
		for pid := range now.children {
			if !before.children[pid] {
				faults = append(faults, fmt.Errorf("the child %d still runs", pid))
			}
		}
		seen.Range(func(pid, _ any) bool {
			if isOurs(pid.(int)) {
				faults = append(faults, fmt.Errorf("the process %d still runs", pid))
			}
			return true
		})
		files, err := os.ReadDir(scratch)
		if err != nil || len(files) > 0 {
			faults = append(faults, fmt.Errorf("files are left behind: %v %w", files, err))
		}
		if len(faults) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(faults...)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// isOurs reports whether a process that a storm has started still runs, even if its parent
// has ended. Its id may belong to another process by now, which does not serve a source.
func isOurs(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && strings.Contains(string(text), "PLUGIN_PROTOCOL_VERSIONS=")
}
