//go:build !js

package serve

import "runtime/debug"

// SoftLimit is what a program's garbage collector is told to keep to where a cap
// is on all that the program holds: four fifths. It stops nothing, but a program
// that could do with less does.
func SoftLimit(limit int64) int64 { return limit / 10 * 8 }

// keepTo tells the garbage collector of a cap; 0 is none.
func keepTo(limit int64) {
	if limit > 0 {
		debug.SetMemoryLimit(SoftLimit(limit))
	}
}
