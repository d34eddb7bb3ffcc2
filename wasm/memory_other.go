//go:build !unix

package wasm

// region is Go's own memory on this system.
type region struct{ slice }

func (r *region) reserve(most int64) { r.most = most }

func (r *region) free() { r.buf = nil }
