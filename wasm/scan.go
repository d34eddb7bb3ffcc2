package wasm

import (
	"context"
	"io"
	"math"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

func (s *session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return sources.Guard("scan", q.Table, func(yield func(sources.Batch, error) bool) {
		i, err := s.acquire(ctx, true)
		if err != nil {
			yield(sources.Batch{}, err)
			return
		}
		defer s.putBack(i, true)
		if err := s.scan(ctx, i, q, yield); err != nil {
			yield(sources.Batch{}, err)
		}
	})
}

// scan requests the pages one by one. It returns the error to yield last; nil if the
// consumer left the loop.
func (s *session) scan(ctx context.Context, i *instance, q *sources.Query, yield func(sources.Batch, error) bool) error {
	request, err := wire.MarshalRequest(wire.Request{Op: wire.OpScan, Query: q})
	if err != nil {
		return err
	}
	table, err := s.source.table(ctx, i, q.Table)
	if err != nil {
		return err
	}
	for _, c := range q.Columns {
		if table.Column(c) < 0 {
			return sources.Errorf(sources.NotFound, "", "", "columns: there is no column %q", c)
		}
	}
	if err := i.drain(ctx); err != nil {
		return err
	}
	p := &pageReader{
		instance: i, env: s.env, schema: table.QuerySchema(q),
		decoder: wire.NewDecoder(s.env.Mem),
	}
	defer p.decoder.Release()
	i.send(request)
	i.frames.SetTally(&p.tally)
	i.pending = wire.FrameTrailer
	// However the scan ends, the next request skips the rest of its reply, which is
	// at most one page.
	defer func() {
		i.frames.SetTally(nil)
		if i.pending != 0 && i.alive() {
			i.send([]byte(wire.LineStop))
		}
	}()
	for {
		batch, err := p.next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		// The module produces the next page while the consumer has this one.
		i.send([]byte(wire.LineNext))
		if !lend(batch, yield) {
			return nil
		}
	}
}

// lend yields a batch and then releases it, also if the consumer panics.
func lend(batch sources.Batch, yield func(sources.Batch, error) bool) bool {
	defer batch.Record.Release()
	return yield(batch, nil)
}

// pageReader reads the pages of one scan.
type pageReader struct {
	instance *instance
	env      sources.Env
	schema   *arrow.Schema
	decoder  *wire.Decoder
	tally    wire.Tally
	checked  bool // the schema of the first page was compared with the table's
}

// next returns the next page, whose record the caller releases, or io.EOF after the
// trailer of a complete scan.
func (p *pageReader) next(ctx context.Context) (batch sources.Batch, err error) {
	i := p.instance
	var fault error // an error of the source or of the budget, after which the instance is still usable
	err = i.await(ctx, wire.FrameTrailer, func() error {
		kind, n, err := i.frames.Next()
		if err != nil {
			return err
		}
		switch kind {
		case wire.FrameTrailer:
			var trailer *wire.Trailer
			if trailer, err = p.trailer(); err != nil {
				return err
			}
			i.pending = 0
			if fault = p.tally.Check(trailer); fault == nil {
				fault = io.EOF
			}
			return nil
		case wire.FrameArrow:
			batch, fault, err = p.arrow(n)
		case wire.FrameRows, wire.FramePage:
			batch, fault, err = p.rows(kind)
		default:
			return i.violation("unexpected frame of kind %q in a scan", rune(kind))
		}
		return err
	})
	if err != nil {
		if batch.Record != nil {
			batch.Record.Release()
		}
		return sources.Batch{}, err
	}
	if fault != nil {
		return sources.Batch{}, fault
	}
	p.tally.AddPage(batch.Record.NumRows())
	return batch, nil
}

func (p *pageReader) trailer() (*wire.Trailer, error) {
	meta, err := p.meta()
	if err != nil {
		return nil, err
	}
	if meta.Trailer == nil {
		return nil, p.instance.violation("a frame of kind T without a trailer")
	}
	return meta.Trailer, nil
}

func (p *pageReader) page() (*wire.Page, error) {
	meta, err := p.meta()
	if err != nil {
		return nil, err
	}
	if meta.Page == nil {
		return nil, p.instance.violation("a frame of kind P without a page")
	}
	return meta.Page, nil
}

// maxMeta limits the size of a page's metadata, such as its cursor, in bytes.
const maxMeta = 1 << 20

func (p *pageReader) meta() (wire.Meta, error) {
	b, err := p.instance.frames.Bytes(maxMeta)
	if err != nil {
		return wire.Meta{}, err
	}
	return wire.UnmarshalMeta(b)
}

// arrow reads a page whose first frame, of n bytes, contains Arrow messages. fault
// is an error of kind Exhausted, which comes from the budget and not from the
// module.
func (p *pageReader) arrow(n int64) (batch sources.Batch, fault, err error) {
	var record arrow.RecordBatch
	drop := func() {
		if record != nil {
			record.Release()
		}
	}
	frames := p.instance.frames
	for {
		r, err := p.decoder.Read(frames, n)
		if err == io.EOF {
			kind, size, err := frames.Next()
			if err != nil {
				drop()
				return batch, nil, err
			}
			switch kind {
			case wire.FrameArrow:
				n = size
				continue
			case wire.FramePage:
				page, err := p.page()
				if err == nil {
					err = p.check(record, page)
				}
				if err != nil {
					drop()
					return batch, nil, err
				}
				return sources.Batch{Record: record, Cursor: page.Cursor, Due: page.Due, Skipped: page.Skipped}, nil, nil
			}
			drop()
			return batch, nil, p.instance.violation("unexpected frame of kind %q within a page", rune(kind))
		}
		switch {
		case err != nil:
			drop()
			if sources.KindOf(err) == sources.Exhausted {
				return batch, err, nil
			}
			return batch, nil, err
		case record != nil:
			drop()
			r.Release()
			return batch, nil, p.instance.violation("a page of two records")
		}
		record, n = r, frames.Left()
	}
}

// check returns an error if a page does not have the table's schema, does not match
// its metadata, or exceeds the session's limits.
func (p *pageReader) check(r arrow.RecordBatch, page *wire.Page) error {
	i, limits := p.instance, p.env.Page
	if r == nil {
		return i.violation("a page without a record")
	}
	if !p.checked {
		if err := p.compare(r.Schema()); err != nil {
			return err
		}
		p.checked = true
	}
	if r.NumRows() != page.Rows {
		return i.violation("a page of %d rows has metadata for %d rows", r.NumRows(), page.Rows)
	}
	if r.NumRows() > limits.Rows {
		return i.violation("a page of %d rows exceeds the limit of %d rows", r.NumRows(), limits.Rows)
	}
	if size := sources.Size(r); size > limits.Bytes && r.NumRows() > 1 {
		return i.violation("a page of %d bytes exceeds the limit of %d bytes", size, limits.Bytes)
	}
	return nil
}

func (p *pageReader) compare(got *arrow.Schema) error {
	if got.NumFields() != p.schema.NumFields() {
		return p.instance.violation("the scan has %d columns, and the query has %d", got.NumFields(), p.schema.NumFields())
	}
	for k, want := range p.schema.Fields() {
		f := got.Field(k)
		if f.Name != want.Name || f.Nullable != want.Nullable || !arrow.TypeEqual(f.Type, want.Type) {
			return p.instance.violation("the scan has the column %s, and the catalog has %s", fieldText(f), fieldText(want))
		}
	}
	return nil
}

func fieldText(f arrow.Field) string {
	text := f.Name + " " + f.Type.String()
	if !f.Nullable {
		text += " not null"
	}
	return text
}

// unlimited is used to build a page from rows: the module sets its size, and check
// compares it with the limits.
var unlimited = sources.Limits{Bytes: math.MaxInt64, Rows: math.MaxInt64}
