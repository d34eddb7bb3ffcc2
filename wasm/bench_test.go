package wasm_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
	"github.com/penstock-data/penstock/wasm"
)

// BenchmarkOpen loads a module from the cache, starts an instance and reads its
// catalog.
func BenchmarkOpen(b *testing.B) {
	o := options(b, "source")
	for b.Loop() {
		s, err := wasm.Open(b.Context(), o, sources.Config{})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompile compiles a module that is not in the cache.
func BenchmarkCompile(b *testing.B) {
	o := options(b, "source")
	for b.Loop() {
		o.CacheDir = b.TempDir()
		if err := wasm.Precompile(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFirstPage begins a session of an open source, with an idle instance, and
// reads its first page.
func BenchmarkFirstPage(b *testing.B) {
	s := open(b, options(b, "source"), sources.Config{})
	for b.Loop() {
		session, err := s.Begin(b.Context(), sources.Env{Mem: memory.DefaultAllocator})
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range session.Scan(b.Context(), &sources.Query{Table: "numbers"}) {
			if err != nil {
				b.Fatal(err)
			}
			break
		}
		if err := session.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkScan reads rows that a guest in Go produces one by one.
func BenchmarkScan(b *testing.B) {
	s := open(b, options(b, "source"), sources.Config{Options: map[string]string{"rows": "300000"}})
	for b.Loop() {
		b.SetBytes(size(b, s, "numbers"))
	}
}

// BenchmarkWall reads pages that are stored in a file. It measures the cost of the
// wall itself.
func BenchmarkWall(b *testing.B) {
	o := options(b, "replay")
	dir := b.TempDir()
	o.Dirs = []wasm.Dir{{Host: dir, Guest: "/data"}}
	stream := arrows(schema, []int{40000})
	head := len(arrows(schema, nil))
	var scan strings.Builder
	const pages = 64
	for i := range pages {
		piece := stream
		if i > 0 {
			piece = stream[head:]
		}
		scan.WriteString(frame(wire.FrameArrow, piece) + page(40000))
	}
	scan.WriteString(trailer(pages*40000, pages))
	for i, answer := range []string{opened, cataloged, begun, scan.String(), begun} {
		write(b, filepath.Join(dir, []string{"1", "2", "3", "4", "5"}[i]), answer)
	}
	b.SetBytes(int64(scan.Len()))
	for b.Loop() {
		b.StopTimer()
		s, err := wasm.Open(b.Context(), o, sources.Config{})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		size(b, s, "t")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// size reads a table and returns the size of its rows in bytes.
func size(b *testing.B, s sources.Source, table string) int64 {
	session, err := s.Begin(b.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		b.Fatal(err)
	}
	var n int64
	for batch, err := range session.Scan(context.Background(), &sources.Query{Table: table}) {
		if err != nil {
			b.Fatal(err)
		}
		n += sources.Size(batch.Record)
	}
	if err := session.Close(); err != nil {
		b.Fatal(err)
	}
	return n
}
