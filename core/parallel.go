package core

import (
	"context"
	"sync"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// parallelScan is how a stream reads several partitions of its table at once: so many
// goroutines, each with a scan of one partition after the other. The zero value
// reads the table as one.
type parallelScan struct {
	workers   int
	unordered bool
	page      sources.Limits
	maxQueued int // pages that wait for the consumer at most, beside the one in each worker's hands
}

// pagesPerWorker is how many pages a worker may take up that nobody waits for yet: the
// one that is being read, twice, since a builder that grows has two buffers; and
// the one that it has read.
const pagesPerWorker = 3

// maxQueuedPerWorker is how many pages wait for each worker at most. Without an order few
// wait; in order, what the later workers have read waits for the first.
const maxQueuedPerWorker = 16

// planParallel returns how many partitions a query's table is read in at once, and
// what pages have then. An order or a limit that the table keeps to is for one
// scan, and so is a place to go on from; and a table that has no partitions, or
// takes one scan at a time.
func planParallel(o Options, t *sources.Table, asked *sources.Query, lookups bool, page sources.Limits, limit int64) parallelScan {
	n := o.Parallel
	if t.MaxScans > 0 {
		if lookups {
			n = min(n, t.MaxScans-1)
		} else {
			n = min(n, t.MaxScans)
		}
	}
	if n < 2 || !t.Capabilities.Has(sources.CapPartition) || len(asked.OrderBy) > 0 || asked.Limit > 0 || o.Tokens || asked.After != nil {
		return parallelScan{page: page}
	}
	page.Bytes = max(min(page.Bytes, limit/int64(16*n)), 1)
	most := min(limit/8/page.Bytes, int64(maxQueuedPerWorker*n))
	return parallelScan{workers: n, unordered: o.Unordered, page: page, maxQueued: max(int(most), 1)}
}

// scans is what a session must be able to run at once; 0 is no more than any
// session can.
func (l parallelScan) scans(lookups bool) int {
	switch {
	case l.workers < 2:
		return 0
	case lookups:
		return l.workers + 1
	}
	return l.workers
}

// floor is what the workers may hold at once, which the stream sets aside for as
// long as it is open: they cannot wait for memory one by one.
func (l parallelScan) floor() int64 {
	if l.workers < 2 {
		return 0
	}
	return int64(l.workers*pagesPerWorker+l.maxQueued) * l.page.Bytes
}

// scanParallel is the hop that reads several partitions of a scan at once: the rows of
// each in the order that it has, one partition after the other in the order of
// the plan, or page by page as they come. The goroutines are this loop's: they
// end with it. Its pages have no cursor. scan must give a guarded scan.
func scanParallel(ctx context.Context, l parallelScan, session sources.Session, asked *sources.Query, calm func() bool, accounts *budget.Accounts, scan func(context.Context, *sources.Query) sources.Batches) sources.Batches {
	if l.workers < 2 {
		return scan(ctx, asked)
	}
	return func(yield func(sources.Batch, error) bool) {
		plan, err := sources.GuardCall("plan", asked.Table, func() (*sources.Plan, error) { return session.Plan(ctx, asked) })
		if err != nil {
			yield(sources.Batch{}, err)
			return
		}
		if len(plan.Parts) < 2 {
			scan(ctx, asked)(yield)
			return
		}
		r := &parallelReader{parallelScan: l, parts: plan.Parts, asked: asked, calm: calm, accounts: accounts, scan: scan, queues: make([][]fetchedPage, len(plan.Parts)), done: make([]bool, len(plan.Parts))}
		r.changed.L = &r.mu
		ctx, cancel := context.WithCancel(ctx)
		var group sync.WaitGroup
		defer func() {
			cancel()
			r.stop()
			group.Wait()
			r.drop()
		}()
		for range min(l.workers, len(plan.Parts)) {
			group.Go(func() { r.worker(ctx) })
		}
		r.loop(yield)
	}
}

// parallelReader is what the workers and the loop share.
type parallelReader struct {
	parallelScan
	parts    []sources.Part
	asked    *sources.Query
	calm     func() bool // there is memory to read ahead
	accounts *budget.Accounts
	scan     func(context.Context, *sources.Query) sources.Batches

	mu      sync.Mutex
	changed sync.Cond
	next    int             // the first partition that no worker has taken
	turn    int             // the first one that the loop has not seen the end of
	queues  [][]fetchedPage // by partition: what waits for the loop
	done    []bool          // by partition: no more will come
	waiting int             // in all queues
	stopped bool
}

// worker reads one partition after the other until there are none, or one fails.
func (r *parallelReader) worker(ctx context.Context) {
	for {
		r.mu.Lock()
		i := r.next
		r.next++
		r.mu.Unlock()
		if i >= len(r.parts) || !r.read(ctx, i) {
			return
		}
	}
}

// read reads one partition, and reports whether it was read to its end.
func (r *parallelReader) read(ctx context.Context, i int) bool {
	q := *r.asked
	q.Part = r.parts[i]
	for page, err := range r.scan(ctx, &q) {
		f := fetchedPage{err: err, more: true}
		if err == nil {
			page.Record.Retain()
			page.Cursor = nil // of the partition, and so of no use for the whole
			f.page, f.counted = page, r.accounts.Hold(budget.ReadAhead, page.Record)
		}
		if !r.put(i, f) || err != nil {
			return false
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[i] = true
	r.changed.Broadcast()
	return true
}

// put gives a page to the loop once there is room for it, and reports whether
// the loop still runs.
func (r *parallelReader) put(i int, f fetchedPage) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.stopped && !r.room(i) {
		r.changed.Wait()
	}
	if r.stopped {
		if f.page.Record != nil {
			f.counted()
			f.page.Record.Release()
		}
		return false
	}
	r.queues[i] = append(r.queues[i], f)
	r.waiting++
	r.changed.Broadcast()
	return true
}

// room reports whether a page of a partition may wait for the loop: always the
// one that the loop waits for, others while there are few and memory is not
// short.
func (r *parallelReader) room(i int) bool {
	if r.wanted(i) {
		return len(r.queues[i]) == 0 || r.waiting < r.maxQueued && r.calm()
	}
	return r.waiting < r.maxQueued && r.calm()
}

// wanted reports whether the loop takes what comes from a partition next.
func (r *parallelReader) wanted(i int) bool { return i == r.turn || r.unordered && r.waiting == 0 }

// take returns the next page, or false at the end of all partitions.
func (r *parallelReader) take() (fetchedPage, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for r.turn < len(r.parts) && r.done[r.turn] && len(r.queues[r.turn]) == 0 {
			r.turn++
			r.changed.Broadcast()
		}
		if r.turn == len(r.parts) {
			return fetchedPage{}, false
		}
		last := r.turn
		if r.unordered {
			last = len(r.parts) - 1
		}
		for i := r.turn; i <= last; i++ {
			if queue := r.queues[i]; len(queue) > 0 {
				f := queue[0]
				queue[0] = fetchedPage{}
				r.queues[i] = queue[1:]
				r.waiting--
				r.changed.Broadcast()
				return f, true
			}
		}
		r.changed.Wait()
	}
}

// loop yields what the workers read.
func (r *parallelReader) loop(yield func(sources.Batch, error) bool) {
	for {
		f, ok := r.take()
		if !ok {
			return
		}
		if f.err != nil {
			yield(sources.Batch{}, f.err)
			return
		}
		if !r.give(f, yield) {
			return
		}
	}
}

func (r *parallelReader) give(f fetchedPage, yield func(sources.Batch, error) bool) bool {
	f.counted()
	defer f.page.Record.Release()
	return yield(f.page, nil)
}

// stop tells the workers that nobody takes pages any more.
func (r *parallelReader) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	r.changed.Broadcast()
}

// drop gives back what nobody took, once the workers have ended.
func (r *parallelReader) drop() {
	for _, queue := range r.queues {
		for _, f := range queue {
			if f.page.Record != nil {
				f.counted()
				f.page.Record.Release()
			}
		}
	}
}
