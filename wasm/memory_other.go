//go:build !unix

package wasm

// region is on Go's heap on this system.
type region struct{ heapRegion }

func (r *region) reserve(limit int64) { r.limit = limit }

func (r *region) free() { r.buf = nil }
