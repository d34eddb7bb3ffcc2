//go:build !wasip1

package unruly

import (
	"os/exec"
	"runtime"
)

// trap ends the process, whatever recovers panics.
func trap() { runtime.Breakpoint() }

// fork starts processes that outlive this one: one in its group, and one in a session of
// its own.
func fork() error {
	// The shell ends at once, so that its children have no parent that knows them.
	return exec.Command("sh", "-c", "sleep 100000 & setsid sleep 100000 &").Run()
}
