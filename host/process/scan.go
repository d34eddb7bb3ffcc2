package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// Scan asks the process for a scan, and gives its pages in memory of the
// session's. Leaving the loop cancels the call, which ends the scan in the
// process; gRPC holds a window of a megabyte, and the process waits when nobody
// reads on.
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
	s := scan{session: n, cancel: cancel, decoder: wire.NewDecoder(n.mem)}
	defer s.leave()
	if err := s.begin(ctx, &flight.Ticket{Ticket: ticket}); err != nil {
		return s.fault(ctx, err)
	}
	for {
		err := s.receive()
		if errors.Is(err, io.EOF) {
			return s.tally.TruncatedError()
		}
		if err != nil {
			return s.fault(ctx, err)
		}
		if err := s.message.parse(); err != nil {
			return err
		}
		if len(s.message.header) == 0 {
			meta, err := wire.UnmarshalMeta(s.message.meta)
			if err != nil {
				return err
			}
			if meta.Trailer == nil {
				return &sources.Error{Kind: sources.Invalid, Err: errors.New("a page has no record")}
			}
			return s.tally.Check(meta.Trailer)
		}
		more, err := s.page(yield)
		if err != nil || !more {
			return err
		}
	}
}

// scan is one call of DoGet.
type scan struct {
	session *session
	cancel  context.CancelCauseFunc
	stream  grpc.ClientStream
	message incoming
	decoder *wire.Decoder
	tally   wire.Tally
}

var doGet = grpc.StreamDesc{StreamName: "DoGet", ServerStreams: true}

func (s *scan) begin(ctx context.Context, ticket *flight.Ticket) (err error) {
	s.stream, err = s.session.isolate.child.conn.NewStream(ctx, &doGet, "/arrow.flight.protocol.FlightService/DoGet",
		grpc.ForceCodecV2(scanCodec), grpc.MaxCallRecvMsgSize(int(s.session.largest())))
	if err == nil {
		err = s.stream.SendMsg(ticket)
	}
	if err == nil {
		err = s.stream.CloseSend()
	}
	return err
}

// leave ends the call, and frees what it held. When it returns gRPC has put the
// end of the call on its way, and whatever the session asks next comes after it:
// the process then knows that the scan was left, and does not take the next one of
// a table with one scan at a time for a second.
func (s *scan) leave() {
	s.cancel(nil)
	if s.stream != nil {
		for s.stream.RecvMsg(&s.message) == nil {
			s.message.close()
		}
	}
	s.message.close()
	s.decoder.Release()
}

// largest is the largest message that a scan takes. While its bytes go over into
// the session's memory they are there twice, so it is half of what that may hold;
// a page is far smaller, but for one of a single row.
func (n *session) largest() int64 {
	if bounded, ok := n.mem.(interface{ Limit() int64 }); ok {
		return min(max(bounded.Limit()/2, 64<<10), 1<<31-1)
	}
	return maxMessage
}

// receive waits for a message while the stall clock runs.
func (s *scan) receive() error {
	n := s.session
	stall := n.source.pool.options.Stall
	clock := time.AfterFunc(stall, func() {
		s.cancel(&sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("plugin %q sent nothing for %s", n.isolate.child.name, stall)})
	})
	defer clock.Stop()
	return s.stream.RecvMsg(&s.message)
}

// page decodes a message, and yields its record where it has one: a schema and a
// dictionary have none.
func (s *scan) page(yield func(sources.Batch, error) bool) (bool, error) {
	s.tally.AddBytes(s.message.header)
	record, err := s.decoder.ReadMessage(s.message.header, int64(s.message.body), func(body []byte) error {
		err := s.message.fill(body)
		s.tally.AddBytes(body)
		return err
	})
	s.message.close()
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer record.Release()
	meta, err := wire.UnmarshalMeta(s.message.meta)
	if err != nil {
		return false, err
	}
	if meta.Page == nil || meta.Page.Rows != record.NumRows() {
		return false, &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("a record of %d rows comes with a %s", record.NumRows(), meta)}
	}
	s.tally.AddPage(record.NumRows())
	return yield(sources.Batch{Record: record, Cursor: meta.Page.Cursor, Skipped: meta.Page.Skipped}, nil), nil
}

// fault says what a failed call means. What gRPC did not take in, because it is
// larger than the session could hold, is said with both sizes.
func (s *scan) fault(ctx context.Context, err error) error {
	n := s.session
	var size, most int64
	if ctx.Err() == nil && status.Code(err) == codes.ResourceExhausted {
		if _, e := fmt.Sscanf(status.Convert(err).Message(), "grpc: received message larger than max (%d vs. %d)", &size, &most); e == nil {
			return &sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf(
				"after %d rows plugin %q sends a page of %s, and a stream takes one of half its memory at most, %s; give the stream more memory",
				s.tally.Rows(), n.isolate.child.name, mebibytes(size), mebibytes(most))}
		}
	}
	return n.isolate.fault(ctx, err)
}
