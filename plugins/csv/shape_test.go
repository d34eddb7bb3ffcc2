package csv_test

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

// shape returns a source of one table, t.csv, with integers, texts and decimals.
func shape(tb testing.TB, columns, rows int) sources.Source {
	tb.Helper()
	var text bytes.Buffer
	for c := range columns {
		if c > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, "column_%d", c)
	}
	var buf []byte
	for row := range rows {
		for c := range columns {
			n := int64(row*columns + c)
			separator := byte(',')
			if c == 0 {
				separator = '\n'
			}
			text.WriteByte(separator)
			switch c % 3 {
			case 0:
				buf = strconv.AppendInt(buf[:0], n%100_000, 10)
			case 1:
				buf = strconv.AppendInt(append(buf[:0], 'v'), n%1000, 10)
			case 2:
				buf = strconv.AppendInt(append(strconv.AppendInt(buf[:0], n%1000, 10), '.'), 10+n%90, 10)
			}
			text.Write(buf)
		}
	}
	files := fstest.MapFS{"t.csv": {Data: text.Bytes(), ModTime: time.Unix(1e9, 0)}}
	source, err := csv.New(files, csv.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return source
}

// BenchmarkShapes reads tables that have the same number of cells in different
// shapes: by the source alone, and as a stream of the engine. Each iteration opens
// the source anew, and so reads the header and the sample too. Pages are not handed on
// before they are full, however busy the machine is.
func BenchmarkShapes(b *testing.B) {
	const cells = 10_000_000
	for _, columns := range []int{10, 100, 1000, 10_000, 20_000, 100_000} {
		name := fmt.Sprintf("%dx%d", columns, cells/columns)
		run := func(kind string, read func(sources.Source) (int64, error)) {
			b.Run(kind+"/"+name, func(b *testing.B) {
				rows := int64(0)
				for b.Loop() {
					b.StopTimer()
					source := shape(b, columns, cells/columns)
					b.StartTimer()
					n, err := read(source)
					if err != nil {
						b.Fatal(err)
					}
					rows += n
				}
				if want := int64(b.N * cells / columns); rows != want {
					b.Fatalf("%d rows, want %d", rows, want)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*cells), "ns/cell")
			})
		}
		run("source", func(source sources.Source) (rows int64, err error) {
			session, err := source.Begin(b.Context(), sources.Env{Mem: memory.DefaultAllocator, Page: sources.Limits{Bytes: 15 << 20}, FlushAfter: -1})
			if err != nil {
				return 0, err
			}
			for batch, err := range session.Scan(b.Context(), &sources.Query{Table: "t"}) {
				if err != nil {
					return rows, err
				}
				rows += batch.Record.NumRows()
			}
			return rows, session.Close()
		})
		run("stream", func(source sources.Source) (rows int64, err error) {
			parent, err := budget.New("host", 1<<30, nil)
			if err != nil {
				return 0, err
			}
			defer parent.Close()
			stream, err := core.Open(b.Context(), source, core.Query{Table: "t"}, core.Options{FlushAfter: -1}, core.Resources{Budget: parent})
			if err != nil {
				return 0, err
			}
			for chunk, err := range stream.Chunks() {
				if err != nil {
					return rows, err
				}
				rows += chunk.Record.NumRows()
			}
			return rows, nil
		})
	}
}
