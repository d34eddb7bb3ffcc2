package main

import (
	"container/list"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/dgraph-io/ristretto/v2"
	"github.com/maypok86/otter/v2"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// The workload is two groups of people who read reports. Each group has 300 queries and
// shares 100 of them with the other group: 500 in all, of which 20 % are shared. The
// next group is random; its next query follows Zipf's law (exponent 1.1) over a shuffle
// of the group's queries. The sizes of results are log-normal, with a median of 16 KiB,
// and range from 1 to 256 KiB. The cache has room for a fraction of all results.
const (
	questions = 500
	perGroup  = 300
	requests  = 200_000
	seed      = 20_26
)

func workload() (trace []int, sizes []int) {
	r := rand.New(rand.NewPCG(seed, 1))
	for range questions {
		kib := 16 * math.Exp(0.9*r.NormFloat64())
		sizes = append(sizes, int(min(max(kib, 1), 256)*1024))
	}
	var groups [2][]int
	for i := range perGroup {
		groups[0] = append(groups[0], i)
		groups[1] = append(groups[1], questions-perGroup+i)
	}
	var zipf [2]*rand.Zipf
	for g := range groups {
		r.Shuffle(perGroup, func(i, j int) { groups[g][i], groups[g][j] = groups[g][j], groups[g][i] })
		zipf[g] = rand.NewZipf(r, 1.1, 1, perGroup-1)
	}
	for range requests {
		g := r.IntN(2)
		trace = append(trace, groups[g][zipf[g].Uint64()])
	}
	return trace, sizes
}

// contestant is a cache that the workload looks queries up in, and fills after a miss.
type contestant struct {
	name string
	open func(bytes int64, sizes []int) (find func(q int) bool, put func(q int), closed func())
}

func rates() error {
	trace, sizes := workload()
	total := int64(0)
	for _, s := range sizes {
		total += int64(s)
	}
	fmt.Printf("\nHit rates of %d requests for %d queries with results of %s in all (seed %d): requests, and bytes, served from the cache\n\n| capacity |", requests, questions, budget.FormatBytes(total), seed)
	all := []contestant{{"penstock", ours}, {"plain LRU", plain}, {"ristretto", withRistretto}, {"otter", withOtter}}
	for _, c := range all {
		fmt.Printf(" %s |", c.name)
	}
	fmt.Print("\n|--:|--:|--:|--:|--:|\n")
	for _, part := range []float64{0.1, 0.2, 0.4} {
		fmt.Printf("| %.0f %% |", 100*part)
		for _, c := range all {
			find, put, closed := c.open(int64(part*float64(total)), sizes)
			hits, hitBytes, bytes := 0, int64(0), int64(0)
			for _, q := range trace {
				bytes += int64(sizes[q])
				if find(q) {
					hits++
					hitBytes += int64(sizes[q])
				} else {
					put(q)
				}
			}
			closed()
			fmt.Printf(" %.1f %%, %.1f %% |", 100*float64(hits)/float64(len(trace)), 100*float64(hitBytes)/float64(bytes))
		}
		fmt.Println()
	}
	return nil
}

func ours(bytes int64, sizes []int) (func(int) bool, func(int), func()) {
	answers, err := cache.New(cache.Options{MaxBytes: bytes})
	if err != nil {
		panic(err)
	}
	var records []arrow.RecordBatch
	var asked []query.Key
	for i, size := range sizes {
		records = append(records, record(size))
		asked = append(asked, query.Key{Digest: query.Identify(fmt.Sprint(i)), Source: query.Identify("bench"), Table: "t"})
	}
	find := func(q int) bool {
		a := answers.Get(asked[q], records[q].Schema())
		if a == nil {
			return false
		}
		a.Release()
		return true
	}
	put := func(q int) {
		answers.Put(&cache.Entry{Key: asked[q], At: time.Now(), Expires: time.Now().Add(time.Hour), Schema: records[q].Schema(), Pages: []sources.Batch{{Record: records[q]}}})
	}
	return find, put, func() { _ = answers.Close() }
}

func plain(bytes int64, sizes []int) (func(int) bool, func(int), func()) {
	order, at, held := list.New(), map[int]*list.Element{}, int64(0)
	find := func(q int) bool {
		e, ok := at[q]
		if ok {
			order.MoveToFront(e)
		}
		return ok
	}
	put := func(q int) {
		at[q] = order.PushFront(q)
		for held += int64(sizes[q]); held > bytes; {
			oldest := order.Remove(order.Back()).(int)
			delete(at, oldest)
			held -= int64(sizes[oldest])
		}
	}
	return find, put, func() {}
}

func withRistretto(bytes int64, sizes []int) (func(int) bool, func(int), func()) {
	cache, err := ristretto.NewCache(&ristretto.Config[int, int]{NumCounters: 10 * questions, MaxCost: bytes, BufferItems: 64, IgnoreInternalCost: true})
	if err != nil {
		panic(err)
	}
	find := func(q int) bool {
		_, ok := cache.Get(q)
		return ok
	}
	put := func(q int) {
		cache.Set(q, q, int64(sizes[q]))
		cache.Wait() // otherwise the next request may miss a value that is still being stored
	}
	return find, put, cache.Close
}

func withOtter(bytes int64, sizes []int) (func(int) bool, func(int), func()) {
	cache := otter.Must(&otter.Options[int, int]{
		MaximumWeight: uint64(bytes), Weigher: func(_, q int) uint32 { return uint32(sizes[q]) },
		Executor: func(f func()) { f() }, // synchronously, for the same reason
	})
	find := func(q int) bool {
		_, ok := cache.GetIfPresent(q)
		return ok
	}
	put := func(q int) { cache.Set(q, q) }
	return find, put, func() {}
}
