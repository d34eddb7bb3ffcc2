//go:build unix

package process_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/sources/wire"
)

// loud is a plugin in another language that says too much: the URI of its source selects
// what is long, or how its process ends.
type loud struct {
	plugin.NetRPCUnsupportedPlugin
	flight.BaseFlightServer
	says string
}

func (l *loud) GRPCServer(_ *plugin.GRPCBroker, to *grpc.Server) error {
	flight.RegisterFlightServiceServer(to, l)
	return nil
}

func (l *loud) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}

const loudBytes = 30 << 20

func (l *loud) DoAction(a *flight.Action, to flight.FlightService_DoActionServer) error {
	r, err := wire.UnmarshalRequest(a.Body, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	long := strings.Repeat("long ", loudBytes/5)
	table := func(format string, args ...any) string {
		return `{"catalog":{"tables":[` + fmt.Sprintf(format, args...) + `]}}`
	}
	body := table(`{"name":"orders","columns":[{"name":"n","type":"int64"}]}`)
	switch r.Op {
	case wire.OpOpen:
		l.says = r.Config.URI
		body = fmt.Sprintf(`{"version":%d}`, wire.Version)
	case wire.OpBegin:
		body = `{"session":1}`
	case wire.OpPlan:
		body = map[string]string{
			"detail": `{"plan":{"detail":"` + long[:1<<20] + `"}}`, "version": `{"plan":{"version":"` + long[:1<<19] + `"}}`, "plan": `{"plan":{"detail":"` + long + `"}}`,
			"parts": `{"plan":{"parts":["` + strings.Repeat(`","`, 100_000) + `"]}}`,
		}[l.says]
	case wire.OpCatalog:
		switch l.says {
		case "table":
			body = table(`{"name":%q,"columns":[{"name":"n","type":"int64"}]}`, long)
		case "shorter":
			body = table(`{"name":%q,"columns":[{"name":"n","type":"int64"}]}`, long[:100_000])
		case "column":
			body = table(`{"name":"orders","columns":[{"name":%q,"type":"int64"}]}`, long)
		case "filter":
			body = table(`{"name":"orders","columns":[{"name":"n","type":"int64"}],"filters":{%q:["="]}}`, long)
		case "tables":
			body = table("%s", "{}"+strings.Repeat(",{}", loudBytes/3))
		case "key":
			body = table(`{"name":"orders","columns":[{"name":"n","type":"int64"}],"key":[""%s]}`, strings.Repeat(`,""`, loudBytes/3))
		case "type":
			body = table(`{"name":"orders","columns":[{"name":"n","type":%q}]}`, long)
		case "number":
			body = table(`{"name":"orders","scans":%s}`, strings.Repeat("9", loudBytes))
		case "schema":
			body = table(`{"name":"orders","schema":%q}`, base64.StdEncoding.EncodeToString([]byte(long)))
		case "error":
			body = fmt.Sprintf(`{"error":{"kind":"denied","op":%q,"table":%q,"message":%q}}`, long[:1<<20], long[:1<<20], long)
		case "message":
			body = strings.Repeat(" ", wire.MaxMessage) + body
		case "comment":
			body = table(`{"name":"orders","comment":%q,"columns":[{"name":"n","type":"int64","comment":%q}]}`, long[:1<<20], long[:1<<20])
		case "fatal":
			stderr("note: starting\nfatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [select (no cases)]:\nmain.main()\n\t/src/main.go:7 +0x1d\nexit status 2\n")
			os.Exit(2)
		case "rust":
			stderr("thread 'main' panicked at src/main.rs:2:5:\nindex out of bounds\nnote: run with `RUST_BACKTRACE=1`\n")
			os.Exit(101)
		case "last words":
			stderr("panic: all is lost\n" + long[:100_000])
			os.Exit(2)
		}
	}
	return to.Send(&flight.Result{Body: []byte(body)})
}

// stderr writes to standard error itself; os.Stderr is a pipe to go-plugin.
func stderr(text string) { _, _ = os.NewFile(2, "stderr").WriteString(text) }

// openLoud opens the source that says what the URI selects.
func openLoud(t *testing.T, says string) sources.Source {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	clean(t)
	t.Setenv("TEST_PLUGIN", "loud")
	source, err := process.Open(t.Context(), wall.Options{Command: []string{self}, Name: "loud", Memory: 1 << 30, Environment: []string{"TEST_*"}}, sources.Config{URI: says})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	})
	return source
}

// TestLoud checks that a plugin which says too much in its catalog gets a short error,
// as does a query of a name beside a long one.
func TestLoud(t *testing.T) {
	for says, want := range map[string]struct {
		kind sources.Kind
		part string
	}{
		"table":      {sources.Invalid, "malformed reply: a text has 31457282 bytes, but the limit is 1048576"},
		"shorter":    {sources.Invalid, "the name of the table has 100000 bytes, but the limit is 65536"},
		"column":     {sources.Invalid, "the name of a column has 31457280 bytes, but the limit is 65536"},
		"filter":     {sources.Invalid, "a filter names a column of 31457280 bytes, but the limit is 65536"},
		"tables":     {sources.Invalid, "it has 10485763 objects and 10485760 commas, but the limits are 262144 and 4194304"},
		"key":        {sources.Invalid, "commas, but the limits are 262144 and 4194304"},
		"type":       {sources.Invalid, "there is no type"},
		"number":     {sources.Invalid, "malformed reply: json: cannot unmarshal number 999"},
		"schema":     {sources.Invalid, `table "orders": `},
		"error":      {sources.Denied, "denied: long long"},
		"message":    {sources.Exhausted, `plugin "loud" sent a message of 64.0 MiB, but the limit is 64 MiB`},
		"fatal":      {sources.Unavailable, `plugin "loud" exited with code 2: fatal error: all goroutines are asleep - deadlock!`},
		"rust":       {sources.Unavailable, `plugin "loud" exited with code 101: panicked at src/main.rs:2:5:`},
		"last words": {sources.Unavailable, `plugin "loud" exited with code 2: panic: all is lost`},
	} {
		t.Run(says, func(t *testing.T) {
			_, err := openLoud(t, says).Catalog(t.Context())
			text := fmt.Sprint(err)
			if sources.KindOf(err) != want.kind || !strings.Contains(text, want.part) {
				t.Errorf("%.2000s, want %s with %q", text, want.kind, want.part)
			}
			if len(text) > sources.MaxErrorText {
				t.Errorf("the error has %d bytes", len(text))
			}
		})
	}
	t.Run("comment", func(t *testing.T) {
		catalog, err := openLoud(t, "comment").Catalog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		table := sources.NormalizeCatalog(catalog).Tables[0]
		comment, _ := table.Schema.Field(0).Metadata.GetValue(sources.MetaComment)
		if len(table.Comment) != sources.MaxComment || len(comment) != sources.MaxComment {
			t.Errorf("comments of %d and %d bytes", len(table.Comment), len(comment))
		}
	})
}

// TestLoudPlan checks that a plan is bounded: its detail is cut, and everything else is an
// error.
func TestLoudPlan(t *testing.T) {
	for says, want := range map[string]string{
		"detail":  "",
		"version": "malformed plan: the version of the plan has 524288 bytes, but the limit is 65536",
		"parts":   "malformed plan: the plan has 100001 partitions, but the limit is 65536",
		"plan":    `plugin "loud" sent a message of 30.0 MiB, but the limit is 16 MiB`,
	} {
		t.Run(says, func(t *testing.T) {
			e, err := core.Explain(t.Context(), openLoud(t, says), core.Query{Table: "orders"}, core.Options{})
			switch text := fmt.Sprint(err); {
			case want != "" && !strings.Contains(text, want):
				t.Errorf("%.2000s, want %s", text, want)
			case want == "" && (err != nil || len(e.Detail) != sources.MaxComment):
				t.Errorf("%v", err)
			}
		})
	}
}

func actAsLoud() { servePlugin(&loud{}) }
