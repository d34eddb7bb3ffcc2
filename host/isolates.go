package host

import (
	"fmt"
	"time"

	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
)

// Isolates are the bounds of what sources run in behind a wall: processes, and
// children of the application that run modules. The zero value is good.
type Isolates struct {
	// Memory caps the private memory of each, in bytes; 0 is what the stream may
	// hold that reads there (with Share, what all streams of the host may), and at least [process.DefaultIsolate], or 192 MiB
	// for a module, whose guest and runner want some 100 MiB before they read a
	// row. One that holds more is killed, and its stream ends with an
	// [sources.Exhausted] error which says so. See [process.Options] for what
	// systems can enforce.
	Memory int64
	// Warm is how many of each source's are kept for the next stream; 0 is
	// [process.DefaultWarm], less than 0 is none. Idle is how long one waits
	// before it is ended; 0 is [process.DefaultIdle].
	Warm int
	Idle time.Duration
	// Share has all streams of a source read from one process. It saves the
	// processes, and what kills one stream's then ends all.
	Share bool
}

func (i Isolates) check() error {
	if i.Memory < 0 || i.Idle < 0 {
		return &sources.Error{Op: "host", Kind: sources.Invalid, Err: fmt.Errorf("isolates of %d bytes that wait for %s", i.Memory, i.Idle)}
	}
	return nil
}

// patience is how long a wall waits for a page: each stream has a clock of its own
// for that ([retry.Timeouts]), and a wall that was less patient would not let it.
const patience = 24 * time.Hour

// processes are the options that all processes of the host have.
func (h *Host) processes(name string) process.Options {
	i := h.options.Isolates
	if i.Share && i.Memory == 0 {
		i.Memory = max(h.options.Memory, process.DefaultIsolate)
	}
	return process.Options{Name: name, Logger: h.options.Logger, Call: max(h.options.Timeouts.Call, 0), Stall: patience, Isolate: i.Memory, Warm: i.Warm, Idle: i.Idle, Share: i.Share}
}

// What a child that runs a module may hold at least, and while it compiles it:
// compiling a guest of 13 MB takes half a gigabyte once, and then lies in the
// cache.
const (
	wasmLeast   = 192 << 20
	wasmOpening = 1 << 30
)

// runnerShare is what such a child holds beside the module's memory: the machine
// code of a guest in Go, and the runner's own heap.
const runnerShare = 96 << 20

// wasmMost is all that a module can address.
const wasmMost = 4 << 30

// Isolate is what one process holds for a source.
type Isolate struct {
	Source string `json:"source"` // the name before the colon of its URI
	process.Usage
}

// Isolates says what the processes of the source hold now. A source that runs
// within the application has none.
func (s *Source) Isolates() []Isolate {
	behind, ok := s.Source.(interface{ Isolates() []process.Usage })
	if !ok {
		return nil
	}
	var all []Isolate
	for _, u := range behind.Isolates() {
		all = append(all, Isolate{Source: s.name, Usage: u})
	}
	return all
}

// Isolates says what the processes of all sources hold now.
func (h *Host) Isolates() []Isolate {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Isolate
	for s := range h.open {
		all = append(all, s.Isolates()...)
	}
	return all
}
