package csv

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/sources"
)

// Begin starts a session. Files have no snapshots: a file that changes while it
// is read is found out where a scan opens it.
func (s *source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	if env.Snapshot != "" {
		return nil, &sources.Error{Op: "begin", Kind: sources.Invalid, Err: errors.New("files have no snapshots to join")}
	}
	catalog, err := s.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	env.Page = env.Page.OrDefault()
	return &session{source: s, catalog: catalog, env: env, building: make(chan struct{}, 1), indexes: map[string]*index{}}, nil
}

type session struct {
	source  *source
	catalog *sources.Catalog
	env     sources.Env

	building chan struct{} // held by whoever looks at indexes
	indexes  map[string]*index
}

// Close frees the indexes: every scan has closed its own file.
func (s *session) Close() error {
	var faults []error
	for name, x := range s.indexes {
		faults = append(faults, x.free(s.env.Mem))
		delete(s.indexes, name)
	}
	return errors.Join(faults...)
}

// Plan estimates by the sample and the size of the files.
func (s *session) Plan(_ context.Context, q *sources.Query) (*sources.Plan, error) {
	table, err := s.catalog.Check(q)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	t := s.source.tables[q.Table]
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
		plan.Parts = t.parts()
	}
	return plan, nil
}

// detail says how a scan goes about it.
func (t *table) detail(q *sources.Query) string {
	text := "reads " + t.files[0].name
	if n := len(t.files); n > 1 {
		text = fmt.Sprintf("reads %s and %d files more", t.files[0].name, n-1)
	}
	if q.Keys != nil {
		text += fmt.Sprintf(" where an index by %s says", q.Keys.Columns)
	}
	return text
}

// Scan reads a table from its beginning or from a cursor.
func (s *session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return sources.Guard("scan", q.Table, func(yield func(sources.Batch, error) bool) {
		table, err := s.catalog.Check(q)
		if err == nil {
			err = s.scan(ctx, table, q, yield)
		}
		if err != nil {
			yield(sources.Batch{}, invalid(err))
		}
	})
}

// lookAhead is how many bytes a look-up reads at once: a few records, for the
// next one that it wants may be far away.
const lookAhead = 4 << 10

// buffer is how many bytes a scan of the session reads at once: no more than a
// page, which the session's memory has room for.
func (s *session) buffer() int { return int(min(s.env.Page.Bytes, largestBuffer)) }

// scan yields pages until the table ends or the loop is left.
func (s *session) scan(ctx context.Context, table *sources.Table, q *sources.Query, yield func(sources.Batch, error) bool) error {
	t := s.source.tables[q.Table]
	if err := ctx.Err(); err != nil {
		return err
	}
	whole := t.everything()
	if q.Part != nil {
		part, err := t.parsePart(q.Part)
		if err != nil {
			return err
		}
		if whole, err = s.source.boundaries(ctx, t, part); err != nil {
			return err
		}
	}
	from := place{at: whole.from}
	if q.After != nil {
		var err error
		if from, err = t.parseCursor(q.After); err != nil {
			return err
		}
		from.at = max(from.at, whole.from)
	}
	spans, buffer := []span{{from.at, whole.to}}, s.buffer()
	p := pager{table: t, limits: s.env.Page, left: q.Limit, end: from, from: from.at}
	if q.Keys != nil {
		p.keys = t.keySet(q.Keys)
		var err error
		if spans, err = s.find(ctx, t, p.keys); err != nil {
			return err
		}
		if q.Keys.LimitPerKey > 0 { // what was given counts
			spans = clip(spans, whole)
		} else {
			spans = clip(spans, span{from.at, whole.to})
		}
		buffer = lookAhead
	}
	w := s.source.walk(ctx, t, s.env.Mem, buffer, spans...)
	defer w.close()
	p.walk, p.row = w, row{w}
	p.where = t.compile(q.Where)
	p.schema = table.ScanSchema(q.Columns)
	defer func() {
		for i := range p.vectors {
			p.vectors[i].release()
		}
	}()
	for _, f := range p.schema.Fields() {
		i := t.index(f.Name)
		p.vectors = append(p.vectors, newVector(s.env.Mem, &t.columns[i], i))
		if v := &p.vectors[len(p.vectors)-1]; v.width == 0 {
			p.texts = append(p.texts, len(p.vectors)-1)
		}
		p.fixed += p.vectors[len(p.vectors)-1].size()
	}
	if s.source.options.SkipBad {
		// Whether a record is left out does not depend on who asks.
		for i := range t.columns {
			if p.schema.FieldIndices(t.columns[i].name) == nil {
				p.others = append(p.others, i)
			}
		}
	}
	for pages := 0; ; pages++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, fault := p.fill()
		// The records before a fault are good.
		if p.rows == 0 && w.skipped.Records == 0 && (fault != nil || pages > 0) {
			return fault
		}
		if !p.yield(yield) {
			return nil
		}
		if fault != nil || !more {
			return fault
		}
	}
}

// clip returns the parts of spans that lie within another.
func clip(spans []span, within span) []span {
	clipped := spans[:0]
	for _, s := range spans {
		if s.from, s.to = max(s.from, within.from), min(s.to, within.to); s.from < s.to {
			clipped = append(clipped, s)
		}
	}
	return clipped
}

// pager makes pages of records.
type pager struct {
	walk    *walk
	row     row
	table   *table
	schema  *arrow.Schema
	limits  sources.Limits
	left    int64   // of the query's limit; 0 is none
	where   filter  // nil keeps every record
	keys    *keySet // that records must have; nil: any
	from    int64   // records before it were given already, and only count for their key
	vectors []vector
	texts   []int // the vectors of text
	others  []int // columns that nobody asked for, and that must be good all the same
	fixed   int64 // what a row adds to the page's size, without its texts

	rows  int64
	bytes int64
	end   place // behind the page's last record
	held  bool  // the record that was read last did not fit the last page and begins the next
}

// fill reads records until the page is full or the table ends, and reports
// whether there may be more.
func (p *pager) fill() (bool, error) {
	for {
		if !p.held {
			more, err := p.next()
			if err != nil || !more {
				return false, err
			}
		}
		size := p.fixed
		cells := p.walk.scanner.cells
		for _, i := range p.texts {
			if place := p.vectors[i].place; place < len(cells) {
				size += int64(cells[place].to - cells[place].from)
			} else {
				size += int64(len(p.table.files[p.walk.file].name))
			}
		}
		if p.rows > 0 && (p.rows >= p.limits.Rows || p.bytes+size > p.limits.Bytes) {
			p.held = true
			return true, nil
		}
		p.held = false
		if err := p.add(); err != nil {
			for i := range p.vectors {
				p.vectors[i].truncate(int(p.rows))
			}
			if err = p.walk.skip(err); err != nil {
				return false, err
			}
			continue
		}
		p.rows++
		p.bytes += size
		p.end.at = p.walk.at()
		p.end.records++
		if p.left > 0 {
			if p.left--; p.left == 0 {
				return false, nil
			}
		}
	}
}

// next reads the next record that is asked for.
func (p *pager) next() (bool, error) {
	for {
		more, err := p.walk.next()
		if err != nil || !more {
			return false, err
		}
		keep, err := p.keeps()
		if err != nil {
			if err = p.walk.skip(err); err != nil {
				return false, err
			}
			continue
		}
		if keep {
			return true, nil
		}
	}
}

// keeps reports whether the record that was read last is asked for.
func (p *pager) keeps() (bool, error) {
	if p.where != nil {
		if truth, err := p.where.eval(&p.row); err != nil || truth != sources.True {
			return false, err
		}
	}
	if p.keys != nil {
		ok, err := p.keys.takes(&p.row)
		return ok && p.walk.start() >= p.from, err
	}
	return true, nil
}

// add appends the record to the page. After a fault some columns have a value
// more than others.
func (p *pager) add() error {
	for _, i := range p.others {
		if _, _, err := p.row.datum(i); err != nil {
			return err
		}
	}
	s := p.walk.scanner
	for i := range p.vectors {
		v := &p.vectors[i]
		if v.quick != quickNone && v.add(s.record, &s.cells[v.place], s.ascii) {
			continue
		}
		d, null, err := p.row.datum(v.place)
		switch {
		case err != nil:
			return err
		case null:
			v.null()
		default:
			v.put(d)
		}
	}
	return nil
}

// yield gives the page, and reports whether the loop goes on.
func (p *pager) yield(yield func(sources.Batch, error) bool) bool {
	columns := make([]arrow.Array, 0, len(p.vectors))
	for i := range p.vectors {
		columns = append(columns, p.vectors[i].array())
	}
	record := array.NewRecordBatch(p.schema, columns, p.rows)
	for _, c := range columns {
		c.Release()
	}
	defer record.Release()
	p.rows, p.bytes = 0, 0
	batch := sources.Batch{Record: record, Skipped: p.walk.takeSkipped()}
	if p.table.resumes() {
		batch.Cursor = p.table.cursor(p.end)
	}
	return yield(batch, nil)
}

// endOfTable is behind every place.
const endOfTable = math.MaxInt64
