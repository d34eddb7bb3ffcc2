package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/outputs"
	"github.com/penstock-data/penstock/outputs/file"
	"github.com/penstock-data/penstock/sources"
)

// newExport checks the flags of an export, locks it and reads its checkpoint.
func (f *readFlags) newExport(table string, format outputs.Format) (*file.Export, error) {
	switch {
	case f.output == "":
		return nil, usagef("--checkpoint needs -o: standard output cannot be continued")
	case f.after != "":
		return nil, usagef("--checkpoint and --after exclude each other: the checkpoint has a token of its own")
	case !format.Append:
		return nil, usagef("--checkpoint does not work with --format %s, which cannot be continued: use ndjson, csv or arrow", format.Name)
	}
	x, err := file.NewExport(file.ExportOptions{Output: f.output, Checkpoint: f.checkpoint, Format: format.Name, Limit: f.limit, Query: f.identity(table)})
	var mismatch *file.MismatchError
	switch {
	case errors.As(err, &mismatch):
		was := mismatch.Saved
		limit := ""
		if was.Limit > 0 {
			limit = fmt.Sprintf(" --limit %d", was.Limit)
		}
		if was.Output == f.output && was.Format == format.Name && was.Limit == f.limit {
			return nil, usagef("the checkpoint %s is of another table, or of other columns, conditions, order, relations or --flatten: repeat that command, or remove the file to start again", mismatch.Checkpoint)
		}
		return nil, usagef("the checkpoint %s is of -o %s --format %s%s: repeat that command, or remove the file to start again",
			mismatch.Checkpoint, was.Output, was.Format, limit)
	case errors.Is(err, file.ErrNotRegular), errors.Is(err, file.ErrSameFile):
		return nil, usagef("--checkpoint: %v", err)
	}
	return x, err
}

// identity returns what shapes the output of a read, apart from its format and limit.
func (f *readFlags) identity(table string) string {
	return fmt.Sprintf("%q %q %q %q %q %q %t %t %q %d", table, f.columns, f.where, f.orderBy, f.load, f.optional, f.flat, f.noPushdown, f.strategy, f.maxDepth)
}

// export reads the rows that are missing and appends them to the output. The
// stream is nil if there was nothing to read.
func (f *readFlags) export(ctx context.Context, stderr io.Writer, source *host.Source, q core.Query, o core.Options, format outputs.Format, x *file.Export) (*core.Stream, error) {
	if x.Complete() {
		return nil, x.Finish()
	}
	if err := x.Open(); err != nil {
		return nil, err
	}
	q, more := x.Continue(q)
	o.Tokens = true
	stream, err := source.Stream(ctx, q, o)
	if err != nil {
		return nil, restartHint(x, f.checkpoint, err)
	}
	if err := f.announce(stderr, stream, x); err != nil {
		return stream, errors.Join(err, stream.Close())
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

// announce says what it takes to resume the export, and what an earlier run leaves behind.
func (f *readFlags) announce(stderr io.Writer, stream *core.Stream, x *file.Export) error {
	needs := stream.Resumption()
	text := ""
	switch {
	case x.Resumed():
		text = mixed(stream)
	case needs == core.ResumeSameSnapshot && f.parallel < 2:
		return usagef("--checkpoint: table %s has no key, so a later run could not find its rows again: give an order with --order-by", stream.Receipt().Table)
	case needs == core.ResumeSameSnapshot:
		text = "if this export is interrupted, with --parallel it resumes only while the data is unchanged"
	case needs == core.ResumeUnchanged:
		text = "if this export is interrupted, it resumes only while the data is unchanged, or with --resume-across-snapshots"
	}
	return notice(stderr, text)
}

// mixed returns a notice for a stream whose rows are of several snapshots; otherwise it is
// empty.
func mixed(stream *core.Stream) string {
	n := stream.Receipt().Snapshots
	if n < 2 {
		return ""
	}
	return fmt.Sprintf("the rows are of %d snapshots of the data: rows that were changed in between may be missing or appear twice", n)
}

// notice prints a notice, unless it is empty.
func notice(stderr io.Writer, text string) error {
	if text == "" {
		return nil
	}
	_, err := fmt.Fprintf(stderr, "penstock: %s\n", text)
	return err
}

// resumeHint adds the remedy for a token whose data may have changed.
func resumeHint(err error) error {
	if errors.Is(err, core.ErrOtherSnapshot) {
		return fmt.Errorf("%w with --resume-across-snapshots", err)
	}
	return err
}

// restartHint adds the remedy for a checkpoint that does not fit the data anymore.
func restartHint(x *file.Export, checkpoint string, err error) error {
	if x.Resumed() && sources.KindOf(err) == sources.Invalid {
		return fmt.Errorf("%w; to start again, remove %s", resumeHint(err), checkpoint)
	}
	return err
}
