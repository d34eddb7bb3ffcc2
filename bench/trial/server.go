package trial

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Children sums up the processor time of a process and of its children: for a
// PostgreSQL server, whose backends come and go, the work of all of them. It
// looks every 25 milliseconds, for what a child that has ended had used is not
// to be had from every system; what it did after the last look is missed.
type Children struct {
	pid  int
	stop chan struct{}
	done chan struct{}
	used map[int]int64 // ticks, by process
}

// WatchChildren starts looking. What was used before does not count.
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

// Stop ends the looking and returns the sum, to the hundredth of a second.
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
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
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

// Parent is the process that started another.
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
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return n
	}
	return stat{parent: int(number(1)), ticks: number(11) + number(12)}, nil
}
