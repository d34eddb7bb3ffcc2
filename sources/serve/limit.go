//go:build !js

package serve

import "runtime/debug"

// SoftLimit returns the limit to set for the garbage collector of a program that is
// killed above the given limit: four fifths of it. The garbage collector then runs more
// often instead of letting the heap grow to the limit.
func SoftLimit(limit int64) int64 { return limit / 10 * 8 }

// keepTo sets the limit of the garbage collector; 0 means no limit.
func keepTo(limit int64) {
	if limit > 0 {
		debug.SetMemoryLimit(SoftLimit(limit))
	}
}
