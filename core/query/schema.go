package query

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// CheckSchema returns the pages of a scan of table with the declared schema and its
// metadata, which is normalized as [sources.NormalizeSchema] does. If a page has other columns or types, the pages end with an error of kind
// [sources.Internal]; if a count of skipped records is inconsistent, of kind
// [sources.Invalid]; if ctx ends, of kind [sources.Canceled], even if the source
// ignores ctx.
func CheckSchema(ctx context.Context, table string, pages sources.Batches, schema *arrow.Schema) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		for page, err := range pages {
			if err == nil {
				// Check here: the hops after this one may read many pages for one chunk.
				err = sources.ContextError(ctx, "scan", table)
			}
			if err == nil {
				err = compareSchemas(sources.NormalizeSchema(page.Record.Schema()), schema)
			}
			if err == nil {
				err = page.Skipped.Check()
			}
			if err != nil {
				yield(sources.Batch{}, sources.WithOp("scan", table, err))
				return
			}
			if !yieldWithSchema(page, schema, yield) {
				return
			}
		}
		// A source may end a scan without an error because its context has ended. Rows may
		// be missing then.
		if err := sources.ContextError(ctx, "scan", table); err != nil {
			yield(sources.Batch{}, err)
		}
	}
}

// yieldWithSchema yields a page under the declared schema. A source's own pages
// may lack its metadata, also that of nested fields, or have extension types instead.
func yieldWithSchema(page sources.Batch, schema *arrow.Schema, yield func(sources.Batch, error) bool) bool {
	if page.Record.Schema() != schema {
		page.Record = sources.WithSchema(page.Record, schema)
		defer page.Record.Release()
	}
	return yield(page, nil)
}

// compareSchemas returns an error of kind [sources.Internal] that describes how a
// page's schema differs from the declared one.
func compareSchemas(got, want *arrow.Schema) error {
	if got == want {
		return nil
	}
	if got.NumFields() != want.NumFields() {
		return sources.Errorf(sources.Internal, "", "", "the source returned %d columns, its catalog declares %d", got.NumFields(), want.NumFields())
	}
	var errs []error
	for i, w := range want.Fields() {
		g := got.Field(i)
		if g.Name != w.Name || g.Nullable != w.Nullable || !arrow.TypeEqual(g.Type, w.Type) {
			errs = append(errs, fmt.Errorf("the source returned column %q %s (nullable %t), its catalog declares %q %s (nullable %t)",
				g.Name, g.Type, g.Nullable, w.Name, w.Type, w.Nullable))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return sources.NewError(sources.Internal, "", "", errors.Join(errs...))
}
