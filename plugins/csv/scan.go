package csv

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// Begin starts a session. Files have no snapshots; a scan that opens a file which
// has changed since the catalog was made fails.
func (s *source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	if env.Snapshot != "" {
		return nil, sources.Errorf(sources.Invalid, "begin", "", "CSV files have no snapshots")
	}
	catalog, err := s.Catalog(sources.ForTables(ctx))
	if err != nil {
		return nil, err
	}
	env.Page = env.Page.OrDefault()
	return &session{source: s, catalog: catalog, env: env, indexLock: make(chan struct{}, 1), indexes: map[string]*index{}}, nil
}

type session struct {
	source  *source
	catalog *sources.Catalog // its tables may be pending
	env     sources.Env

	indexLock chan struct{} // a token; its holder may use indexes
	indexes   map[string]*index
}

// Close frees the indexes. Every scan has closed its own file.
func (s *session) Close() error {
	var faults []error
	for name, x := range s.indexes {
		faults = append(faults, x.free(s.env.Mem))
		delete(s.indexes, name)
	}
	return errors.Join(faults...)
}

// Plan estimates rows from the sample and the sizes of the files.
func (s *session) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	table, err := s.check(ctx, q)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	t := s.source.table(q.Table)
	version, size, err := s.source.version(t)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	plan := &sources.Plan{Rows: table.Rows, Bytes: size, Version: version, Detail: t.detail(q)}
	if t.packed {
		plan.Bytes = -1
	}
	if q.Limit > 0 && (q.Limit < plan.Rows || plan.Rows < 0) {
		plan.Rows, plan.Bytes = q.Limit, q.Limit*max(t.rowBytes, 1)
	}
	if q.Keys == nil && q.Limit == 0 && q.Part == nil && q.After == nil {
		plan.Parts = t.partitions()
	}
	return plan, nil
}

// check checks a query, and returns its table in the catalog.
func (s *session) check(ctx context.Context, q *sources.Query) (*sources.Table, error) {
	catalog, err := s.source.Catalog(sources.ForTables(ctx, q.Table))
	if err != nil {
		return nil, err
	}
	return catalog.Check(q)
}

// detail returns a description of how a scan reads its rows.
func (t *table) detail(q *sources.Query) string {
	text := "reads " + t.files[0].name
	if n := len(t.files); n > 1 {
		text = fmt.Sprintf("reads %s and %d more files", t.files[0].name, n-1)
	}
	if q.Keys != nil {
		text += fmt.Sprintf(" through an index on %s", strings.Join(q.Keys.Columns, ", "))
	}
	return text
}

// Scan reads the rows of a table, from its beginning or after a cursor.
func (s *session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return sources.Guard("scan", q.Table, func(yield func(sources.Batch, error) bool) {
		table, err := s.check(ctx, q)
		if err == nil {
			err = s.scan(ctx, table, q, yield)
		}
		if err != nil {
			yield(sources.Batch{}, asInvalid(err))
		}
	})
}

// lookupBuffer is how many bytes a lookup reads at a time. It is small, since the
// next record may be far away.
const lookupBuffer = 4 << 10

// buffer returns how many bytes a scan reads at a time: at most a page, for which
// the session's memory has room.
func (s *session) buffer() int { return int(min(s.env.Page.Bytes, largestBuffer)) }

// scan yields pages until the table ends or the consumer stops.
func (s *session) scan(ctx context.Context, table *sources.Table, q *sources.Query, yield func(sources.Batch, error) bool) error {
	t := s.source.table(q.Table)
	if err := ctx.Err(); err != nil {
		return err
	}
	whole := t.wholeTable()
	if q.Part != nil {
		part, err := t.parsePartition(q.Part)
		if err != nil {
			return err
		}
		if whole, err = s.source.alignPartition(ctx, t, part); err != nil {
			return err
		}
	}
	from := cursorPosition{position: whole.from}
	if q.After != nil {
		var err error
		if from, err = t.parseCursor(q.After); err != nil {
			return err
		}
		from.position = max(from.position, whole.from)
	}
	files, err := s.source.startState(t)
	if err != nil {
		return err
	}
	read := newPrefix(t, whole.from)
	if q.After != nil {
		if read, err = s.source.resumePrefix(ctx, t, whole.from, from.prefix, files, q.Keys != nil); err != nil {
			return err
		}
	} else if q.Keys != nil {
		read = nil // most bytes are skipped
	}
	spans, buffer := []positionRange{{from.position, whole.to}}, s.buffer()
	p := pager{table: t, limits: s.env.Page, remaining: q.Limit, position: from, from: from.position, files: files}
	if q.Keys != nil {
		p.keys = t.keySet(q.Keys)
		var err error
		if spans, err = s.find(ctx, t, p.keys); err != nil {
			return err
		}
		if q.Keys.LimitPerKey > 0 { // rows before the cursor count for the limit
			spans = clipRanges(spans, whole)
		} else {
			spans = clipRanges(spans, positionRange{from.position, whole.to})
		}
		buffer = lookupBuffer
	}
	w := s.source.newRecordReader(ctx, t, s.env.Mem, buffer, spans...)
	w.prefix = read
	defer w.close()
	p.reader, p.row = w, row{w}
	w.due = &dueTime{env: s.env, holds: p.holds}
	w.due.restart()
	p.whole = q.Keys == nil && q.Part == nil && q.After == nil
	p.where = t.compileFilter(q.Where)
	p.schema = table.ScanSchema(q.Columns)
	defer func() {
		for i := range p.vectors {
			p.vectors[i].release()
		}
	}()
	for _, f := range p.schema.Fields() {
		i := t.indexes[f.Name]
		p.vectors = append(p.vectors, newVector(s.env.Mem, &t.columns[i], i))
		if v := &p.vectors[len(p.vectors)-1]; v.width == 0 {
			p.texts = append(p.texts, len(p.vectors)-1)
		}
		p.fixed += p.vectors[len(p.vectors)-1].fixedSize()
	}
	// A page of a wide table has room for few rows.
	if most := p.limits.Bytes / max(p.fixed, 1); most < firstRows {
		for i := range p.vectors {
			p.vectors[i].first = int(max(most, 1))
		}
	}
	if s.source.options.SkipBad {
		// Whether a record is left out must not depend on the columns of the query.
		for i := range t.columns {
			if p.schema.FieldIndices(t.columns[i].name) == nil {
				p.checked = append(p.checked, i)
			}
		}
	}
	for pages := 0; ; pages++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, fault := p.fill()
		if fault == nil && !more {
			fault = p.checkReadable()
		}
		due := fault == errDue
		if due {
			more, fault = true, nil
			p.position.position = w.nextPosition() // records that were left out are not read again
		}
		// The records before an error are yielded first. They have cursors, unless the
		// input can be read only once and a retry is not possible anyway.
		if !p.holds() && (fault != nil || pages > 0) {
			return fault
		}
		if !p.yield(due, yield) {
			return nil
		}
		if fault != nil || !more {
			return fault
		}
	}
}

// pager builds the pages of a scan.
type pager struct {
	reader    *recordReader
	row       row
	table     *table
	schema    *arrow.Schema
	limits    sources.Limits
	files     [8]byte // the state of the files when the scan began
	remaining int64   // of the query's limit; 0 means no limit
	where     filter  // nil accepts every record
	keys      *keySet // whose records are wanted; nil accepts every record
	whole     bool    // the scan reads the whole table
	readable  bool    // a record was not left out
	from      int64   // records before it were yielded by an earlier scan; they only count for their key
	vectors   []vector
	texts     []int // indexes of the text vectors
	checked   []int // columns that are not in the query but must be readable
	fixed     int64 // the size of a row without its text

	rows     int64
	bytes    int64
	position cursorPosition // after the page's last record
	pending  bool           // the current record did not fit the last page and begins the next one
}

// holds reports whether the page has rows, or left out records to report.
func (p *pager) holds() bool { return p.rows > 0 || p.reader.skipped.Records > 0 }

// checkReadable returns an error if the scan has read the whole table and left out
// every record: then the table was opened in a wrong way.
func (p *pager) checkReadable() error {
	if !p.whole || p.readable || p.reader.leftOut == 0 {
		return nil
	}
	return sources.Errorf(sources.Invalid, "", "", "no record can be read: on_error=skip left out %s, the first at %s; are the delimiter, the quote and the header right?",
		counted(int(p.reader.leftOut), "record"), p.reader.firstLeftOut)
}

// fill adds records until the page is full or the table ends. It reports whether
// there may be more records. The error errDue means that the page is due.
func (p *pager) fill() (bool, error) {
	for {
		if !p.pending {
			more, err := p.next()
			if err != nil || !more {
				return false, err
			}
		}
		size := p.fixed
		cells := p.reader.scanner.cells
		for _, i := range p.texts {
			if index := p.vectors[i].index; index < len(cells) {
				size += int64(cells[index].to - cells[index].from)
			} else {
				size += int64(len(p.table.files[p.reader.file].name))
			}
		}
		if p.rows > 0 && (p.rows >= p.limits.Rows || p.bytes+size > p.limits.Bytes) {
			p.pending = true
			return true, nil
		}
		p.pending = false
		if err := p.add(); err != nil {
			for i := range p.vectors {
				p.vectors[i].truncate(int(p.rows))
			}
			if err = p.reader.skipRecord(err); err != nil {
				return false, err
			}
			continue
		}
		p.readable = true
		p.rows++
		p.bytes += size
		p.position.position = p.reader.nextPosition()
		p.position.rows++
		if p.remaining > 0 {
			if p.remaining--; p.remaining == 0 {
				return false, nil
			}
		}
	}
}

// next reads the next record that the query matches.
func (p *pager) next() (bool, error) {
	for {
		more, err := p.reader.next()
		if err != nil || !more {
			return false, err
		}
		keep, err := p.keeps()
		if err != nil {
			if err = p.reader.skipRecord(err); err != nil {
				return false, err
			}
			continue
		}
		if keep {
			return true, nil
		}
		p.readable = true
	}
}

// keeps reports whether the query matches the current record.
func (p *pager) keeps() (bool, error) {
	if p.where != nil {
		if truth, err := p.where.eval(&p.row); err != nil || truth != sources.True {
			return false, err
		}
	}
	if p.keys != nil {
		ok, err := p.keys.matches(&p.row)
		return ok && p.reader.position() >= p.from, err
	}
	return true, nil
}

// add appends the current record to the page. After an error some columns may have
// one value more than others.
func (p *pager) add() error {
	for _, i := range p.checked {
		if _, _, err := p.row.datum(i); err != nil {
			return err
		}
	}
	s := p.reader.scanner
	for i := range p.vectors {
		v := &p.vectors[i]
		if v.fast != fastNone && v.fastAppend(s.record, &s.cells[v.index], s.ascii) {
			continue
		}
		d, null, err := p.row.datum(v.index)
		switch {
		case err != nil:
			return err
		case null:
			v.appendNull()
		default:
			v.append(d)
		}
	}
	return nil
}

// yield yields the page and reports whether the consumer wants more.
func (p *pager) yield(due bool, yield func(sources.Batch, error) bool) bool {
	columns := make([]arrow.Array, 0, len(p.vectors))
	buffers := make([]*memory.Buffer, maxBuffers*len(p.vectors)) // of all columns, to allocate once
	for i := range p.vectors {
		columns = append(columns, p.vectors[i].finish(buffers[maxBuffers*i:maxBuffers*i:maxBuffers*(i+1)]))
	}
	record := array.NewRecordBatch(p.schema, columns, p.rows)
	for _, c := range columns {
		c.Release()
	}
	defer record.Release()
	p.rows, p.bytes = 0, 0
	batch := sources.Batch{Record: record, Due: due, Skipped: p.reader.takeSkipped()}
	if p.table.canResume() {
		p.position.prefix = prefixState{}
		if p.reader.prefix != nil {
			p.position.prefix = p.reader.prefix.state()
		}
		p.position.prefix.files = p.files
		batch.Cursor = p.table.cursor(p.position)
	}
	defer p.reader.due.restart()
	return yield(batch, nil)
}
