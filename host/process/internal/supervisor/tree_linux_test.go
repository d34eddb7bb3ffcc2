package supervisor

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// family starts a process with three generations of descendants and returns its id, and
// those of its descendants by their parent.
func family(t *testing.T) (root int, want map[int]int) {
	t.Helper()
	c := exec.Command("sh", "-c", `sh -c 'sleep 1000 & echo $! $$; sleep 1000 & echo $! $$; wait' & echo $! $$; wait`)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // those that the test did not kill
		_ = c.Wait()                                      // it was killed
	})
	want = map[int]int{}
	for lines := bufio.NewReader(out); len(want) < 3; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		var pid, parent int
		if _, err := fmt.Sscan(line, &pid, &parent); err != nil {
			t.Fatal(err)
		}
		want[pid] = parent
	}
	return c.Process.Pid, want
}

// TestDescendants checks that all descendants are found, with and without the kernel's lists
// of children.
func TestDescendants(t *testing.T) {
	if !hasChildrenFiles() {
		t.Error("this kernel has no lists of children")
	}
	for _, lists := range []bool{true, false} {
		t.Run(fmt.Sprint("lists ", lists), func(t *testing.T) {
			before := hasChildrenFiles
			hasChildrenFiles = func() bool { return lists }
			defer func() { hasChildrenFiles = before }()
			root, want := family(t)
			got := map[int]int{}
			Descendants(root, func(pid, parent int) bool {
				got[pid] = parent
				return true
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("children by parent (-want +got):\n%s", diff)
			}
			top := 0
			Descendants(root, func(int, int) bool {
				top++
				return false
			})
			if top != 1 {
				t.Errorf("%d processes are visited, although those below the first are left out", top)
			}
		})
	}
}

// TestKill checks that descendants are killed, and the root is not. Those below a process that
// ends meanwhile are found in the next round, below the process that adopts them.
func TestKill(t *testing.T) {
	root, want := family(t)
	var found []int
	Kill(root, func(pid int) { found = append(found, pid) })
	if len(found) == 0 || want[found[0]] != root {
		t.Errorf("%v are killed, of %v", found, want)
	}
	for _, pid := range found {
		if want[pid] == 0 {
			t.Errorf("%d is killed, of %v", pid, want)
		}
	}
	if _, ok := parentOf(root); !ok {
		t.Error("the root has ended")
	}
}

// TestKillWithoutHandles checks that children are killed where the kernel has no handles of
// processes, whatever error says so, and that those below them are left until they are children.
func TestKillWithoutHandles(t *testing.T) {
	before := openHandle
	defer func() { openHandle = before }()
	for _, refused := range []error{syscall.ENOSYS, syscall.EPERM} {
		t.Run(refused.Error(), func(t *testing.T) {
			openHandle = func(int) (int, error) { return -1, refused }
			child, below := family(t)
			Kill(child, func(pid int) { t.Errorf("%d is killed by its id, which may be another's", pid) })
			var found []int
			Kill(os.Getpid(), func(pid int) { found = append(found, pid) })
			if diff := cmp.Diff([]int{child}, found); diff != "" {
				t.Errorf("killed (-want +got):\n%s", diff)
			}
			for pid := range below {
				if _, ok := parentOf(pid); !ok {
					t.Errorf("%d has ended", pid)
				}
			}
		})
	}
}

// TestStrayVariable checks that a program says so if the variable of supervisors is in its
// environment, but no host has started it.
func TestStrayVariable(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "-test.run=^$")
	c.Env = append(c.Environ(), variable+"=1")
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), variable+" is set") {
		t.Errorf("%v: %s", err, out)
	}
}
