//go:build unix

package process_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/serve"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/sources/wire"
)

// liar is a plugin that is built with Arrow's own Flight server, as one in another
// language would be. The name of the queried table selects how it violates the
// protocol.
type liar struct {
	plugin.NetRPCUnsupportedPlugin
	flight.BaseFlightServer
}

func (l *liar) GRPCServer(_ *plugin.GRPCBroker, to *grpc.Server) error {
	flight.RegisterFlightServiceServer(to, l)
	return nil
}

func (l *liar) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}

func (l *liar) DoAction(_ *flight.Action, to flight.FlightService_DoActionServer) error {
	b, err := wire.MarshalReply(wire.Reply{Version: wire.Version, Session: 1})
	if err != nil {
		return err
	}
	return to.Send(&flight.Result{Body: b})
}

// spoil changes the message of a record as the table's name selects.
type spoil struct {
	to    flight.FlightService_DoGetServer
	table string
	tally wire.Tally
}

func (s *spoil) Send(d *flight.FlightData) error {
	if len(d.DataBody) > 0 {
		switch s.table {
		case "long":
			d.DataBody = d.DataBody[:len(d.DataBody)-64]
		case "short":
			d.DataBody = append(d.DataBody, make([]byte, 64)...)
		case "garbage":
			d.DataHeader = []byte("this is no flatbuffer, and was none")
		case "meta":
			d.AppMetadata = make([]byte, 2<<20)
		}
	}
	s.tally.AddBytes(d.DataHeader)
	s.tally.AddBytes(d.DataBody)
	return s.to.Send(d)
}

const liarRows = 100_000 // of 8 bytes

func (l *liar) DoGet(ticket *flight.Ticket, to flight.FlightService_DoGetServer) error {
	r, err := wire.UnmarshalRequest(ticket.Ticket, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for range liarRows {
		b.Field(0).(*array.Int64Builder).Append(rand.Int64N(4))
	}
	record := b.NewRecordBatch()
	defer record.Release()
	out := &spoil{to: to, table: r.Query.Table}
	options := []ipc.Option{ipc.WithSchema(schema)}
	if r.Query.Table == "compressed" {
		options = append(options, ipc.WithZstd())
	}
	w := flight.NewRecordWriter(out, options...)
	meta := wire.MarshalMeta(wire.Meta{Page: &wire.Page{Rows: record.NumRows()}})
	if err := w.WriteWithAppMetadata(record, meta); err != nil {
		return err
	}
	out.tally.AddPage(record.NumRows())
	return to.Send(&flight.FlightData{AppMetadata: wire.MarshalMeta(wire.Meta{Trailer: out.tally.Trailer(nil)})})
}

func actAsLiar() { servePlugin(&liar{}) }

// servePlugin serves a plugin that is not made with package serve.
func servePlugin(p plugin.Plugin) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: serve.Handshake,
		Plugins:         plugin.PluginSet{"source": p},
		GRPCServer:      plugin.DefaultGRPCServer,
	})
	os.Exit(0)
}

// TestLies checks that malformed messages are refused before memory is allocated for
// them, and that a plugin which was built without this module works.
func TestLies(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	clean(t)
	t.Setenv("TEST_PLUGIN", "liar")
	source, err := process.Open(t.Context(), wall.Options{Command: []string{self}, Name: "liar", Environment: []string{"TEST_*"}}, sources.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]struct {
		memory int64 // of the session
		kind   sources.Kind
		part   string
		takes  bool // memory, for a moment
	}{
		"honest":     {memory: 4 << 20, takes: true},
		"compressed": {memory: 4 << 20, kind: sources.Invalid, part: "the body is compressed"},
		"long":       {memory: 4 << 20, kind: sources.Invalid, part: "a message says that its body has 800000 bytes, where 799936 can be"},
		"short":      {memory: 4 << 20, kind: sources.Invalid, part: "a message says that its body has 800000 bytes, and it has 800064"},
		"garbage":    {memory: 4 << 20, kind: sources.Invalid, part: "does not hold together"},
		"meta":       {memory: 8 << 20, kind: sources.Invalid, part: "2097152 bytes of metadata"},
		"large":      {memory: 1 << 20, kind: sources.Exhausted, part: `after 0 rows plugin "liar" sent a page of 0.8 MiB, but a page may have at most half of the stream's memory limit, 0.5 MiB`},
	} {
		t.Run(table, func(t *testing.T) {
			budget, err := budget.New("stream", want.memory, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer budget.Close()
			session, err := source.Begin(t.Context(), sources.Env{Mem: budget})
			if err != nil {
				t.Fatal(err)
			}
			n, err := rows(t.Context(), session, table)
			if want.part == "" {
				if err != nil || n != liarRows {
					t.Errorf("%d rows, %v", n, err)
				}
			} else if sources.KindOf(err) != want.kind || !strings.Contains(err.Error(), want.part) {
				t.Errorf("%v, want %s with %q", err, want.kind, want.part)
			}
			if took := budget.Peak() > 0; took != want.takes {
				t.Errorf("%d bytes were taken", budget.Peak())
			}
			end(t, session)
			if live := budget.Live(); live != 0 {
				t.Errorf("%d bytes are left", live)
			}
		})
	}
	if err := source.Close(); err != nil {
		t.Error(err)
	}
}

// TestRefusedPage checks that the budget's refusal is the error of the scan, and
// that the page's memory is released.
func TestRefusedPage(t *testing.T) {
	s := openPool(t, options("endless"))
	mem, err := budget.New("stream", 4<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	others := mem.Allocate(3500 << 10)
	session := begin(t, s, mem)
	_, err = rows(t.Context(), session, "tags")
	var refusal *budget.Refusal
	if sources.KindOf(err) != sources.Exhausted || !errors.As(err, &refusal) || refusal.Budget != "stream" {
		t.Errorf("the scan ends with %v", err)
	}
	end(t, session)
	mem.Free(others)
	if live := mem.Live(); live != 0 {
		t.Errorf("%d bytes are left", live)
	}
}
