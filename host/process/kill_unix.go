//go:build unix

package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// killGroup kills the process and those in its process group.
func killGroup(p *os.Process) error {
	return errors.Join(syscall.Kill(-p.Pid, syscall.SIGKILL), p.Kill())
}

func describe(state *os.ProcessState) string {
	status, _ := state.Sys().(syscall.WaitStatus)
	return describeStatus(status)
}

func describeStatus(status syscall.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("was killed by signal %d (%s)", int(status.Signal()), status.Signal())
	}
	return fmt.Sprintf("exited with code %d", status.ExitStatus())
}
