package process

import (
	"os/exec"
	"syscall"
)

// detach puts the process into a process group of its own, which the terminal's
// Ctrl-C does not reach, and has the kernel kill it when the host ends.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
