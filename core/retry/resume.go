package retry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// Scan is a scan of the current session, which goes on in it or in the next one
// after a fault.
func (n *session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		p := &position{query: q}
		if t := n.of.catalog.Table(q.Table); t != nil {
			p.cursors, p.stable = t.Capabilities.Has(sources.CapResume), t.Capabilities.Has(sources.CapStable)
		}
		err := n.of.doWithRetry(ctx, "scan", q.Table, func(try int) (bool, error) { return n.attempt(ctx, p, try, yield) })
		if err != nil {
			yield(sources.Batch{}, err)
		}
	}
}

// attempt scans from the position to the end, and reports whether it gave a page.
// The first try after a fault is made in the same session, and where that gives
// nothing any more at once in a new one; every further one begins anew.
func (n *session) attempt(ctx context.Context, p *position, try int, yield func(sources.Batch, error) bool) (gave bool, err error) {
	if p.reached() {
		return false, nil
	}
	if try == 0 && p.pages == 0 {
		if err := n.nameSnapshot(ctx, p.query); err != nil {
			return false, err
		}
	}
	for {
		l, fresh, err := n.acquire(ctx, "scan", p.query.Table)
		if err != nil {
			return false, err
		}
		gave, err := n.read(ctx, l, p, yield)
		useless := !gave && retryable(err) && (fresh || try > 0)
		if useless {
			n.lose(l)
		}
		n.release(l)
		if useless && !fresh {
			continue
		}
		if gave && retryable(err) && !p.resumes() {
			return true, permanentError("scan", p.query.Table, fmt.Errorf("%w; %d rows were given, and this table has neither cursors nor an order of its own to go on by: read it again", causeOf(err), p.rows))
		}
		return gave, err
	}
}

// causeOf is an error's cause without operation, table and kind, for one that says
// them again.
func causeOf(err error) error {
	if e, ok := err.(*sources.Error); ok && e.Err != nil {
		return e.Err
	}
	return err
}

// read ranges over one scan. It returns nil where the loop was left.
func (n *session) read(ctx context.Context, l *sharedSession, p *position, yield func(sources.Batch, error) bool) (gave bool, err error) {
	table := p.query.Table
	if err := n.of.probe.ask("scan", table); err != nil {
		return false, err
	}
	answered := false
	defer func() {
		switch {
		case err != nil:
			n.of.probe.failed(err)
		case !answered:
			n.of.probe.gaveUp()
		}
	}()
	scanning, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clock := newStallClock(n.of.timeouts.Stall, func(waited time.Duration) {
		n.of.faults.add(Fault{Kind: FaultStalled, Text: "waiting for a page of " + table, Wait: waited})
	}, func(cause error) {
		cancel(&sources.Error{Op: "scan", Table: table, Kind: sources.Unavailable, Err: cause})
	})
	defer clock.stop()
	clock.start()
	p.begin()
	for page, fault := range sources.Guard("scan", table, l.session.Scan(scanning, p.next())) {
		clock.stop()
		if fault != nil {
			var late *sources.Error
			if ctx.Err() == nil && errors.As(context.Cause(scanning), &late) {
				return gave, late
			}
			return gave, fault
		}
		if !answered {
			answered = true
			n.of.probe.answered()
		}
		passed, more, err := p.pass(page, yield)
		if passed && !gave {
			gave = true
			n.saw()
		}
		if err != nil || !more {
			return gave, err
		}
		clock.start()
	}
	return gave, p.ended()
}

// saw notes that the stream has seen something of the session's moment.
func (n *session) saw() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = true
}

// position is how far a scan has come. It belongs to whoever ranges.
type position struct {
	query   *sources.Query // as it was asked first
	cursors bool           // the table takes them
	stable  bool
	pages   int64 // given
	rows    int64 // given

	cursor sources.Cursor // of the last page that had one; nil is the query's own
	before int64          // rows given up to the cursor
	// Of the rows that were given since, where the table is stable: their checksum,
	// and how many records were skipped among them.
	since   *rows.Checksum
	skipped int64

	// What is still to come of them, while they are read again.
	again    int64
	compared *rows.Checksum
	skips    int64
}

// reached reports whether the query's limit is.
func (p *position) reached() bool { return p.query.Limit > 0 && p.before >= p.query.Limit }

// resumes reports whether a scan can go on from here.
func (p *position) resumes() bool { return p.rows == p.before || p.stable }

// next is what is asked for: what is still to come, and before it what was given
// since the last cursor.
func (p *position) next() *sources.Query {
	q := *p.query
	if p.cursor != nil {
		q.After = p.cursor
		if q.Limit > 0 {
			q.Limit -= p.before
		}
	}
	return &q
}

// begin starts a scan over what next asks for.
func (p *position) begin() {
	p.again, p.compared, p.skips = p.rows-p.before, nil, 0
}

var errChanged = errors.New("the rows that were given before the fault are not those that come now: the data has changed, read it again from the start")

// pass gives a page, or what is left of it where a part was given already. It
// reports whether it gave anything, and whether the loop goes on.
func (p *position) pass(page sources.Batch, yield func(sources.Batch, error) bool) (gave, more bool, err error) {
	if p.again > 0 {
		p.skips += page.Skipped.Records
		known := min(p.again, page.Record.NumRows())
		if p.compared == nil {
			p.compared = rows.NewChecksum(page.Record.Schema())
		}
		p.compared.AddSlice(page.Record, 0, known)
		if p.again -= known; p.again > 0 {
			return false, true, nil
		}
		if p.compared.Sum() != p.since.Sum() {
			return false, false, &sources.Error{Op: "scan", Table: p.query.Table, Kind: sources.Invalid, Err: errChanged}
		}
		page.Skipped = p.unknown(page.Skipped)
		if known == page.Record.NumRows() && page.Cursor == nil && page.Skipped.Records == 0 {
			return false, true, nil
		}
		rest := page.Record.NewSlice(known, page.Record.NumRows())
		defer rest.Release()
		page.Record = rest
	}
	p.pages++
	p.rows += page.Record.NumRows()
	switch {
	case page.Cursor != nil && p.cursors:
		p.cursor, p.before, p.skipped = append(p.cursor[:0:0], page.Cursor...), p.rows, 0
		p.since = nil
	case p.stable:
		if p.since == nil {
			p.since = rows.NewChecksum(page.Record.Schema())
		}
		p.since.Add(page.Record)
		p.skipped += page.Skipped.Records
	}
	return true, yield(page, nil), nil
}

// unknown is what was skipped among rows that were read again and a page behind
// them, without what was told before.
func (p *position) unknown(last sources.Skipped) sources.Skipped {
	n := min(p.skips-p.skipped, last.Records)
	if n <= 0 {
		return sources.Skipped{}
	}
	return sources.Skipped{Records: n, Locations: last.Locations[max(0, len(last.Locations)-int(min(n, sources.MaxSkippedLocations))):]}
}

// ended holds the end of a scan against what was given before.
func (p *position) ended() error {
	if p.again > 0 {
		return &sources.Error{Op: "scan", Table: p.query.Table, Kind: sources.Invalid, Err: errChanged}
	}
	return nil
}
