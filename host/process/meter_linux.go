package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// private returns a function that tells how many bytes a process holds for
// itself alone, in memory or swapped out, and the most that it held since it
// began; and one that ends it.
//
// It reads the counters that the kernel keeps, in some ten microseconds. The sums
// of smaps_rollup are exact, but the kernel walks every page for them and holds
// the process up meanwhile. Pages of files are not counted: they are shared with
// whoever runs the same program, and the kernel drops them at need. Shared memory
// that is no file's is counted, or a process could hide in it.
func private(pid int) (look func() (held, most int64, ok bool), shut func(), ok bool) {
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

// parseStatus reads a process's status. One that has ended, and is not yet waited
// for, has no memory.
func parseStatus(text []byte) (held, most int64, ok bool) {
	for _, field := range []struct {
		name       string
		held, most int64 // how it counts
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
		most += field.most * kib << 10
	}
	return held, max(held, most), true
}
