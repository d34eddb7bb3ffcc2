//go:build unix && !linux

package process

import (
	"os/exec"
	"syscall"
)

// isolateProcess puts the process into a group of its own, out of reach of the
// terminal's Ctrl-C. It looks after its parent itself.
func isolateProcess(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
