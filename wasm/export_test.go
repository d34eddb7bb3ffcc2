package wasm

import "github.com/penstock-data/penstock/sources"

// Idle returns the number of idle instances of a source.
func Idle(s sources.Source) int {
	of := s.(*source)
	of.mu.Lock()
	defer of.mu.Unlock()
	return len(of.idle)
}

// Region returns the functions of a region with a limit.
func Region(limit int64) (grow func(size int64) []byte, free func()) {
	r := new(region)
	r.reserve(limit)
	return r.grow, r.free
}

// Fallback returns the functions of the memory that is used if no region can be
// reserved.
func Fallback(limit int64) (grow func(size int64) []byte, free func()) {
	r := &heapRegion{limit: limit}
	return r.grow, func() {}
}
