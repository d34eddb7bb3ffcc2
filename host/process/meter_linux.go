package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/penstock-data/penstock/host/process/internal/supervisor"
)

// family reads the private memory of a process and its descendants. It is not safe for
// concurrent use.
//
// It reads the kernel's counters, which takes about ten microseconds for a process. Pages of
// files are not counted: they are shared with other processes that run the same program, and
// the kernel can drop them. Shared memory without a file is counted, as a process could
// hide memory there.
//
// A process that has forked shares its pages with the child until one of them writes to
// them, and the counters of both include such a page. So the sum is an upper bound, and exact
// divides shared pages among those that share them.
type family struct {
	root    int  // all members descend from this process
	member  bool // whether the root is a member
	all     map[int]*relative
	loadavg *os.File
	lastPid []byte // the last process id that the kernel had given out at the last look
	text    []byte // a buffer
}

// relative is one member of a family.
type relative struct {
	pid, parent int
	status      *os.File // fails to read once the process has ended, also if another has its id
	handle      int      // of the process, for signals; -1 if the kernel has no handles
}

// newFamily returns the family of a process that has just started. ok is false if the
// system cannot tell its memory.
func newFamily(root int, member bool) (f *family, ok bool) {
	f = &family{root: root, member: member, all: map[int]*relative{}, text: make([]byte, 4<<10)}
	f.loadavg, _ = os.Open("/proc/loadavg") // without it, each sample looks for new members
	f.find()
	return f, len(f.all) > 0
}

// close releases the family's files. It must not be used any more.
func (f *family) close() {
	for _, r := range f.all {
		f.remove(r)
	}
	_ = f.loadavg.Close() // nil is fine
}

// sum returns how many private bytes the family holds now, in memory or swapped out, at
// most; and the sum of what each member held at most since it started. ok is false if all
// have ended.
func (f *family) sum() (held, highest int64, ok bool) {
	if f.grew() {
		f.find()
	}
	for _, r := range f.all {
		n, err := r.status.ReadAt(f.text, 0)
		if n == 0 && err != nil {
			f.remove(r)
			continue
		}
		h, high, alive := parseStatus(f.text[:n])
		if !alive {
			continue // a zombie has no memory, but may have children
		}
		held, highest, ok = held+h, highest+high, true
	}
	return held, highest, ok
}

// grew reports whether the kernel has given out a process id since the last look. If it has
// not, no process has a new child.
func (f *family) grew() bool {
	n, err := f.loadavg.ReadAt(f.text, 0)
	if n == 0 && err != nil {
		return true
	}
	last := bytes.TrimSpace(f.text[:n])
	last = last[bytes.LastIndexByte(last, ' ')+1:]
	if bytes.Equal(last, f.lastPid) {
		return false
	}
	f.lastPid = append(f.lastPid[:0], last...)
	return true
}

// find adds new members.
func (f *family) find() {
	if f.member {
		f.add(f.root, 0)
	}
	supervisor.Descendants(f.root, func(pid, parent int) bool {
		f.add(pid, parent)
		return true
	})
}

func (f *family) add(pid, parent int) {
	if known := f.all[pid]; known != nil {
		if _, err := known.status.ReadAt(f.text[:1], 0); !errors.Is(err, syscall.ESRCH) {
			known.parent = parent
			return
		}
		f.remove(known)
	}
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return // it has ended
	}
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		handle = -1
	}
	f.all[pid] = &relative{pid, parent, status, handle}
}

func (f *family) remove(r *relative) {
	_ = r.status.Close()
	if r.handle >= 0 {
		_ = unix.Close(r.handle)
	}
	delete(f.all, r.pid)
}

// kill kills the members that the last look has found.
func (f *family) kill() {
	for _, r := range f.all {
		if r.handle >= 0 {
			_ = unix.PidfdSendSignal(r.handle, unix.SIGKILL, nil, 0) // it may have ended
		}
	}
}

// exact returns how many private bytes the family holds now, given the sum. The kernel
// walks all pages for that and blocks the processes meanwhile.
func (f *family) exact(sum int64) (held int64) {
	if len(f.all) < 2 {
		return sum
	}
	for _, r := range f.all {
		// A child that has just been made by vfork uses its parent's memory until it runs
		// another program. The kernel may not allow the comparison of another user's processes.
		if f.all[r.parent] != nil && sameMemory(r.pid, r.parent) {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", r.pid))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		n, ok := sumFields(text, "\nPss_Anon:", "\nPss_Shmem:", "\nSwapPss:")
		if err != nil || !ok {
			return sum // it may be another user's
		}
		held += n
	}
	return min(held, sum)
}

// sameMemory reports whether two processes have the same address space.
func sameMemory(a, b int) bool {
	const kcmpVM = 1
	order, _, errno := syscall.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	return errno == 0 && order == 0
}

// parseStatus parses a process's status. ok is false for a process that has ended
// and was not yet waited for: it has no memory.
func parseStatus(text []byte) (held, highest int64, ok bool) {
	held, ok = sumFields(text, "\nRssAnon:", "\nRssShmem:", "\nVmSwap:")
	highest, ok2 := sumFields(text, "\nVmHWM:")
	files, ok3 := sumFields(text, "\nRssFile:")
	return held, max(held, highest-files), ok && ok2 && ok3
}

// sumFields returns the sum of fields in kB, in bytes. ok is false if one is missing.
func sumFields(text []byte, names ...string) (sum int64, ok bool) {
	for _, name := range names {
		_, rest, found := bytes.Cut(text, []byte(name))
		if !found {
			return 0, false
		}
		line, _, _ := bytes.Cut(rest, []byte(" kB\n"))
		kib, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
		if err != nil {
			return 0, false
		}
		sum += kib << 10
	}
	return sum, true
}
