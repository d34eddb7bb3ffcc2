package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// record returns a record of about the given size in ten columns, a third of them text.
func record(bytes int) arrow.RecordBatch {
	var fields []arrow.Field
	for i := range 10 {
		t := arrow.DataType(arrow.PrimitiveTypes.Int64)
		if i%3 == 0 {
			t = arrow.BinaryTypes.String
		}
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: t, Nullable: true})
	}
	schema := arrow.NewSchema(fields, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for row := range max(bytes/(6*8+4*16), 1) {
		for i := range 10 {
			switch f := b.Field(i).(type) {
			case *array.StringBuilder:
				f.Append(fmt.Sprintf("text %07d", row%10_000_000))
			case *array.Int64Builder:
				f.Append(int64(row))
			}
		}
	}
	return b.NewRecordBatch()
}

// bookkeeping measures the memory that an entry takes in addition to its rows: as the
// cache counts it, and as Go's heap does.
func bookkeeping(context.Context) error {
	fmt.Print("\nMemory of an entry of one page with ten columns, in addition to its rows\n\n| bytes of rows | counted by the cache | on Go's heap | relative to the rows |\n|--:|--:|--:|--:|\n")
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10, 1 << 20} {
		r := record(size)
		n := min(int64(1000), 64<<20/sources.Size(r))
		answers, err := cache.New(cache.Options{MaxBytes: 256 << 20, MaxEntries: int(n)})
		if err != nil {
			return err
		}
		heap := func() int64 {
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before := heap()
		for i := range n {
			a := &cache.Entry{
				Key: query.Key{Digest: query.Identify(fmt.Sprint(i)), Source: query.Identify("bench"), Table: "t"},
				At:  time.Now(), Expires: time.Now().Add(time.Hour), Schema: r.Schema(), Pages: []sources.Batch{{Record: r}},
			}
			if !answers.Put(a) {
				return fmt.Errorf("entry %d was not cached", i)
			}
		}
		grown := heap() - before
		s := answers.Stats()
		if int64(s.Entries) != n {
			return fmt.Errorf("%d of %d entries are in the cache", s.Entries, n)
		}
		payload := s.Payload / n
		fmt.Printf("| %d | %d | %d | %.2f %% (heap %.2f %%) |\n", payload, s.Bytes/n-payload, grown/n-payload,
			100*float64(s.Bytes-s.Payload)/float64(s.Payload), 100*float64(grown-s.Payload)/float64(s.Payload))
		runtime.KeepAlive(r)
		if err := answers.Close(); err != nil {
			return err
		}
	}
	return nil
}
