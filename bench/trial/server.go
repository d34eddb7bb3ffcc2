package trial

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Children measures the processor time of a process and its children, such as a
// PostgreSQL server and its backends. Not every system reports the time of a child that
// has ended, so Children samples all of them every 25 milliseconds. It misses what a
// child does after the last sample.
type Children struct {
	pid  int
	stop chan struct{}
	done chan struct{}
	used map[int]int64 // ticks, by process
}

// WatchChildren starts to sample a process and its children. Time that they used before
// does not count.
func WatchChildren(pid int) *Children {
	c := &Children{pid: pid, stop: make(chan struct{}), done: make(chan struct{}), used: map[int]int64{}}
	before := map[int]int64{}
	c.look(before)
	go func() {
		defer close(c.done)
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.look(c.used)
			case <-c.stop:
				c.look(c.used)
				for pid, ticks := range before {
					c.used[pid] = max(c.used[pid]-ticks, 0)
				}
				return
			}
		}
	}()
	return c
}

// Stop stops sampling and returns the total time, to a hundredth of a second.
func (c *Children) Stop() time.Duration {
	close(c.stop)
	<-c.done
	var ticks int64
	for _, n := range c.used {
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

func (c *Children) look(into map[int]int64) {
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the only error is a malformed pattern
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil && (pid == c.pid || s.parent == c.pid) {
			into[pid] = s.ticks
		}
	}
}

// Parent returns the parent of a process.
func Parent(pid int) (int, error) {
	s, err := readStat(pid)
	return s.parent, err
}

type stat struct {
	parent int
	ticks  int64
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The name is in parentheses and may contain any character.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return stat{}, fmt.Errorf("/proc/%d/stat has only %d fields", pid, len(fields))
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return n
	}
	return stat{parent: int(number(1)), ticks: number(11) + number(12)}, nil
}
