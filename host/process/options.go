// Package process runs sources as processes: hashicorp/go-plugin executables that
// speak Arrow Flight, built with package sources/serve, or copies of the running
// program. If a process crashes, hangs, violates the protocol or exceeds its
// memory cap, only its own streams fail.
package process

import (
	"cmp"
	"context"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

// Wall returns the process wall for host.Options.Walls. A program whose own
// sources run behind it calls [Main] first in its main.
func Wall() wall.Wall { return processWall{} }

type processWall struct{}

func (processWall) Name() string { return wall.Process }

func (processWall) Open(ctx context.Context, o wall.Options, c sources.Config) (sources.Source, error) {
	return Open(ctx, o, c)
}

// withDefaults returns the options with their defaults filled in.
func withDefaults(o wall.Options) wall.Options {
	o.CallTimeout = cmp.Or(max(o.CallTimeout, 0), wall.DefaultCallTimeout)
	o.StallTimeout = cmp.Or(max(o.StallTimeout, 0), wall.DefaultStallTimeout)
	o.Memory = max(o.Memory, 0)
	o.MinMemory = cmp.Or(max(o.MinMemory, 0), wall.DefaultMinMemory)
	o.OpenMemory = cmp.Or(max(o.OpenMemory, 0), o.Memory, o.MinMemory)
	o.MaxIdle = max(cmp.Or(o.MaxIdle, wall.DefaultMaxIdle), 0)
	o.IdleTimeout = cmp.Or(max(o.IdleTimeout, 0), wall.DefaultIdleTimeout)
	return o
}

// memoryCap returns the memory cap of a process that serves a session with that
// allocator; nil means no session.
func memoryCap(o *wall.Options, mem memory.Allocator) int64 {
	if o.Memory > 0 {
		return o.Memory
	}
	if bounded, ok := mem.(interface{ Limit() int64 }); ok {
		return max(o.MinMemory, bounded.Limit())
	}
	return o.MinMemory
}
