package wasm_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
	"github.com/penstock-data/penstock/wasm"
)

// byHand runs a guest as a shell would, with its whole input available at once.
func byHand(t *testing.T, guest string, lines ...string) []byte {
	t.Helper()
	module, err := os.ReadFile(file(t, guest))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := wazero.NewCompilationCacheWithDir(cache())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kept.Close(t.Context()) }()
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfig().WithCompilationCache(kept))
	defer func() { _ = r.Close(t.Context()) }()
	wasi_snapshot_preview1.MustInstantiate(t.Context(), r)
	var out bytes.Buffer
	// The clock stands still, so that no page is due before it is full.
	config := wazero.NewModuleConfig().WithNanotime(func() int64 { return 1 }, 1).WithStdin(strings.NewReader(strings.Join(lines, "\n"))).WithStdout(&out)
	if _, err := r.InstantiateWithConfig(t.Context(), module, config); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// answers parses what a guest wrote. It returns the kinds of the frames, and the
// number of rows before each trailer.
func answers(t *testing.T, out []byte) (kinds string, rows []int64) {
	t.Helper()
	f := wire.NewFrameReader(bytes.NewReader(out))
	var d *wire.Decoder
	var tally wire.Tally
	f.SetTally(&tally)
	for {
		kind, n, err := f.Next()
		if err == io.EOF {
			return kinds, rows
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds += string(rune(kind))
		switch kind {
		case wire.FrameArrow:
			if d == nil {
				d = wire.NewDecoder(memory.DefaultAllocator)
			}
			r, err := d.Read(f, n)
			if err != nil {
				t.Fatal(err)
			}
			tally.AddPage(r.NumRows())
			r.Release()
		case wire.FrameTrailer:
			b, err := f.Bytes(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			meta, err := wire.UnmarshalMeta(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := tally.Check(meta.Trailer); err != nil {
				t.Error(err)
			}
			rows = append(rows, meta.Trailer.Rows)
			d.Release()
			d, tally = nil, wire.Tally{}
		}
	}
}

func TestPipeByHand(t *testing.T) {
	const (
		open  = `{"op":"open","config":{"uri":"","options":{"rows":"500"}}}`
		begin = `{"op":"begin","env":{"page":{"rows":100}}}`
		scan  = `{"op":"scan","query":{"table":"numbers"}}`
	)
	for name, c := range map[string]struct {
		lines []string
		kinds string
		rows  []int64
	}{
		"no session, no next": {[]string{open, scan}, "RAPT", []int64{500}},
		"two scans":           {[]string{open, begin, scan, scan}, "RRAPAPAPAPAPTAPAPAPAPAPT", []int64{500, 500}},
		"next and stop":       {[]string{open, begin, scan, "next", "stop", "next", "", scan, "stop"}, "RRAPAPTAPT", []int64{200, 100}},
		"next, then the end":  {[]string{open, begin, scan, "next", ""}, "RRAPAPAPAPAPT", []int64{500}},
		"no open":             {[]string{`{"op":"catalog"}`}, "R", nil},
		"nonsense":            {[]string{"hello", `{"op":"dance"}`, open, open}, "RRRR", nil},
		"nothing":             {nil, "", nil},
	} {
		kinds, rows := answers(t, byHand(t, "source", c.lines...))
		if kinds != c.kinds {
			t.Errorf("%s: frames %s, want %s", name, kinds, c.kinds)
		}
		if diff := cmp.Diff(c.rows, rows); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestOpenURI(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "hello"), "hello")
	query := "?dir=" + dir + "&cache=" + cache() + "&memory=128MiB"
	_, err := wasm.OpenURI(t.Context(), sources.Config{URI: file(t, "probe") + query + "&uri=read:/data/hello"})
	if err == nil || !strings.Contains(err.Error(), "it says hello") {
		t.Error(err)
	}
	s, err := wasm.OpenURI(t.Context(), sources.Config{URI: file(t, "source") + query, Options: map[string]string{"rows": "5"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if rows, _, err := read(t.Context(), begin(t, s, sources.Limits{}), &sources.Query{Table: "numbers"}); len(rows) != 5 || err != nil {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}
