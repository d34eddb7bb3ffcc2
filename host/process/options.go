// Package process runs sources as processes of their own: hashicorp/go-plugin
// executables that speak Arrow Flight, as package serve makes them. A process
// that crashes, hangs, lies or eats memory is an error of its own streams and of
// nothing else.
package process

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Options are how a source's processes are started, how long they are waited for,
// and what they may hold.
type Options struct {
	// Command is the executable and its arguments. No secret belongs here: other
	// users of the machine can read it.
	Command []string
	// Self is the name of one of the running program's own sources. The program
	// is started once more then, in the place of Command, and must call
	// [serve.Main] first in its main.
	Self string
	// Name is the source's in errors and logs; empty is the executable's.
	Name string
	// Logger takes what the processes write to standard error, line by line; nil
	// discards it.
	Logger *slog.Logger
	// Call is how long a process may take to answer a call, and to start; 0 is
	// [DefaultCall]. Stall is how long a scan waits for the next page; 0 is
	// [DefaultStall]. Time that the consumer of a scan takes does not count.
	Call, Stall time.Duration

	// Isolate caps the private memory of each process, in bytes: one that holds
	// more is killed, and its streams end with an [sources.Exhausted] error that
	// says so. 0 is what the session's own memory may hold, where its allocator
	// has a method Limit() int64 as a stream's budget has, and at least Least.
	//
	// On Linux a sampler looks at what the process holds, more often the nearer it
	// is to the cap. Elsewhere nothing can look into another process cheaply: there
	// only the process's own garbage collector knows of the cap, which bounds what
	// is written in Go and stops nothing that hogs. What a plugin's own children
	// hold is not counted.
	Isolate int64
	// Least is the least cap where Isolate is 0; 0 is [DefaultIsolate].
	Least int64
	// Opening is the cap until the source is open, for one that needs more to
	// begin than to read; 0 is Isolate, or Least.
	Opening int64
	// Warm is how many processes are kept for the next session when theirs has
	// ended; 0 is [DefaultWarm], and less than 0 keeps none. Idle is how long one
	// of them waits before it is ended; 0 is [DefaultIdle].
	Warm int
	Idle time.Duration
	// Share has one process serve all sessions of the source, in the place of one
	// each: cheaper, but what one session makes the process hold counts against
	// the cap of all, and what kills it ends all.
	Share bool
}

// The defaults of [Options].
const (
	DefaultCall    = 30 * time.Second
	DefaultStall   = 30 * time.Second
	DefaultIsolate = 128 << 20
	DefaultWarm    = 2
	DefaultIdle    = 30 * time.Second
)

// orDefault returns the options with their defaults filled in.
func (o Options) orDefault() Options {
	o.Call = cmp.Or(max(o.Call, 0), DefaultCall)
	o.Stall = cmp.Or(max(o.Stall, 0), DefaultStall)
	o.Isolate = max(o.Isolate, 0)
	o.Least = cmp.Or(max(o.Least, 0), DefaultIsolate)
	o.Opening = cmp.Or(max(o.Opening, 0), o.Isolate, o.Least)
	o.Warm = max(cmp.Or(o.Warm, DefaultWarm), 0)
	o.Idle = cmp.Or(max(o.Idle, 0), DefaultIdle)
	return o
}

// capFor is the cap of a process that reads for a session with that memory.
func (o *Options) capFor(mem memory.Allocator) int64 {
	if o.Isolate > 0 {
		return o.Isolate
	}
	if bounded, ok := mem.(interface{ Limit() int64 }); ok {
		return max(o.Least, bounded.Limit())
	}
	return o.Least
}
