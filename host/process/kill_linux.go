package process

import (
	"os/exec"
	"syscall"
)

// isolateProcess puts the process into a group of its own, out of reach of the
// terminal's Ctrl-C, and has the kernel kill it when the host is gone.
func isolateProcess(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
