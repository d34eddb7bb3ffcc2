package process

import (
	"os/exec"
	"syscall"

	"github.com/penstock-data/penstock/host/process/internal/supervisor"
)

// supervised is a process with a supervisor, which ends all of its descendants.
type supervised struct {
	*supervisor.Handle
	supervisor int // the supervisor's process id
}

// startGroup starts a process. It calls onExit once when the process has ended, with how it
// did; lost means that its descendants may not end.
func startGroup(cmd *exec.Cmd, onExit func(reason string, lost bool)) (group, error) {
	if !supervisor.Supported() {
		return startAlone(cmd, onExit)
	}
	h, err := supervisor.Start(cmd)
	if err != nil {
		return nil, err
	}
	go func() {
		<-h.Exited()
		if status, ok := h.Status(); ok {
			onExit(describeStatus(status), false)
		} else {
			onExit("was killed with its supervisor", true)
		}
	}()
	return &supervised{h, cmd.Process.Pid}, nil
}

func (s *supervised) pid() int { return s.Pid }

func (s *supervised) root() (pid int, member bool) { return s.supervisor, false }

func (s *supervised) wait() error { return s.Wait() }

// detach puts a process without a supervisor into a process group of its own, which the
// terminal's Ctrl-C does not reach, and has the kernel kill it when the host ends.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
