package wasm

import "github.com/penstock-data/penstock/sources"

// Idle is how many instances of a source wait for a session.
func Idle(s sources.Source) int {
	of := s.(*source)
	of.mu.Lock()
	defer of.mu.Unlock()
	return len(of.idle)
}

// Region is a memory of so many bytes at most, for its own test.
func Region(most int64) (grow func(size int64) []byte, free func()) {
	r := new(region)
	r.reserve(most)
	return r.grow, r.free
}

// Fallback is the memory of systems, and of limits, that have no other.
func Fallback(most int64) (grow func(size int64) []byte, free func()) {
	r := &slice{most: most}
	return r.grow, func() {}
}
