// Package serve runs a source as a program of its own. On this platform, the program is
// a WASI command that speaks the protocol of package wire.
package serve

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// Serve answers the host's requests until the end of the input, and then exits the
// program.
func Serve(open sources.Open) {
	c := command{
		open: open, ctx: context.Background(),
		in: bufio.NewReaderSize(os.Stdin, 64<<10), out: wire.NewFrameWriter(os.Stdout), mem: memory.DefaultAllocator,
	}
	err := c.run()
	c.close()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// command serves a source with one session and one scan at a time.
type command struct {
	open    sources.Open
	ctx     context.Context
	in      *bufio.Reader
	out     *wire.FrameWriter
	mem     memory.Allocator
	source  sources.Source
	session sources.Session
}

func (c *command) run() error {
	for {
		line, err := wire.ReadLine(c.in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch string(line) {
		case "", wire.LineNext, wire.LineStop: // follows the trailer of a scan
			continue
		}
		if err := c.answer(line); err != nil {
			return err
		}
	}
}

// answer answers a request. It returns an error only if the host cannot be reached.
func (c *command) answer(line []byte) error {
	r, err := wire.UnmarshalRequest(line, c.mem)
	if err != nil {
		return c.reply(wire.Reply{Err: err})
	}
	defer r.Release()
	if r.Op == wire.OpScan {
		return c.scan(r.Query)
	}
	reply, err := sources.GuardCall(string(r.Op), table(r.Query), func() (wire.Reply, error) { return c.call(r) })
	reply.Err = err
	return c.reply(reply)
}

func table(q *sources.Query) string {
	if q == nil {
		return ""
	}
	return q.Table
}

func (c *command) reply(r wire.Reply) error {
	b, err := wire.MarshalReply(r)
	if err != nil {
		if b, err = wire.MarshalReply(wire.Reply{Version: r.Version, Err: err}); err != nil {
			return err
		}
	}
	return c.out.Write(wire.FrameReply, b)
}

var errNotOpen = sources.Errorf(sources.Invalid, "", "", "the source is not open; the first request must be open")

func (c *command) call(r wire.Request) (wire.Reply, error) {
	if c.source == nil && r.Op != wire.OpOpen && r.Op != wire.OpClose {
		return wire.Reply{}, errNotOpen
	}
	switch r.Op {
	case wire.OpOpen:
		reply := wire.Reply{Version: wire.Version}
		if r.Version != 0 && r.Version != wire.Version {
			// The host compares the versions and knows both names.
			return reply, nil
		}
		if c.source != nil {
			return reply, sources.Errorf(sources.Invalid, "", "", "the source is open already")
		}
		keepTo(r.Memory)
		source, err := c.open(c.ctx, *r.Config)
		if err == nil {
			c.source = source
		}
		return reply, err
	case wire.OpCatalog:
		catalog, err := c.source.Catalog(r.Context(c.ctx))
		return wire.Reply{Catalog: catalog}, err
	case wire.OpBegin:
		return wire.Reply{}, c.begin(*r.Env)
	case wire.OpPlan:
		if err := c.need(); err != nil {
			return wire.Reply{}, err
		}
		plan, err := c.session.Plan(c.ctx, r.Query)
		return wire.Reply{Plan: plan}, err
	case wire.OpEnd:
		return wire.Reply{}, c.end()
	}
	return wire.Reply{}, c.close()
}

func (c *command) begin(env sources.Env) error {
	if c.session != nil {
		return sources.Errorf(sources.Invalid, "", "", "a session is open already; this program supports only one at a time")
	}
	env.Mem = c.mem
	session, err := c.source.Begin(c.ctx, env)
	if err == nil {
		c.session = session
	}
	return err
}

// need begins a session if the host has not.
func (c *command) need() error {
	if c.source == nil {
		return errNotOpen
	}
	if c.session != nil {
		return nil
	}
	return c.begin(sources.Env{})
}

func (c *command) end() error {
	if c.session == nil {
		return nil
	}
	err := c.session.Close()
	c.session = nil
	return err
}

func (c *command) close() error {
	err := c.end()
	if c.source != nil {
		err = errors.Join(err, c.source.Close())
		c.source = nil
	}
	return err
}

// errHost is an error of the pipe to the host, which therefore cannot be sent to the
// host.
type errHost struct{ error }

func (c *command) scan(q *sources.Query) error {
	var tally wire.Tally
	c.out.SetTally(&tally)
	err := c.pages(q, &tally)
	c.out.SetTally(nil)
	if gone, ok := err.(errHost); ok {
		return gone.error
	}
	trailer := tally.Trailer(sources.WithOp("scan", q.Table, err))
	return c.out.Write(wire.FrameTrailer, wire.MarshalMeta(wire.Meta{Trailer: trailer}))
}

func (c *command) pages(q *sources.Query, tally *wire.Tally) error {
	if _, err := sources.GuardCall("begin", "", func() (struct{}, error) { return struct{}{}, c.need() }); err != nil {
		return err
	}
	var page recordFrame
	free := false // the host does not send further lines
	for batch, err := range sources.Guard("scan", q.Table, c.session.Scan(c.ctx, q)) {
		if err != nil {
			return err
		}
		if err := c.out.WriteFrom(wire.FrameArrow, func(b *bytes.Buffer) error { return page.write(b, batch.Record) }); err != nil {
			if sources.KindOf(err) != sources.Internal {
				return err
			}
			return errHost{err}
		}
		meta := wire.Meta{Page: &wire.Page{Rows: batch.Record.NumRows(), Cursor: batch.Cursor, Due: batch.Due, Skipped: batch.Skipped}}
		if err := c.out.Write(wire.FramePage, wire.MarshalMeta(meta)); err != nil {
			return errHost{err}
		}
		tally.AddPage(batch.Record.NumRows())
		if !free {
			more, err := c.next()
			if err != nil {
				return errHost{err}
			}
			if more == stop {
				return nil
			}
			free = more == forever
		}
	}
	return nil
}

type wish int

const (
	stop wish = iota
	next
	forever
)

// next reads the host's line after a page. If the input ends or continues with another
// request, as in a shell pipe, the host wants all pages.
func (c *command) next() (wish, error) {
	for {
		if b, err := c.in.Peek(1); err == io.EOF || err == nil && b[0] == '{' {
			return forever, nil
		}
		line, err := wire.ReadLine(c.in)
		if err != nil {
			return stop, err
		}
		switch string(line) {
		case wire.LineNext:
			return next, nil
		case wire.LineStop:
			return stop, nil
		case "":
		default:
			return stop, fmt.Errorf("%q is neither %s nor %s", line, wire.LineNext, wire.LineStop)
		}
	}
}

// recordFrame writes the records of one scan as one Arrow IPC stream that is divided
// into frames.
type recordFrame struct {
	w  *ipc.Writer
	to *bytes.Buffer
}

func (f *recordFrame) Write(b []byte) (int, error) { return f.to.Write(b) }

func (f *recordFrame) write(b *bytes.Buffer, r arrow.RecordBatch) error {
	f.to = b
	r = sources.NormalizeRecord(r)
	defer r.Release()
	if f.w == nil {
		f.w = ipc.NewWriter(f, ipc.WithSchema(r.Schema()))
	}
	if err := f.w.Write(r); err != nil {
		return sources.NewError(sources.Invalid, "", "", err)
	}
	return nil
}
