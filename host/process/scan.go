package process

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// Scan asks the process for a scan, and gives its pages in memory of the
// session's. Leaving the loop cancels the call, which ends the scan in the
// process; its socket holds a window of a megabyte, and the process waits when
// nobody reads on.
func (n *session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return sources.Guard("scan", q.Table, func(yield func(sources.Batch, error) bool) {
		if err := n.scan(ctx, q, yield); err != nil {
			yield(sources.Batch{}, err)
		}
	})
}

func (n *session) scan(ctx context.Context, q *sources.Query, yield func(sources.Batch, error) bool) error {
	ticket, err := wire.MarshalRequest(wire.Request{Op: wire.OpScan, Session: n.id, Query: q})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := n.isolate.client.DoGet(ctx, &flight.Ticket{Ticket: ticket})
	if err != nil {
		return n.isolate.fault(ctx, err)
	}
	decoder := wire.NewDecoder(n.mem)
	defer decoder.Release()
	var tally wire.Tally
	for {
		message, err := n.receive(stream, cancel)
		if errors.Is(err, io.EOF) {
			return tally.Cut()
		}
		if err != nil {
			return n.isolate.fault(ctx, err)
		}
		if len(message.GetDataHeader()) == 0 {
			meta, err := wire.UnmarshalMeta(message.GetAppMetadata())
			if err != nil {
				return err
			}
			if meta.Trailer == nil {
				return &sources.Error{Kind: sources.Invalid, Err: errors.New("a page has no record")}
			}
			return tally.Check(meta.Trailer)
		}
		more, err := n.page(decoder, message, &tally, yield)
		if err != nil || !more {
			return err
		}
	}
}

// receive waits for a message while the stall clock runs.
func (n *session) receive(stream flight.FlightService_DoGetClient, cancel context.CancelCauseFunc) (*flight.FlightData, error) {
	stall := n.source.pool.options.Stall
	clock := time.AfterFunc(stall, func() {
		cancel(&sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("plugin %q sent nothing for %s", n.isolate.child.name, stall)})
	})
	defer clock.Stop()
	return stream.Recv()
}

// page decodes a message, and yields its record where it has one: a schema and a
// dictionary have none.
func (n *session) page(decoder *wire.Decoder, message *flight.FlightData, tally *wire.Tally, yield func(sources.Batch, error) bool) (bool, error) {
	header, body := message.GetDataHeader(), message.GetDataBody()
	tally.Sum(header)
	tally.Sum(body)
	record, err := decoder.Read(encapsulated(header, body))
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer record.Release()
	meta, err := wire.UnmarshalMeta(message.GetAppMetadata())
	if err != nil {
		return false, err
	}
	if meta.Page == nil || meta.Page.Rows != record.NumRows() {
		return false, &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("a record of %d rows comes with a %s", record.NumRows(), meta)}
	}
	tally.Add(record.NumRows())
	return yield(sources.Batch{Record: record, Cursor: meta.Page.Cursor, Skipped: meta.Page.Skipped}, nil), nil
}

// encapsulated is the message as Arrow's stream format frames it: a mark, the
// length of the metadata padded to eight bytes, the metadata, and the body.
func encapsulated(header, body []byte) (io.Reader, int64) {
	padded := (len(header) + 7) / 8 * 8
	frame := make([]byte, 8+padded)
	binary.LittleEndian.PutUint32(frame, 0xFFFFFFFF)
	binary.LittleEndian.PutUint32(frame[4:], uint32(padded))
	copy(frame[8:], header)
	return io.MultiReader(bytes.NewReader(frame), bytes.NewReader(body)), int64(len(frame) + len(body))
}
