package wasm

import (
	"context"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

func (s *session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return sources.Guard("scan", q.Table, func(yield func(sources.Batch, error) bool) {
		i, err := s.take(ctx, true)
		if err != nil {
			yield(sources.Batch{}, err)
			return
		}
		defer s.give(i, true)
		if err := s.scan(ctx, i, q, yield); err != nil {
			yield(sources.Batch{}, err)
		}
	})
}

// scan asks for the pages one by one. It returns the error to yield last, nil
// also where the consumer left.
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
			return &sources.Error{Kind: sources.NotFound, Err: fmt.Errorf("columns: there is no column %q", c)}
		}
	}
	if err := i.drain(ctx); err != nil {
		return err
	}
	p := &pages{
		instance: i, env: s.env, schema: table.ScanSchema(q.Columns),
		decoder: wire.NewDecoder(s.env.Mem),
	}
	defer p.decoder.Release()
	i.send(request)
	i.frames.SetTally(&p.tally)
	i.pending = wire.FrameTrailer
	// However this ends: what the module still has to say is passed over by the
	// next who asks it something, and costs it a page at most.
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
		// The module goes on while the consumer has the page.
		i.send([]byte(wire.LineNext))
		more := yield(batch, nil)
		batch.Record.Release()
		if !more {
			return nil
		}
	}
}

// pages reads what one scan sends.
type pages struct {
	instance *instance
	env      sources.Env
	schema   *arrow.Schema
	decoder  *wire.Decoder
	tally    wire.Tally
	checked  bool // the stream's schema was held against the table's
}

// next returns the next page, whose record the caller releases, or io.EOF after
// a trailer that says the scan is complete.
func (p *pages) next(ctx context.Context) (batch sources.Batch, err error) {
	i := p.instance
	var fault error // the source's own, or the memory's: the instance is well
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
			return i.lie("a frame %q in a scan", rune(kind))
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

func (p *pages) trailer() (*wire.Trailer, error) {
	meta, err := p.meta()
	if err != nil {
		return nil, err
	}
	if meta.Trailer == nil {
		return nil, p.instance.lie("a frame of kind T without a trailer")
	}
	return meta.Trailer, nil
}

func (p *pages) page() (*wire.Page, error) {
	meta, err := p.meta()
	if err != nil {
		return nil, err
	}
	if meta.Page == nil {
		return nil, p.instance.lie("a frame of kind P without a page")
	}
	return meta.Page, nil
}

// maxMeta bounds a page's metadata: its cursor, or an error's text.
const maxMeta = 1 << 20

func (p *pages) meta() (wire.Meta, error) {
	b, err := p.instance.frames.Bytes(maxMeta)
	if err != nil {
		return wire.Meta{}, err
	}
	return wire.UnmarshalMeta(b)
}

// arrow reads a page whose first frame, of n bytes, has Arrow messages. An error
// of kind Exhausted is the budget's, and no fault of the module.
func (p *pages) arrow(n int64) (batch sources.Batch, fault, err error) {
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
				return sources.Batch{Record: record, Cursor: page.Cursor, Skipped: page.Skipped}, nil, nil
			}
			drop()
			return batch, nil, p.instance.lie("a frame %q in the middle of a page", rune(kind))
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
			return batch, nil, p.instance.lie("a page of two records")
		}
		record, n = r, frames.Left()
	}
}

// check holds a page against what was promised: its schema, its count, and the
// session's ceiling.
func (p *pages) check(r arrow.RecordBatch, page *wire.Page) error {
	i, limits := p.instance, p.env.Page
	if r == nil {
		return i.lie("a page without a record")
	}
	if !p.checked {
		if err := p.compare(r.Schema()); err != nil {
			return err
		}
		p.checked = true
	}
	if r.NumRows() != page.Rows {
		return i.lie("a page says that it has %d rows, and has %d", page.Rows, r.NumRows())
	}
	if r.NumRows() > limits.Rows {
		return i.lie("a page of %d rows, where a page has %d at most", r.NumRows(), limits.Rows)
	}
	if size := sources.Size(r); size > limits.Bytes && r.NumRows() > 1 {
		return i.lie("a page of %d bytes, where a page has %d at most", size, limits.Bytes)
	}
	return nil
}

func (p *pages) compare(got *arrow.Schema) error {
	if got.NumFields() != p.schema.NumFields() {
		return p.instance.lie("its scan has %d columns, the query %d", got.NumFields(), p.schema.NumFields())
	}
	for k, want := range p.schema.Fields() {
		f := got.Field(k)
		if f.Name != want.Name || f.Nullable != want.Nullable || !arrow.TypeEqual(f.Type, want.Type) {
			return p.instance.lie("its scan has the column %s, its catalogue %s", fieldText(f), fieldText(want))
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

// unlimited is the ceiling of a page that the module cut, not this program.
var unlimited = sources.Limits{Bytes: math.MaxInt64, Rows: math.MaxInt64}
