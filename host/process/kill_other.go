//go:build !unix

package process

import (
	"fmt"
	"os"
	"os/exec"
)

func detach(*exec.Cmd) {}

func killGroup(p *os.Process) error { return p.Kill() }

func describe(state *os.ProcessState) string {
	return fmt.Sprintf("exited with code %d", state.ExitCode())
}
