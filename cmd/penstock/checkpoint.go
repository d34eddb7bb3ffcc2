package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/outputs"
	"github.com/penstock-data/penstock/outputs/file"
	"github.com/penstock-data/penstock/sources"
)

// newExport checks the flags of an export, locks it and reads its checkpoint.
func (f *readFlags) newExport(format outputs.Format) (*file.Export, error) {
	switch {
	case f.output == "":
		return nil, usagef("--checkpoint needs -o: standard output cannot be continued")
	case f.after != "":
		return nil, usagef("--checkpoint and --after exclude each other: the checkpoint has a token of its own")
	case !format.Append:
		return nil, usagef("--checkpoint does not work with --format %s, which cannot be continued: use ndjson, csv or arrow", format.Name)
	}
	x, err := file.NewExport(file.ExportOptions{Output: f.output, Checkpoint: f.checkpoint, Format: format.Name, Limit: f.limit})
	var mismatch *file.MismatchError
	switch {
	case errors.As(err, &mismatch):
		was := mismatch.Saved
		return nil, usagef("the checkpoint %s is of -o %s --format %s --limit %d: repeat that command, or remove the file to start again",
			mismatch.Checkpoint, was.Output, was.Format, was.Limit)
	case errors.Is(err, file.ErrNotRegular), errors.Is(err, file.ErrSameFile):
		return nil, usagef("--checkpoint: %v", err)
	}
	return x, err
}

// stableOrder gives the query an order in which a later run finds its rows again.
func stableOrder(ctx context.Context, source *host.Source, q *core.Query) error {
	catalog, err := source.Catalog(ctx)
	if err != nil {
		return err
	}
	t, err := findTable(catalog, q.Table)
	if err != nil {
		return err
	}
	order, ok := file.StableOrder(t, q.OrderBy)
	if !ok {
		return usagef("--checkpoint: table %s has no key, so a later run could not find its rows again: give an order with --order-by", t.Name)
	}
	q.OrderBy = order
	return nil
}

// export reads the rows that are missing and appends them to the output. The
// stream is nil if there was nothing to read.
func (f *readFlags) export(ctx context.Context, source *host.Source, q core.Query, o core.Options, format outputs.Format, x *file.Export) (*core.Stream, error) {
	if x.Complete() {
		return nil, x.Finish()
	}
	if err := x.Open(); err != nil {
		return nil, err
	}
	if err := stableOrder(ctx, source, &q); err != nil {
		return nil, err
	}
	q, more := x.Continue(q)
	o.Tokens = true
	stream, err := source.Stream(ctx, q, o)
	if err != nil {
		return nil, restartHint(x, f.checkpoint, err)
	}
	if err := errors.Join(f.appendRows(ctx, format, stream, q.Load.Optional, x, more), stream.Close()); err != nil {
		return stream, restartHint(x, f.checkpoint, err)
	}
	return stream, x.Finish()
}

// appendRows writes the rows of a stream behind those that the export has, and
// saves the checkpoint from time to time. After a fault of the stream the output
// has no end: the next run continues it. Without more rows, only the end is
// written.
func (f *readFlags) appendRows(ctx context.Context, format outputs.Format, stream *core.Stream, optional []query.Branch, x *file.Export, more bool) error {
	rows, err := resultOf(stream, optional)
	if err != nil {
		return err
	}
	w, err := f.newWriter(x, format, rows, outputs.TableOptions{}, x.Offset())
	if err != nil {
		return err
	}
	defer w.Abort()
	if !more {
		return w.Close()
	}
	save := func() error {
		offset, err := w.Flush()
		if err != nil {
			return err
		}
		return x.Save(offset)
	}
	fault, err := rows.writeTo(ctx, w, func(chunk *core.Chunk) error {
		err := x.Advance(chunk.Token, chunk.Record.NumRows())
		switch {
		case errors.Is(err, file.ErrNoToken):
			return usagef("--checkpoint: a later run could not find the rows of this table again: give an order with --order-by")
		case err != nil || !x.Due():
			return err
		}
		return save()
	})
	switch {
	case err != nil:
		return err
	case fault != nil:
		return errors.Join(fault, save())
	}
	return w.Close()
}

// restartHint adds the remedy for a checkpoint that does not fit the data anymore.
func restartHint(x *file.Export, checkpoint string, err error) error {
	if x.Resumed() && sources.KindOf(err) == sources.Invalid {
		return fmt.Errorf("%w; to start again, remove %s", err, checkpoint)
	}
	return err
}
