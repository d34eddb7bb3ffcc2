package retry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock-data/penstock/core/digest"
	"github.com/penstock-data/penstock/sources"
)

// Scan scans q, with retries: after a failure it resumes in the same session, or in
// another one.
func (s *session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		p := &position{query: q}
		if t := s.source.catalog.Table(q.Table); t != nil {
			p.hasCursors, p.stable = t.Capabilities.Has(sources.CapResume), t.Capabilities.Has(sources.CapStable)
		}
		err := s.source.doWithRetry(ctx, "scan", q.Table, func(failures int) (bool, error) { return s.attempt(ctx, p, failures, yield) })
		if err != nil {
			yield(sources.Batch{}, err)
		}
	}
}

// attempt scans from the position to the end, and reports whether it made progress. A
// retry uses the current session first. If that fails again without progress, the
// session is lost, and the retry continues in a new one at once.
func (s *session) attempt(ctx context.Context, p *position, failures int, yield func(sources.Batch, error) bool) (progress bool, err error) {
	if p.limitReached() {
		return false, nil
	}
	if p.pages == 0 {
		if err := s.nameSnapshot(ctx, p.query); err != nil {
			return false, err
		}
	}
	for {
		shared, fresh, err := s.acquire(ctx, "scan", p.query.Table)
		if err != nil {
			return false, err
		}
		progress, err := s.read(ctx, shared, p, yield)
		useless := !progress && retryable(err) && (fresh || failures > 0)
		if useless {
			s.markLost(shared)
		}
		s.release(shared)
		if useless && !fresh {
			continue
		}
		if progress && retryable(err) && !p.resumable() {
			return true, permanentError("scan", p.query.Table, fmt.Errorf("%w; %d rows were delivered, and this table has neither cursors nor a stable order to resume from: read it again from the start", causeOf(err), p.rows))
		}
		return progress, err
	}
}

// causeOf returns the cause of err, without operation, table and kind, to be wrapped
// in an error that has them.
func causeOf(err error) error {
	if e, ok := err.(*sources.Error); ok && e.Err != nil {
		return e.Err
	}
	return err
}

// read ranges over one scan of a session, and reports whether it delivered anything
// new: rows, skipped records or another cursor. It returns nil if the consumer left the
// loop.
func (s *session) read(ctx context.Context, shared *sharedSession, p *position, yield func(sources.Batch, error) bool) (progress bool, err error) {
	table := p.query.Table
	if err := s.source.permit.acquire("scan", table); err != nil {
		return false, err
	}
	responded, read := false, false
	defer func() {
		switch {
		case err != nil:
			s.source.permit.failed(err)
		case !responded:
			s.source.permit.abandoned()
		}
	}()
	scanCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clock := newStallClock(s.source.timeouts.Stall, func(waited time.Duration) {
		s.source.faults.add(Fault{Kind: FaultStalled, Text: "waiting for a page of " + table, Wait: waited})
	}, func(cause error) {
		cancel(sources.NewError(sources.Unavailable, "scan", table, cause))
	})
	defer clock.stop()
	clock.start()
	p.startScan()
	for page, fault := range sources.Guard("scan", table, shared.session.Scan(scanCtx, p.next())) {
		clock.stop()
		late := stalled(ctx, scanCtx)
		advanced := fault == nil && p.advances(page)
		switch {
		case late != nil && !advanced: // the fault is that of the canceled context
			return progress, late
		case fault != nil:
			return progress, fault
		case advanced:
			clock.progress()
		}
		if !responded {
			responded = true
			s.source.permit.succeeded()
		}
		if !read { // before the page is delivered: its consumer may look up related rows in the session
			read = true
			s.markRead()
		}
		yielded, more, err := p.deliver(page, yield)
		progress = progress || yielded && advanced
		if err != nil || !more {
			return progress, err
		}
		clock.start()
	}
	// A source may end a scan without an error because its context has ended. Rows may be
	// missing then.
	if late := stalled(ctx, scanCtx); late != nil {
		return progress, late
	}
	if err := sources.ContextError(ctx, "scan", table); err != nil {
		return progress, err
	}
	return progress, p.checkEnd()
}

// stalled returns the error by which the stall clock has canceled the context of a scan, or
// nil. ctx is the context that the one of the scan derives from.
func stalled(ctx, scanCtx context.Context) error {
	var late *sources.Error
	if ctx.Err() != nil || !errors.As(context.Cause(scanCtx), &late) {
		return nil
	}
	return late
}

// markRead records that the stream has read data of the session's snapshot.
func (s *session) markRead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hasRead = true
}

// position is the progress of a scan: what it has delivered, and where it resumes. It
// is used by one goroutine, the one that ranges over the scan.
type position struct {
	query      *sources.Query // the original query
	hasCursors bool           // the table can resume at cursors
	stable     bool           // the table is stable
	pages      int64          // pages delivered
	rows       int64          // rows delivered

	cursor       sources.Cursor // of the last page that had one; nil: that of the query
	seen         sources.Cursor // of the last page of the current scan
	rowsAtCursor int64          // rows delivered up to the cursor
	// For a stable table: the digest of the rows delivered since the cursor, and how
	// many records were skipped among them.
	sinceCursor        digest.Digest
	skippedSinceCursor int64

	// While those rows are read again: how many of them are still to come, and the
	// digest and skipped records so far.
	toReread      int64
	reread        digest.Digest
	rereadSkipped int64
}

// limitReached reports whether the limit of the query is reached.
func (p *position) limitReached() bool { return p.query.Limit > 0 && p.rowsAtCursor >= p.query.Limit }

// resumable reports whether the scan can resume from here.
func (p *position) resumable() bool { return p.rows == p.rowsAtCursor || p.stable }

// next returns the query that resumes the scan. It yields the rows delivered since
// the last cursor again, and then the remaining rows.
func (p *position) next() *sources.Query {
	q := *p.query
	if p.cursor != nil {
		q.After = p.cursor
		if q.Limit > 0 {
			q.Limit -= p.rowsAtCursor
		}
	}
	return &q
}

// startScan prepares the position for a scan of the query that next returns.
func (p *position) startScan() {
	p.toReread, p.reread, p.rereadSkipped, p.seen = p.rows-p.rowsAtCursor, digest.Digest{}, 0, p.next().After
}

// advances reports whether a page of the current scan brings anything: rows, skipped
// records, or another cursor than that of the page before.
func (p *position) advances(page sources.Batch) bool {
	moved := page.Cursor != nil && !bytes.Equal(page.Cursor, p.seen)
	if moved {
		p.seen = append(p.seen[:0:0], page.Cursor...)
	}
	return moved || page.Record.NumRows() > 0 || page.Skipped.Records > 0
}

var errChanged = errors.New("the rows delivered before the failure differ from those read now: the data has changed; read it again from the start")

// deliver yields the part of a page that was not delivered before. It reports whether
// there was such a part, and whether the loop continues.
func (p *position) deliver(page sources.Batch, yield func(sources.Batch, error) bool) (yielded, more bool, err error) {
	if p.toReread > 0 {
		p.rereadSkipped += page.Skipped.Records
		known := min(p.toReread, page.Record.NumRows())
		if p.reread.IsZero() {
			p.reread = digest.New(page.Record.Schema())
		}
		p.reread.AddColumns(page.Record.Columns(), 0, known)
		if p.toReread -= known; p.toReread > 0 {
			return false, true, nil
		}
		if p.reread != p.sinceCursor {
			return false, false, sources.NewError(sources.Invalid, "scan", p.query.Table, errChanged)
		}
		page.Skipped = p.newlySkipped(page.Skipped)
		if known == page.Record.NumRows() && page.Cursor == nil && page.Skipped.Records == 0 {
			return false, true, nil
		}
		remaining := page.Record.NewSlice(known, page.Record.NumRows())
		defer remaining.Release()
		page.Record = remaining
	}
	p.pages++
	p.rows += page.Record.NumRows()
	switch {
	case page.Cursor != nil && p.hasCursors:
		p.cursor, p.rowsAtCursor, p.skippedSinceCursor = append(p.cursor[:0:0], page.Cursor...), p.rows, 0
		p.sinceCursor = digest.Digest{}
	case p.stable:
		if p.sinceCursor.IsZero() {
			p.sinceCursor = digest.New(page.Record.Schema())
		}
		p.sinceCursor.Add(page.Record)
		p.skippedSinceCursor += page.Skipped.Records
	}
	return true, yield(page, nil), nil
}

// newlySkipped returns what was skipped among the rows that were read again and the
// rest of the last page, without what was reported before.
func (p *position) newlySkipped(last sources.Skipped) sources.Skipped {
	n := min(p.rereadSkipped-p.skippedSinceCursor, last.Records)
	if n <= 0 {
		return sources.Skipped{}
	}
	return sources.Skipped{Records: n, Locations: last.Locations[max(0, len(last.Locations)-int(min(n, sources.MaxSkippedLocations))):]}
}

// checkEnd returns an error if the scan ended before it reached the rows delivered
// before.
func (p *position) checkEnd() error {
	if p.toReread > 0 {
		return sources.NewError(sources.Invalid, "scan", p.query.Table, errChanged)
	}
	return nil
}
