//go:build unix && !linux

package process

import (
	"os/exec"
	"syscall"
)

// detach puts the process into a process group of its own, which the terminal's
// Ctrl-C does not reach. The process itself ends when its parent has ended.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
