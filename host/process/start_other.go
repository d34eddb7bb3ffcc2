//go:build !linux

package process

import "os/exec"

// startGroup starts a process. It calls onExit once when the process has ended, with how it
// did.
func startGroup(cmd *exec.Cmd, onExit func(reason string, lost bool)) (group, error) {
	return startAlone(cmd, onExit)
}
