package postgres

import (
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// firstPageBytes is the maximum size of the first page of a scan, which is small so that the
// first rows arrive early. Each further page may be twice as large, up to the limit.
const firstPageBytes = 64 << 10

// pageFeed hands the pages of a scan on to its consumer: full ones between two rows, and
// those that are due also from within a read of the connection.
type pageFeed struct {
	session *session
	builder *pageBuilder
	cursors *cursorWriter  // nil if the scan cannot resume
	after   sources.Cursor // of the query
	rows    *resultRows
	yield   func(sources.Batch, error) bool

	limits  sources.Limits
	bytes   int64     // the maximum size of the page
	count   int       // pages handed on
	due     time.Time // when the page is due; zero means never
	inRead  bool      // the consumer was called from within a read and has not returned
	stopped bool      // no more pages are wanted
	err     error     // why, unless the consumer left the loop
}

func newPageFeed(n *session, p *pageBuilder, cursors *cursorWriter, after sources.Cursor, rows *resultRows, yield func(sources.Batch, error) bool) *pageFeed {
	limits := n.env.Page.OrDefault()
	return &pageFeed{
		session: n, builder: p, cursors: cursors, after: after, rows: rows, yield: yield,
		limits: limits, bytes: min(limits.Bytes, firstPageBytes), due: n.env.DueAt(time.Now()),
	}
}

// full reports whether the page has no room for a row of a size.
func (f *pageFeed) full(size int64) bool {
	return f.builder.rows > 0 && (f.builder.rows >= f.limits.Rows || f.builder.bytes+size > f.bytes)
}

// handOn hands the page on and starts the next one. It reports whether the consumer wants
// more. If memory for the page is refused, that is the error of the feed.
func (f *pageFeed) handOn(due bool) bool {
	batch := sources.Batch{Due: due}
	switch {
	case f.cursors == nil:
	case f.builder.rows > 0:
		batch.Cursor = f.cursors.cursor()
	default:
		batch.Cursor = f.after // the cursor of an empty page is that of the query
	}
	batch.Record, f.err = sources.GuardCall("", "", func() (arrow.RecordBatch, error) { return f.builder.record(f.session.env.Mem), nil })
	if f.err != nil {
		f.stopped = true
		return false
	}
	defer batch.Record.Release()
	if f.count++; f.count == 1 {
		f.session.openSpare()
	}
	if !due {
		f.bytes = min(2*f.bytes, f.limits.Bytes)
	}
	f.inRead = due
	f.stopped = !f.yield(batch, nil)
	f.inRead = false
	f.due = f.session.env.DueAt(time.Now())
	return !f.stopped
}

func (f *pageFeed) dueAt() time.Time {
	if f.stopped || f.builder.rows == 0 {
		return time.Time{}
	}
	return f.due
}

// handOnDue hands the page on from within a read. If no more pages are wanted, it cancels
// the statement, so that the read need not wait for the next row.
func (f *pageFeed) handOnDue() {
	if !f.handOn(true) {
		f.rows.interrupt()
	}
}

// end ends the statement. If the consumer has panicked within a read, it closes the
// connection, which pgx could not go on reading.
func (f *pageFeed) end() {
	if f.inRead {
		f.rows.abandon()
		return
	}
	_ = f.rows.close() // its error is handled after the last row
}
