package wasm

import (
	"context"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

// Wall returns the wasm wall for host.Options.Walls. It opens modules by their
// configuration, as [OpenURI] does.
func Wall() wall.Wall { return moduleWall{} }

type moduleWall struct{}

func (moduleWall) Name() string { return wall.Module }

func (moduleWall) Open(ctx context.Context, o wall.Options, c sources.Config) (sources.Source, error) {
	return openURI(ctx, o.Logger, c)
}
