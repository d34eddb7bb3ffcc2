// Package serve makes a program of a source. On this platform it is a WASI
// command, as package wire describes it.
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

// Serve is the whole main of a source's program: it answers the host's requests
// until their input ends, and ends the program.
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

// command is one instance of the source: one session, one scan at a time.
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
		case "", wire.LineNext, wire.LineStop: // left over from a scan that ended
			continue
		}
		if err := c.answer(line); err != nil {
			return err
		}
	}
}

// answer returns an error where the host is gone; all else it tells the host.
func (c *command) answer(line []byte) error {
	r, err := wire.UnmarshalRequest(line, c.mem)
	if err != nil {
		return c.reply(wire.Reply{Err: err})
	}
	defer r.Release()
	if r.Op == wire.OpScan {
		return c.scan(r.Query)
	}
	reply, err := sources.Call(string(r.Op), table(r.Query), func() (wire.Reply, error) { return c.call(r) })
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

var errNotOpen = &sources.Error{Kind: sources.Invalid, Err: errors.New("the source is not open; the first request is open")}

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
			return reply, &sources.Error{Kind: sources.Invalid, Err: errors.New("the source is open already")}
		}
		keepTo(r.Memory)
		source, err := c.open(c.ctx, *r.Config)
		if err == nil {
			c.source = source
		}
		return reply, err
	case wire.OpCatalog:
		catalog, err := c.source.Catalog(c.ctx)
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
		return &sources.Error{Kind: sources.Invalid, Err: errors.New("a session is open already; this program has one at a time")}
	}
	env.Mem = c.mem
	session, err := c.source.Begin(c.ctx, env)
	if err == nil {
		c.session = session
	}
	return err
}

// need begins a session where the caller left that out.
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

// errHost wraps what went wrong with the pipe to the host, which no trailer can
// tell it.
type errHost struct{ error }

func (c *command) scan(q *sources.Query) error {
	var tally wire.Tally
	c.out.Count(&tally)
	err := c.pages(q, &tally)
	c.out.Count(nil)
	if gone, ok := err.(errHost); ok {
		return gone.error
	}
	trailer := tally.Trailer(sources.WithOp("scan", q.Table, err))
	return c.out.Write(wire.FrameTrailer, wire.MarshalMeta(wire.Meta{Trailer: trailer}))
}

func (c *command) pages(q *sources.Query, tally *wire.Tally) error {
	if _, err := sources.Call("begin", "", func() (struct{}, error) { return struct{}{}, c.need() }); err != nil {
		return err
	}
	var page recordFrame
	free := false // the host has nothing more to say
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
		meta := wire.Meta{Page: &wire.Page{Rows: batch.Record.NumRows(), Cursor: batch.Cursor, Skipped: batch.Skipped}}
		if err := c.out.Write(wire.FramePage, wire.MarshalMeta(meta)); err != nil {
			return errHost{err}
		}
		tally.Add(batch.Record.NumRows())
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

// next reads what the host wants after a page. Where the input ends, or another
// request stands there already, as in a pipe by hand, it wants every page.
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

// recordFrame writes the records of one scan as one Arrow IPC stream, a piece
// into each frame.
type recordFrame struct {
	w  *ipc.Writer
	to *bytes.Buffer
}

func (f *recordFrame) Write(b []byte) (int, error) { return f.to.Write(b) }

func (f *recordFrame) write(b *bytes.Buffer, r arrow.RecordBatch) error {
	f.to = b
	if f.w == nil {
		f.w = ipc.NewWriter(f, ipc.WithSchema(r.Schema()))
	}
	if err := f.w.Write(r); err != nil {
		return &sources.Error{Kind: sources.Invalid, Err: err}
	}
	return nil
}
