package host_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/celfilter"
	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/outputs"
	"github.com/penstock-data/penstock/outputs/file"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// unregistered runs f as a program does that links no extension types of Arrow.
func unregistered(t *testing.T, f func(*testing.T)) {
	t.Helper()
	for _, name := range []string{"arrow.uuid", "arrow.json", "arrow.opaque"} {
		known := arrow.GetExtensionType(name)
		if known == nil {
			t.Fatalf("%s is not registered to begin with", name)
		}
		if err := arrow.UnregisterExtensionType(name); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := arrow.RegisterExtensionType(known); err != nil {
				t.Error(err)
			}
		}()
	}
	f(t)
}

// formsSQL has a column of each logical type, and of the types that share their storage.
const formsSQL = `
CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad');
CREATE TYPE pair AS (id uuid, doc json, n numeric(9,2));
CREATE TABLE owner (id uuid PRIMARY KEY, doc jsonb);
CREATE TABLE forms (
	id uuid PRIMARY KEY, owner_id uuid REFERENCES owner, ids uuid[], doc json, docb jsonb, docs json[], duo pair, pairs pair[],
	mood mood, n numeric, fixed numeric(12,2), raw bytea, at timestamptz, local timestamp, day date, span interval, ip inet, word text);
INSERT INTO owner VALUES ('aaaaaaaa-0000-0000-0000-000000000001', '{"name": "Ann", "big": 12345678901234567890.10}');
INSERT INTO forms VALUES
	('00112233-4455-6677-8899-aabbccddeeff', 'aaaaaaaa-0000-0000-0000-000000000001', '{0b5f0000-0000-0000-0000-000000000001,NULL}',
	 '{"a" : 1.50, "a": [1e400, "x y"]}', '{"b": 1.50}', array['1.0'::json, NULL, '"t"'], row('00112233-4455-6677-8899-aabbccddeeff', '[ ]', 1.10),
	 array[row('ffffffff-ffff-ffff-ffff-ffffffffffff', 'null', 2.50)::pair], 'glad', 1.5000000000000000, 1.10, '\x00ff', '2024-01-31 10:00:00+01', '2024-01-31 10:00', '2024-02-29', '1 mon 2 days', '10.0.0.1', 'a,"b"'),
	('00112233-4455-6677-8899-aabbccddee00', NULL, '{}', NULL, 'null', NULL, NULL, NULL, NULL, 100, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '');
`

// formsRead is a way to write the table to a file.
type formsRead struct {
	format  string
	columns []string
	flatten bool
	load    bool
}

var formsReads = []formsRead{
	{format: "ndjson", load: true},
	{format: "ndjson", columns: []string{"id", "duo", "pairs"}, flatten: true},
	{format: "csv", columns: []string{"id", "owner_id", "doc", "docb", "mood", "n", "fixed", "raw", "at", "local", "day", "span", "ip", "word"}},
	{format: "csv", columns: []string{"id", "duo", "pairs"}, flatten: true},
	{format: "table", load: true},
	{format: "arrow", load: true},
}

// writeForms writes the rows of a table to real files, and returns their contents.
func writeForms(t *testing.T, source *host.Source, table string, reads []formsRead, where string) map[string]string {
	t.Helper()
	files := map[string]string{}
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var condition sources.Predicate
	if where != "" {
		if condition, err = celfilter.Parse(catalog.Table(table), where); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range reads {
		q := core.Query{Table: table, Columns: r.columns, Where: condition, OrderBy: []sources.Sort{{Column: "id", Desc: true}}}
		if r.load {
			q.Load = query.Load{Required: []query.Branch{{Name: "owner"}}}
		}
		stream, err := source.Stream(t.Context(), q, core.Options{})
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "out")
		if err := export(stream, name, r); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[fmt.Sprintf("%s, flatten %t", r.format, r.flatten)] = string(b)
	}
	return files
}

func export(stream *core.Stream, name string, r formsRead) error {
	out, err := file.Create(name)
	if err != nil {
		return err
	}
	defer func() { _ = out.Discard() }() // does nothing after Commit
	format, _ := outputs.Lookup(r.format)
	w, err := format.NewWriter(out, stream.Schema(), outputs.Options{Allocator: stream.Allocator(), Flatten: r.flatten})
	if err != nil {
		return err
	}
	defer w.Abort()
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return err
		}
		if err := w.Write(chunk.Record); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Commit()
}

// TestFormsOfEveryWall checks that a table has the same files in every format, wherever
// its source runs and whichever extension types are registered on either side.
func TestFormsOfEveryWall(t *testing.T) {
	uri := pgtest.Start(t).Database(t, formsSQL)
	plugins := t.TempDir()
	build(t, "../plugins/postgres/plugin", filepath.Join(plugins, "penstock-source-postgres"))
	var first map[string]string
	for _, side := range []struct {
		name      string
		isolation host.Isolation
		linked    map[string]sources.Open // nil: the executable, which links no extension types
	}{{"in-process", host.InProcess, linked}, {"process", host.Process, linked}, {"executable", host.Process, nil}} {
		read := func(t *testing.T) {
			h, err := host.New(host.Options{Sources: side.linked, Walls: walls, Isolation: side.isolation, PluginPath: []string{plugins}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := h.Close(); err != nil || h.Budget().Held() != 0 {
					t.Errorf("close: %v, %d bytes are held", err, h.Budget().Held())
				}
			}()
			source, err := h.Open(t.Context(), uri)
			if err != nil {
				t.Fatal(err)
			}
			got := writeForms(t, source, "forms", formsReads, "")
			for name, text := range writeForms(t, source, "forms", formsReads[:1], `id in ["00112233445566778899AABBCCDDEEFF"] && owner_id == "aaaaaaaa-0000-0000-0000-000000000001"`) {
				got["filtered "+name] = text
			}
			got["explained"] = explained(t, source)
			if first == nil {
				first = got
			}
			if diff := cmp.Diff(first, got); diff != "" {
				t.Errorf("the files differ (-want +got):\n%s", diff)
			}
		}
		t.Run(side.name+", registered", read)
		t.Run(side.name+", not registered", func(t *testing.T) { unregistered(t, read) })
	}
	const row = `{"id":"00112233-4455-6677-8899-aabbccddeeff","owner_id":"aaaaaaaa-0000-0000-0000-000000000001","ids":["0b5f0000-0000-0000-0000-000000000001",null],` +
		`"doc":{"a":1.50,"a":[1e400,"x y"]},"docb":{"b":1.50},"docs":[1.0,null,"t"],"duo":{"id":"00112233-4455-6677-8899-aabbccddeeff","doc":[],"n":"1.10"},` +
		`"pairs":[{"id":"ffffffff-ffff-ffff-ffff-ffffffffffff","doc":null,"n":"2.50"}],"mood":"glad","n":"1.5000000000000000","fixed":"1.10","raw":"AP8=",` +
		`"at":"2024-01-31T09:00:00Z","local":"2024-01-31T10:00:00","day":"2024-02-29","span":"P1M2D","ip":"10.0.0.1","word":"a,\"b\"",` +
		`"owner":{"id":"aaaaaaaa-0000-0000-0000-000000000001","doc":{"big":12345678901234567890.10,"name":"Ann"}}}` + "\n"
	if diff := cmp.Diff(row, first["filtered ndjson, flatten false"]); diff != "" {
		t.Errorf("ndjson (-want +got):\n%s", diff)
	}
	const csv = `id,duo.id,duo.doc,duo.n,pairs.id,pairs.doc,pairs.n
00112233-4455-6677-8899-aabbccddeeff,00112233-4455-6677-8899-aabbccddeeff,[ ],1.10,ffffffff-ffff-ffff-ffff-ffffffffffff,null,2.50
00112233-4455-6677-8899-aabbccddee00,,,,,,
`
	if diff := cmp.Diff(csv, first["csv, flatten true"]); diff != "" {
		t.Errorf("csv (-want +got):\n%s", diff)
	}
	if text := first["explained"]; !strings.Contains(text, "id = 00112233-4455-6677-8899-aabbccddeeff") {
		t.Errorf("explain says\n%s", text)
	}
}

// explained returns the work of a query on a UUID, for the table and for the engine.
func explained(t *testing.T, source *host.Source) string {
	t.Helper()
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	where, err := celfilter.Parse(catalog.Table("forms"), `id == "00112233-4455-6677-8899-aabbccddeeff"`)
	if err != nil {
		t.Fatal(err)
	}
	e, err := core.Explain(t.Context(), source, core.Query{Table: "forms", Where: where}, core.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return e.Source.Where + e.Engine.Where
}

// openExtended opens a source that is written with Arrow's extension types.
func openExtended(context.Context, sources.Config) (sources.Source, error) {
	uuid := extensions.NewUUIDType()
	doc, err := extensions.NewJSONType(arrow.BinaryTypes.String)
	if err != nil {
		return nil, err
	}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: uuid}, {Name: "ids", Type: arrow.ListOf(uuid), Nullable: true},
		{Name: "row", Type: arrow.StructOf(arrow.Field{Name: "doc", Type: doc, Nullable: true}), Nullable: true},
	}, nil)
	rows := `[{"id":"00112233-4455-6677-8899-aabbccddee00","ids":["00112233-4455-6677-8899-aabbccddeeff",null],"row":{"doc":"[1.0, 2]"}},
		{"id":"00112233-4455-6677-8899-aabbccddeeff","ids":null,"row":null}]`
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "t", Schema: schema, Key: []string{"id"}, Rows: 2}}}
	return sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			record, _, err := array.RecordFromJSON(env.Mem, schema, strings.NewReader(rows))
			if err != nil {
				yield(sources.Batch{}, err)
				return
			}
			defer record.Release()
			yield(sources.Batch{Record: record}, nil)
		}
	}), nil
}

// TestExtensionTypesOfASource checks that a source with extension types is the same
// in-process and in a process: a filter, an order and all formats.
func TestExtensionTypesOfASource(t *testing.T) {
	reads := []formsRead{{format: "ndjson"}, {format: "table"}, {format: "arrow"}}
	var first map[string]string
	for _, isolation := range []host.Isolation{host.InProcess, host.Process} {
		read := func(t *testing.T) {
			source, err := behind(t, isolation, "").Open(t.Context(), "extended:x")
			if err != nil {
				t.Fatal(err)
			}
			got := writeForms(t, source, "t", reads, `id >= "00112233-4455-6677-8899-aabbccddee00"`)
			if first == nil {
				first = got
			}
			if diff := cmp.Diff(first, got); diff != "" {
				t.Errorf("the files differ (-want +got):\n%s", diff)
			}
		}
		t.Run(string(isolation)+", registered", read)
		t.Run(string(isolation)+", not registered", func(t *testing.T) { unregistered(t, read) })
	}
	const want = `{"id":"00112233-4455-6677-8899-aabbccddeeff","ids":null,"row":null}
{"id":"00112233-4455-6677-8899-aabbccddee00","ids":["00112233-4455-6677-8899-aabbccddeeff",null],"row":{"doc":[1.0,2]}}
`
	if diff := cmp.Diff(want, first["ndjson, flatten false"]); diff != "" {
		t.Errorf("ndjson (-want +got):\n%s", diff)
	}
}
