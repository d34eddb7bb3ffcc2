package main

import (
	"context"
	"os"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// attack is text that clears a terminal, sets its title, reverses the direction of text
// and, on a line of its own, looks like this program's.
const attack = "\x1b[2J\x1b]0;owned\a\u202e\u009b31m\npenstock: all is well\r"

// rude is a source that says attack wherever it can. Its URI selects more places.
func rude(_ context.Context, c sources.Config) (sources.Source, error) {
	column := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Metadata: arrow.MetadataFrom(map[string]string{
			sources.MetaComment: attack, sources.MetaType: attack, sources.MetaDefault: attack, sources.MetaGenerated: attack,
		})}
	}
	schema := arrow.NewSchema([]arrow.Field{column("id", arrow.PrimitiveTypes.Int64), column("name"+attack, arrow.BinaryTypes.String)}, nil)
	catalog := &sources.Catalog{Tables: []sources.Table{
		{Name: "rows", Comment: attack, Schema: schema, Rows: -1, Key: []string{"id"}, Relations: []sources.Relation{
			{Name: "self" + attack, Kind: sources.BelongsTo, Columns: []string{"id"}, TargetTable: "rows", TargetColumns: []string{"id"}},
			{Name: "lost", Unusable: attack, Kind: sources.HasMany, Columns: []string{"id"}, TargetTable: attack, TargetColumns: []string{"id"}},
		}},
		{Name: "orders" + attack, Schema: schema, Rows: -1},
	}}
	var scans atomic.Int64
	plain := sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			switch {
			case c.URI == "error":
				yield(sources.Batch{}, sources.Errorf(sources.Invalid, "", "", "%s", attack))
				return
			case c.URI == "retry" && scans.Add(1) == 1:
				yield(sources.Batch{}, sources.Errorf(sources.Unavailable, "", "", "%s", attack))
				return
			case c.URI == "crash":
				_, _ = os.NewFile(2, "stderr").WriteString("panic: \x1b[2Jlast words\u202e\n")
				os.Exit(2)
			}
			for page, err := range sources.FromRows(env, schema, func(yield func(sources.Row, error) bool) { yield(sources.Row{Values: []any{1, attack}}, nil) }) {
				if err == nil && page.Record.NumRows() > 0 {
					page.Skipped = sources.Skipped{Records: 1, Locations: []string{"file" + attack}}
				}
				if !yield(page, err) {
					return
				}
			}
		}
	})
	return &rudeSource{plain}, nil
}

type rudeSource struct{ sources.Source }

func (r *rudeSource) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := r.Source.Begin(ctx, env)
	return &rudeSession{session}, err
}

type rudeSession struct{ sources.Session }

func (r *rudeSession) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	plan, err := r.Session.Plan(ctx, q)
	if err == nil {
		plan.Detail = "detail" + attack
	}
	return plan, err
}
