package outputs

import (
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/penstock-data/penstock/sources"
)

// arrowEncoder writes an Arrow IPC stream: the streaming format, which can be
// read while it is written, with one message for each record.
type arrowEncoder struct {
	out     *buffer
	options []ipc.Option
	ipc     *ipc.Writer // nil before the first record
}

func newArrow(out *buffer, schema *arrow.Schema, o Options) (encoder, error) {
	return &arrowEncoder{
		out:     out,
		options: []ipc.Option{ipc.WithSchema(schema), ipc.WithDictionaryDeltas(false), ipc.WithAllocator(o.Allocator)},
	}, nil
}

// begin writes the schema. An [ipc.Writer] would do that with the first record or
// at the end, when a stream's budget may be closed already.
func (a *arrowEncoder) begin(head bool) error {
	a.abort()
	if !head {
		return nil
	}
	schema := ipc.NewWriterWithPayloadWriter(&messages{out: a.out}, a.options...)
	failed, refused := sources.GuardCall("write", "", func() (error, error) { return schema.Close(), nil })
	return errors.Join(refused, failed)
}

func (a *arrowEncoder) write(record arrow.RecordBatch) error {
	if a.ipc == nil {
		a.ipc = ipc.NewWriterWithPayloadWriter(&messages{out: a.out, skip: true}, a.options...)
	}
	return a.ipc.Write(record)
}

// endOfStream marks the end of an Arrow IPC stream.
var endOfStream = [8]byte{0xff, 0xff, 0xff, 0xff}

func (a *arrowEncoder) end() error {
	_, err := a.out.Write(endOfStream[:])
	return err
}

// abort releases the dictionaries that the ipc writer retains.
func (a *arrowEncoder) abort() {
	if a.ipc != nil {
		_ = a.ipc.Close() // writes nothing, so its error is an earlier one
		a.ipc = nil
	}
}

// messages writes the messages of a stream, but not its end.
type messages struct {
	out  *buffer
	skip bool // omit the next message: the schema, which the output has already
}

func (m *messages) Start() error { return nil }
func (m *messages) Close() error { return nil }

func (m *messages) WritePayload(payload ipc.Payload) error {
	if m.skip {
		m.skip = false
		return nil
	}
	_, err := payload.WritePayload(m.out)
	return err
}
