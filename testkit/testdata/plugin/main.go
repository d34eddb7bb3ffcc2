// Command plugin is a source in a module of its own, with a table of planets.
package main

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/serve"
)

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "name", Type: arrow.BinaryTypes.String},
	{Name: "moons", Type: arrow.PrimitiveTypes.Int64},
	{Name: "rings", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
}, nil)

var planets = [][]any{
	{"Mercury", 0, false}, {"Venus", 0, false}, {"Earth", 1, false}, {"Mars", 2, nil},
	{"Jupiter", 97, true}, {"Saturn", 274, true}, {"Uranus", 28, true}, {"Neptune", 16, true},
}

func open(context.Context, sources.Config) (sources.Source, error) {
	catalog := &sources.Catalog{Tables: []sources.Table{
		{Name: "planets", Schema: schema, Key: []string{"name"}, Rows: int64(len(planets))},
	}}
	return sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return sources.FromRows(env, schema, func(yield func(sources.Row, error) bool) {
			for _, planet := range planets {
				if !yield(sources.Row{Values: planet}, nil) {
					return
				}
			}
		})
	}), nil
}

func main() { serve.Serve(open) }
