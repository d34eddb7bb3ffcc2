//go:build unix

package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// killGroup kills the process and its children.
func killGroup(p *os.Process) error {
	return errors.Join(syscall.Kill(-p.Pid, syscall.SIGKILL), p.Kill())
}

func describe(state *os.ProcessState) string {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Sprintf("was killed by signal %d (%s)", int(status.Signal()), status.Signal())
	}
	return fmt.Sprintf("exited with code %d", state.ExitCode())
}
