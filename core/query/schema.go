package query

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/sources"
)

// CheckSchema checks that the pages of a scan have the schema that the catalog
// declares, and that their counts of skipped records make sense. It ends with the
// context, also where the source does not look at it.
func CheckSchema(ctx context.Context, table string, pages sources.Batches, schema *arrow.Schema) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		for page, err := range pages {
			if err == nil {
				// A page may hold many chunks, and many pages may make none.
				err = sources.ContextError(ctx, "scan", table)
			}
			if err == nil {
				err = schemaDiff(page.Record.Schema(), schema)
			}
			if err == nil {
				err = page.Skipped.Check()
			}
			if err != nil {
				yield(sources.Batch{}, sources.WithOp("scan", table, err))
				return
			}
			if !underSchema(page, schema, yield) {
				return
			}
		}
	}
}

// underSchema yields a page under the very schema that the table declares, with
// its metadata, which a source's own pages may lack.
func underSchema(page sources.Batch, schema *arrow.Schema, yield func(sources.Batch, error) bool) bool {
	if page.Record.Schema() != schema {
		page.Record = array.NewRecordBatch(schema, page.Record.Columns(), page.Record.NumRows())
		defer page.Record.Release()
	}
	return yield(page, nil)
}

// schemaDiff returns what distinguishes a page's schema from the declared one.
func schemaDiff(got, want *arrow.Schema) error {
	if got == want {
		return nil
	}
	if got.NumFields() != want.NumFields() {
		return &sources.Error{Kind: sources.Internal, Err: fmt.Errorf("the source gave %d columns where its catalogue has %d", got.NumFields(), want.NumFields())}
	}
	var faults []error
	for i, w := range want.Fields() {
		g := got.Field(i)
		if g.Name != w.Name || g.Nullable != w.Nullable || !arrow.TypeEqual(g.Type, w.Type) {
			faults = append(faults, fmt.Errorf("the source gave column %q %s (nullable %t) where its catalogue has %q %s (nullable %t)",
				g.Name, g.Type, g.Nullable, w.Name, w.Type, w.Nullable))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return &sources.Error{Kind: sources.Internal, Err: errors.Join(faults...)}
}
