package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// privateMemory returns a function that reads how many private bytes a process
// holds now, in memory or swapped out, and held at most since it started; and a
// function that releases its file.
//
// It reads the kernel's counters, which takes about ten microseconds. The sums in
// smaps_rollup are exact, but the kernel walks all pages for them and blocks the
// process meanwhile. Pages of files are not counted: they are shared with other
// processes that run the same program, and the kernel can drop them. Shared memory
// without a file is counted, as a process could hide memory there.
func privateMemory(pid int) (read func() (held, highest int64, ok bool), closeFile func(), ok bool) {
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, nil, false
	}
	text := make([]byte, 4<<10)
	return func() (int64, int64, bool) {
		n, err := status.ReadAt(text, 0)
		if n == 0 && err != nil {
			return 0, 0, false
		}
		return parseStatus(text[:n])
	}, func() { _ = status.Close() }, true
}

// parseStatus parses a process's status. ok is false for a process that has ended
// and was not yet waited for: it has no memory.
func parseStatus(text []byte) (held, highest int64, ok bool) {
	for _, field := range []struct {
		name          string
		held, highest int64 // factors by which it is added to each result
	}{{"\nVmHWM:", 0, 1}, {"\nRssAnon:", 1, 0}, {"\nRssFile:", 0, -1}, {"\nRssShmem:", 1, 0}, {"\nVmSwap:", 1, 0}} {
		_, rest, found := bytes.Cut(text, []byte(field.name))
		if !found {
			return 0, 0, false
		}
		line, _, _ := bytes.Cut(rest, []byte(" kB\n"))
		kib, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
		if err != nil {
			return 0, 0, false
		}
		held += field.held * kib << 10
		highest += field.highest * kib << 10
	}
	return held, max(held, highest), true
}
