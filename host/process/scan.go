package process

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// Scan requests a scan from the process and yields its pages in the session's
// memory. Leaving the loop cancels the call and with it the scan in the process.
// gRPC buffers up to its window; then the process waits for the loop.
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
	defer s.close()
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
				return sources.Errorf(sources.Invalid, "", "", "a page without a record")
			}
			return s.tally.Check(meta.Trailer)
		}
		more, err := s.page(yield)
		if err != nil || !more {
			return err
		}
	}
}

// scan is a call of DoGet.
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
	s.stream, err = s.session.sandbox.child.conn.NewStream(ctx, &doGet, "/arrow.flight.protocol.FlightService/DoGet",
		grpc.ForceCodecV2(scanCodec), grpc.MaxCallRecvMsgSize(int(s.session.maxPage())))
	if err == nil {
		err = s.stream.SendMsg(ticket)
	}
	if err == nil {
		err = s.stream.CloseSend()
	}
	return err
}

// close ends the call and releases its memory. When it returns, gRPC has sent the
// end of the call, so the session's next request arrives after it: a source that
// allows one scan of a table at a time then knows that this one has ended.
func (s *scan) close() {
	s.cancel(nil)
	if s.stream != nil {
		for s.stream.RecvMsg(&s.message) == nil {
			s.message.close()
		}
	}
	s.message.close()
	s.decoder.Release()
}

// maxPage returns the size of the largest message that a scan accepts, in bytes.
// While a message is copied into the session's memory its bytes exist twice, so the
// size is half of the memory limit. Only a page of a single row can come near it.
func (n *session) maxPage() int64 {
	if bounded, ok := n.mem.(interface{ Limit() int64 }); ok {
		return min(max(bounded.Limit()/2, 64<<10), 1<<31-1)
	}
	return maxMessage
}

// receive waits for a message, at most for the stall timeout.
func (s *scan) receive() error {
	n := s.session
	timeout := n.source.pool.options.StallTimeout
	timer := time.AfterFunc(timeout, func() {
		s.cancel(sources.Errorf(sources.Unavailable, "", "", "plugin %q sent nothing for %s", n.sandbox.child.name, timeout))
	})
	defer timer.Stop()
	return s.stream.RecvMsg(&s.message)
}

// page decodes a message and yields its record. A schema or dictionary message has
// none.
func (s *scan) page(yield func(sources.Batch, error) bool) (bool, error) {
	s.tally.AddBytes(s.message.header)
	record, err := s.decoder.ReadMessage(s.message.header, int64(s.message.body), func(body []byte) error {
		err := s.message.readBody(body)
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
		return false, sources.Errorf(sources.Invalid, "", "", "a record of %d rows has the metadata of a %s", record.NumRows(), meta)
	}
	s.tally.AddPage(record.NumRows())
	return yield(sources.Batch{Record: record, Cursor: meta.Page.Cursor, Due: meta.Page.Due, Skipped: meta.Page.Skipped}, nil), nil
}

// fault returns the error of a failed call. For a page that is too large it names
// both sizes.
func (s *scan) fault(ctx context.Context, err error) error {
	n := s.session
	if size, limit := tooLarge(err); size > 0 && ctx.Err() == nil {
		return sources.Errorf(sources.Exhausted, "", "",
			"after %d rows plugin %q sent a page of %s, but a page may have at most half of the stream's memory limit, %s; raise the memory limit",
			s.tally.Rows(), n.sandbox.child.name, mebibytes(size), mebibytes(limit))
	}
	return n.sandbox.fault(ctx, err)
}
