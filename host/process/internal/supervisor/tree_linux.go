package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Descendants calls visit with each process below root and its parent, parents first. If
// visit returns false, the processes below that one are left out. Processes that start or
// lose their parent meanwhile may be missed.
func Descendants(root int, visit func(pid, parent int) bool) {
	children := childrenOf
	if !hasChildrenFiles() {
		children = scanParents()
	}
	seen := map[int]bool{root: true}
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		for _, pid := range children(queue[0]) {
			if !seen[pid] && visit(pid, queue[0]) {
				queue = append(queue, pid)
			}
			seen[pid] = true
		}
	}
}

// Kill kills the descendants of a process that Descendants finds, and calls found with each
// of them.
//
// Another process may have got the id of one that has just ended. So the id is resolved
// first, and then its process must still have the parent under which it was found, or the
// root, which adopts it when that parent ends.
func Kill(root int, found func(pid int)) {
	Descendants(root, func(pid, parent int) bool {
		handle, err := openHandle(pid)
		switch {
		case err == unix.ESRCH:
			return false
		case err != nil && parent == os.Getpid():
			// The kernel is older than Linux 5.3, or a filter forbids the call. The caller's own
			// children keep their ids until it waits for them. Those below become its children
			// in turn.
			found(pid)
			_ = unix.Kill(pid, unix.SIGKILL) // it may be another user's
			return false
		case err != nil:
			return false
		}
		defer unix.Close(handle)
		if now, ok := parentOf(pid); !ok || now != parent && now != root {
			return false
		}
		found(pid)
		_ = unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0) // it may be another user's
		return true
	})
}

// openHandle returns a file by which a signal goes to no other process; tests replace it.
var openHandle = func(pid int) (int, error) { return unix.PidfdOpen(pid, 0) }

// hasChildrenFiles reports whether the kernel lists the children of a process.
var hasChildrenFiles = sync.OnceValue(func() bool {
	_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	return err == nil
})

// childrenOf returns the children of a process, which the kernel lists by the thread that
// started or adopted each of them.
func childrenOf(pid int) (children []int) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	for _, thread := range names(dir) {
		list, err := os.ReadFile(dir + "/" + thread + "/children")
		if err != nil {
			continue // the thread has ended
		}
		for field := range bytes.FieldsSeq(list) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// scanParents returns a function like childrenOf that asks every process for its parent.
func scanParents() func(pid int) []int {
	all := map[int][]int{}
	for _, name := range names("/proc") {
		if pid, err := strconv.Atoi(name); err == nil {
			if parent, ok := parentOf(pid); ok {
				all[parent] = append(all[parent], pid)
			}
		}
	}
	return func(pid int) []int { return all[pid] }
}

func names(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	list, _ := d.Readdirnames(-1) // an incomplete list if the process ends meanwhile
	return list
}

// parentOf returns the parent of a process. ok is false if the process has ended and was
// waited for.
func parentOf(pid int) (parent int, ok bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The program's name is in parentheses and may contain any character.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0, false
	}
	parent, err = strconv.Atoi(string(fields[1]))
	return parent, err == nil
}
