package csv

import (
	"bufio"
	"container/heap"
	"errors"
	"math/rand/v2"
	"os"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// sortedRuns holds runs of sorted entries in one file, one after the other. Each run
// begins with a page of its own.
type sortedRuns struct {
	file *os.File
	seed uint64 // of the checksums
	runs []runRange
}

// runRange is where a run is in the file.
type runRange struct {
	page    int64 // the number of its first page
	entries int64
}

func newRuns(dir string) (*sortedRuns, error) {
	f, err := os.CreateTemp(dir, "penstock-*.runs")
	if err != nil {
		return nil, err
	}
	return &sortedRuns{file: f, seed: rand.Uint64()}, nil
}

func (r *sortedRuns) close() error { return errors.Join(r.file.Close(), os.Remove(r.file.Name())) }

func (r *sortedRuns) write(entries []indexEntry) error {
	added := runRange{entries: int64(len(entries))}
	if n := len(r.runs); n > 0 {
		added.page = r.runs[n-1].page + pagesFor(r.runs[n-1].entries)
	}
	r.runs = append(r.runs, added)
	out := bufio.NewWriterSize(r.file, 64<<10)
	for number := added.page; len(entries) > 0; number++ {
		var page indexPage
		n := min(len(entries), pageEntries)
		for i, e := range entries[:n] {
			page.setEntry(i, e)
		}
		page.seal(r.seed, number)
		if _, err := out.Write(page[:]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return out.Flush()
}

// merge calls yield for the entries of all runs in order.
func (r *sortedRuns) merge(mem memory.Allocator, yield func(indexEntry)) error {
	pages := mem.Allocate(pageBytes * len(r.runs))
	defer mem.Free(pages)
	var h runHeap
	for i, at := range r.runs {
		run := &run{sortedRuns: r, left: at, page: (*indexPage)(pages[i*pageBytes:])}
		if at.entries > 0 {
			if err := run.advance(); err != nil {
				return err
			}
			h = append(h, run)
		}
	}
	heap.Init(&h)
	for len(h) > 0 {
		first := h[0]
		yield(first.head)
		if first.left.entries == 0 {
			heap.Pop(&h)
			continue
		}
		if err := first.advance(); err != nil {
			return err
		}
		heap.Fix(&h, 0)
	}
	return nil
}

// run is one of the runs of a merge.
type run struct {
	*sortedRuns
	left runRange   // what follows the head
	page *indexPage // the page of the head
	next int        // the index in page of the entry after the head
	head indexEntry
}

// advance reads the next entry into head. There must be one.
func (r *run) advance() error {
	if r.next %= pageEntries; r.next == 0 {
		if _, err := r.file.ReadAt(r.page[:], r.left.page*int64(pageBytes)); err != nil {
			return err
		}
		if !r.page.isSealed(r.seed, r.left.page) {
			return sources.Errorf(sources.Unavailable, "", "", "%s: page %d has changed since it was written: check the disk", r.file.Name(), r.left.page)
		}
		r.left.page++
	}
	r.head = r.page.entry(r.next)
	r.next++
	r.left.entries--
	return nil
}

type runHeap []*run

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return compareEntries(h[i].head, h[j].head) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*run)) }
func (h *runHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
