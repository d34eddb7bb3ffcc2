package unruly

import (
	"runtime"

	"github.com/penstock-data/penstock/sources"
)

// trap executes the instruction unreachable.
func trap() { runtime.Breakpoint() }

func fork() error {
	return sources.Errorf(sources.Invalid, "open", "", "a module cannot start a process")
}
