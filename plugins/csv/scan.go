package csv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/sources"
)

// Begin starts a session. Files have no snapshots: a file that changes while it
// is read is found out where a cursor resumes in it.
func (s *source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	if env.Join != "" {
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
	for name, x := range s.indexes {
		x.free(s.env.Mem)
		delete(s.indexes, name)
	}
	return nil
}

// Plan estimates by the file's size.
func (s *session) Plan(_ context.Context, q *sources.Query) (*sources.Plan, error) {
	table, err := s.catalog.Check(q)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	t := s.source.tables[q.Table]
	info, err := fs.Stat(s.source.fsys, t.file)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	plan := &sources.Plan{Rows: table.Rows, Bytes: info.Size(), Version: identity(info), Detail: "reads " + t.file}
	if q.Limit > 0 && q.Limit < plan.Rows {
		plan.Rows, plan.Bytes = q.Limit, q.Limit*t.rowBytes
	}
	return plan, nil
}

// identity tells a file from what it was before it was changed.
func identity(info fs.FileInfo) string {
	return fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano())
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

// scan yields pages until the file ends or the loop is left.
func (s *session) scan(ctx context.Context, table *sources.Table, q *sources.Query, yield func(sources.Batch, error) bool) error {
	t := s.source.tables[q.Table]
	file, in, err := s.source.open(ctx, t)
	if err != nil {
		return err
	}
	defer file.Close()
	of := t.file + "\x00" + t.identity
	place := place{offset: t.start, line: t.line, file: of}
	if q.After != nil {
		if place, err = parseCursor(q.After); err != nil {
			return err
		}
		if place.file != of || place.offset < t.start {
			return fmt.Errorf("the cursor is of another file, or %s has changed since it was made: read it from the start", t.file)
		}
	}
	p := pager{in: in, file: file, table: t, limits: s.env.Page, left: q.Limit, spans: []span{{place.offset, math.MaxInt64}}}
	if q.Keys != nil {
		p.keys = t.keySet(q.Keys)
		x, err := s.index(ctx, t, p.keys.columns)
		if err != nil {
			return err
		}
		p.spans = x.find(p.keys, t.sortable(p.keys.columns), math.MaxInt64)
		p.from = place.offset
		in.ahead = lookAhead
	}
	start := place
	if q.Keys != nil && q.Keys.PerKey > 0 { // what was given counts
		start.offset, start.line, start.records = t.start, t.line, 0
	}
	if err := in.seek(file, start); err != nil {
		return err
	}

	schema := table.ScanSchema(q.Columns)
	p.builder, p.schema = array.NewRecordBuilder(s.env.Mem, schema), schema
	defer p.builder.Release()
	p.builders = make([]array.Builder, len(t.columns))
	for i := range schema.NumFields() {
		p.builders[table.Column(schema.Field(i).Name)] = p.builder.Field(i)
	}
	for pages := 0; ; pages++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, fault := p.fill()
		// The records before a fault are good.
		if p.rows == 0 && (fault != nil || pages > 0) {
			return fault
		}
		p.end.file = place.file
		if !p.yield(yield) {
			return nil
		}
		if fault != nil || !more {
			return fault
		}
	}
}

// open opens a table's file, which must be the one that its columns were found
// in.
func (s *source) open(ctx context.Context, t *table) (fs.File, *scanner, error) {
	file, err := s.fsys.Open(t.file)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && identity(info) != t.identity {
		err = &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("%s has changed since it was opened: open it again", t.file)}
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	in := newScanner(contextReader{ctx, file}, t.file, t.dialect)
	in.blank = len(t.columns) == 1
	return file, in, nil
}

// contextReader fails when the context has ended.
type contextReader struct {
	ctx context.Context
	in  io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(p)
}

// seek goes to a place in the file.
func (s *scanner) seek(file fs.File, p place) error {
	if seeker, ok := file.(io.Seeker); ok {
		if _, err := seeker.Seek(p.offset, io.SeekStart); err != nil {
			return err
		}
	} else if _, err := io.CopyN(io.Discard, s.in, p.offset); err != nil {
		return err
	}
	s.base, s.line, s.records = p.offset, p.line, p.records
	s.from, s.filled, s.eof = 0, 0, false
	return nil
}

// lookAhead is how many bytes a look-up reads at once: a few records, for the
// next one that it wants may be far away.
const lookAhead = 4 << 10

// pager makes pages of records.
type pager struct {
	in       *scanner
	file     fs.File
	spans    []span  // where to read, in the order of the file
	keys     *keySet // that records must have; nil: any
	from     int64   // records before it were given already, and only count for their key
	table    *table
	schema   *arrow.Schema
	limits   sources.Limits
	left     int64 // of the query's limit; 0 is none
	builder  *array.RecordBuilder
	builders []array.Builder // of each column of the file; nil for one that nobody asked for

	rows  int64
	bytes int64
	end   place // behind the page's last record
	held  bool  // the scanner's record did not fit the last page and begins the next
}

// fill reads records until the page is full or the file ends, and reports
// whether there may be more.
func (p *pager) fill() (bool, error) {
	for {
		if !p.held {
			p.end.offset, p.end.line, p.end.records = p.in.offset(), p.in.line, p.in.records
			more, err := p.next()
			if err != nil || !more {
				return false, err
			}
		}
		size := p.size()
		if p.rows > 0 && (p.rows >= p.limits.Rows || p.bytes+size > p.limits.Bytes) {
			p.held = true
			return true, nil
		}
		p.held = false
		if err := p.add(); err != nil {
			return false, err
		}
		p.rows++
		p.bytes += size
		if p.left > 0 {
			if p.left--; p.left == 0 {
				p.end.offset, p.end.line, p.end.records = p.in.offset(), p.in.line, p.in.records
				return false, nil
			}
		}
	}
}

// next reads the next record that is asked for.
func (p *pager) next() (bool, error) {
	for len(p.spans) > 0 {
		// A look-up jumps from record to record.
		if at := p.in.offset(); at >= p.spans[0].to {
			p.spans = p.spans[1:]
			continue
		} else if at < p.spans[0].from {
			if err := p.in.skipTo(p.file, p.spans[0].from); err != nil {
				return false, err
			}
		}
		more, err := p.in.next()
		if err != nil || !more {
			return false, err
		}
		if p.in.start >= p.spans[0].to { // there was nothing but empty lines
			continue
		}
		if err := p.table.width(p.in); err != nil {
			return false, err
		}
		if p.keys != nil {
			if ok, err := p.keys.takes(p.table, p.in); err != nil {
				return false, err
			} else if !ok || p.in.start < p.from {
				continue
			}
		}
		return true, nil
	}
	return false, nil
}

// skipTo goes forward to the record that begins at an offset.
func (s *scanner) skipTo(file fs.File, offset int64) error {
	if ahead := offset - s.base; ahead <= int64(s.filled) {
		s.from = int(ahead)
		return nil
	}
	return s.seek(file, place{offset: offset, line: s.line, records: s.records})
}

// size is what the record adds to the page's size, as sources.Size counts, or a
// little more: quotes within a field count twice.
func (p *pager) size() int64 {
	size := int64(0)
	for i, b := range p.builders {
		if b == nil {
			continue
		}
		switch t := b.Type().(type) {
		case *arrow.BooleanType:
			size++
		case arrow.FixedWidthDataType:
			size += int64(t.BitWidth() / 8)
		default:
			size += 4 + int64(p.in.fields[i].end-p.in.fields[i].start)
		}
	}
	return size
}

// add appends the record to the page. After a fault some columns have a value
// more than others.
func (p *pager) add() error {
	for i, b := range p.builders {
		if b == nil {
			continue
		}
		d, null, err := p.table.datum(p.in, i)
		switch {
		case err != nil:
			return err
		case null:
			b.AppendNull()
		default:
			d.appendTo(b)
		}
	}
	return nil
}

// datum returns a value of the record that was read last.
func (t *table) datum(in *scanner, i int) (d datum, null bool, err error) {
	f, c := &in.fields[i], &t.columns[i]
	text := in.text(f)
	if c.isNull(text, f.quoted) {
		if c.required {
			err = in.at(f.line, f.column, "column %q has no value, and %s says that it is required", c.name, packageFile)
		}
		return d, true, err
	}
	d, ok := c.parse(text)
	if !ok {
		err = in.at(f.line, f.column, "column %q: %s is not %s%s", c.name, shown(text), c.describe(), c.remedy())
	}
	return d, false, err
}

// shown is a value as an error shows it.
func shown(text []byte) string {
	const most = 60
	if len(text) > most {
		return fmt.Sprintf("%q and %d bytes more", text[:most], len(text)-most)
	}
	return fmt.Sprintf("%q", text)
}

// remedy says where a column's type comes from and how to change it.
func (c *column) remedy() string {
	if c.inferred == 0 || c.kind == textKind {
		return ""
	}
	what := "type"
	if c.source != "" {
		what = "scale"
		if c.kind == localKind || c.kind == instantKind {
			what = "zone"
		}
	}
	return fmt.Sprintf(", the %s found in the first %d records: declare it in %s", what, c.inferred, packageFile)
}

// yield gives the page, and reports whether the loop goes on.
func (p *pager) yield(yield func(sources.Batch, error) bool) bool {
	columns := make([]arrow.Array, 0, p.schema.NumFields())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for _, b := range p.builder.Fields() {
		column := b.NewArray()
		if int64(column.Len()) > p.rows { // of a record that had a fault
			whole := column
			column = array.NewSlice(whole, 0, p.rows)
			whole.Release()
		}
		columns = append(columns, column)
	}
	record := array.NewRecordBatch(p.schema, columns, p.rows)
	defer record.Release()
	p.rows, p.bytes = 0, 0
	return yield(sources.Batch{Record: record, Cursor: p.end.cursor()}, nil)
}

// place is where a scan is in its file.
type place struct {
	offset  int64 // in bytes
	line    int
	records int64  // that were read
	file    string // its identity
}

// cursorVersion begins every cursor, so that a later form can be told from this.
const cursorVersion = 1

func (p place) cursor() sources.Cursor {
	c := sources.Cursor{cursorVersion}
	c = binary.AppendUvarint(c, uint64(p.offset))
	c = binary.AppendUvarint(c, uint64(p.line))
	c = binary.AppendUvarint(c, uint64(p.records))
	return append(c, p.file...)
}

func parseCursor(c sources.Cursor) (p place, err error) {
	bad := &sources.Error{Kind: sources.Invalid, Err: errors.New("the cursor is not one of this source's")}
	if len(c) == 0 || c[0] != cursorVersion {
		return p, bad
	}
	rest := c[1:]
	var numbers [3]uint64
	for i := range numbers {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > 1<<62 {
			return p, bad
		}
		numbers[i], rest = n, rest[size:]
	}
	return place{offset: int64(numbers[0]), line: int(numbers[1]), records: int64(numbers[2]), file: string(rest)}, nil
}
