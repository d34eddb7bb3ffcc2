package core

import (
	"context"
	"sync"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// parallelScan configures how a stream reads several partitions of its table at
// once. Each worker is a goroutine that scans one partition after another. The zero
// value reads the table in one scan.
type parallelScan struct {
	workers   int
	unordered bool
	page      sources.Limits
	maxQueued int // pages that may wait for the consumer, beside one for each worker

	// The following fields are for streams with tokens.

	tokens bool
	parts  []sources.Part // planned before the stream begins; nil if it reads in one scan
	from   partPosition   // where the stream begins
}

// pagesPerWorker is the memory that a worker needs beside the queues, in pages: two
// for the page it reads, since a growing builder has two buffers, and one for the
// page it has read.
const pagesPerWorker = 3

// maxQueuedPerWorker limits the queued pages, as a multiple of the workers. In order,
// the pages of later partitions wait for the end of the first; without an order, few
// pages wait.
const maxQueuedPerWorker = 16

// oneScan returns why a table has to be read in one scan, or "" if the catalog gives no
// reason.
func oneScan(o Options, t *sources.Table, pushed *sources.Query, lookups bool) string {
	switch {
	case !t.Capabilities.Has(sources.CapPartition):
		return "the table has no partitions"
	case len(pushed.OrderBy) > 0:
		return "the source sorts the rows"
	case pushed.Limit > 0:
		return "the source limits the rows"
	case pushed.After != nil:
		return "the token is of one scan"
	case maxWorkers(o, t, lookups) < 2:
		return "the source allows too few scans at once"
	}
	return ""
}

// maxWorkers returns how many partitions may be read at once. lookups reserves one of
// the table's scans for look-ups.
func maxWorkers(o Options, t *sources.Table, lookups bool) int {
	switch {
	case t.MaxScans == 0:
		return o.Parallel
	case lookups:
		return min(o.Parallel, t.MaxScans-1)
	}
	return min(o.Parallel, t.MaxScans)
}

// planParallel returns how many partitions of a table to read at once, and how large
// their pages are. lookups reserves one of the table's scans for look-ups; limit is
// the stream's memory limit in bytes. A stream that resumes in partitions reads
// partitions in any case.
func planParallel(o Options, t *sources.Table, pushed *sources.Query, inParts, lookups bool, page sources.Limits, limit int64) parallelScan {
	n := 1
	if o.Parallel >= 2 && oneScan(o, t, pushed, lookups) == "" {
		n = maxWorkers(o, t, lookups)
	} else if !inParts {
		return parallelScan{page: page}
	}
	page.Bytes = max(min(page.Bytes, limit/int64(16*n)), 1)
	most := min(limit/8/page.Bytes, int64(maxQueuedPerWorker*n))
	return parallelScan{
		workers: n, unordered: o.Unordered && !o.Tokens, page: page, maxQueued: max(int(most), 1),
		tokens: o.Tokens,
	}
}

// scans returns how many scans the session must run at once, see
// [sources.Env.MaxScans]. 0 is the default of sessions.
func (p parallelScan) scans(lookups bool) int {
	switch {
	case p.workers == 0:
		return 0
	case lookups:
		return p.workers + 1
	}
	return p.workers
}

// floor returns the memory that all workers together may hold, in bytes. The stream
// reserves it while it is open, since workers that waited for memory one by one could
// wait for each other.
func (p parallelScan) floor() int64 {
	if p.workers == 0 {
		return 0
	}
	return int64(p.workers*pagesPerWorker+p.maxQueued) * p.page.Bytes
}

// scanParallel reads the partitions of a query at once, as parallel configures. Pages
// arrive partition by partition in the order of the source's plan, or, if unordered,
// as they are read; within a partition they keep their order. They have no cursors,
// except for tokens: then a cursor is a [partPosition].
//
// calm reports whether there is memory to queue pages. The goroutines end when the loop
// ends.
func scanParallel(ctx context.Context, parallel parallelScan, session sources.Session, pushed *sources.Query, calm func() bool, accounts *budget.Accounts) sources.Batches {
	if parallel.workers == 0 || parallel.tokens && parallel.parts == nil {
		return session.Scan(ctx, pushed)
	}
	return func(yield func(sources.Batch, error) bool) {
		if !parallel.tokens {
			plan, err := sources.GuardCall("plan", pushed.Table, func() (*sources.Plan, error) { return session.Plan(ctx, pushed) })
			if err != nil {
				yield(sources.Batch{}, err)
				return
			}
			if len(plan.Parts) < 2 {
				session.Scan(ctx, pushed)(yield)
				return
			}
			parallel.parts = plan.Parts
		}
		n := len(parallel.parts)
		r := &parallelReader{
			parallelScan: parallel, pushed: pushed, calm: calm, accounts: accounts, session: session,
			next: parallel.from.part, current: parallel.from.part, queues: make([][]fetchedPage, n), done: make([]bool, n),
		}
		r.changed.L = &r.mu
		ctx, cancel := context.WithCancel(ctx)
		var group sync.WaitGroup
		defer func() {
			cancel()
			r.stop()
			group.Wait()
			r.releaseQueued()
		}()
		for range min(parallel.workers, n-parallel.from.part) {
			group.Go(func() { r.worker(ctx) })
		}
		r.loop(yield)
	}
}

// parallelReader is the state that the workers and the consumer's loop share.
type parallelReader struct {
	parallelScan
	pushed   *sources.Query
	calm     func() bool // reports whether there is memory to queue pages
	accounts *budget.Accounts
	session  sources.Session

	mu      sync.Mutex
	changed sync.Cond
	next    int             // the first partition that no worker has taken
	current int             // the first partition that the loop has not finished
	queues  [][]fetchedPage // by partition: pages that wait for the loop
	done    []bool          // by partition: it is read to its end
	queued  int             // pages in all queues
	stopped bool            // the loop has ended
}

// worker reads one partition after another until none is left or one fails.
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

// read queues the pages of one partition, or its error, and reports whether it
// reached the partition's end.
func (r *parallelReader) read(ctx context.Context, i int) bool {
	q := *r.pushed
	q.Part = r.parts[i]
	if i == r.from.part {
		q.After = r.from.cursor
	}
	for page, err := range sources.Guard("scan", q.Table, r.session.Scan(ctx, &q)) {
		f := fetchedPage{err: err, more: true}
		if err == nil {
			page.Record.Retain()
			page.Cursor = r.cursorOf(i, page.Cursor)
			f.page, f.endHold = page, r.accounts.Hold(budget.ReadAhead, page.Record)
		}
		if !r.enqueue(i, f) || err != nil {
			return false
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[i] = true
	r.changed.Broadcast()
	return true
}

// cursorOf returns the cursor of the table for a cursor of a partition.
func (r *parallelReader) cursorOf(part int, cursor sources.Cursor) sources.Cursor {
	if !r.tokens || cursor == nil {
		return nil
	}
	return partPosition{part: part, cursor: cursor}.encode()
}

// enqueue queues a page once there is room for it, and reports whether the loop still
// runs.
func (r *parallelReader) enqueue(i int, f fetchedPage) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.stopped && !r.hasRoom(i) {
		r.changed.Wait()
	}
	if r.stopped {
		if f.page.Record != nil {
			f.endHold()
			f.page.Record.Release()
		}
		return false
	}
	r.queues[i] = append(r.queues[i], f)
	r.queued++
	r.changed.Broadcast()
	return true
}

// hasRoom reports whether a page of a partition may be queued. The page that the loop
// waits for always may; others may while few are queued and there is memory.
func (r *parallelReader) hasRoom(i int) bool {
	if r.isNext(i) {
		return len(r.queues[i]) == 0 || r.queued < r.maxQueued && r.calm()
	}
	return r.queued < r.maxQueued && r.calm()
}

// isNext reports whether the loop waits for the next page of a partition.
func (r *parallelReader) isNext(i int) bool { return i == r.current || r.unordered && r.queued == 0 }

// dequeue waits for the next page and returns it, or false at the end of all
// partitions.
func (r *parallelReader) dequeue() (fetchedPage, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for r.current < len(r.parts) && r.done[r.current] && len(r.queues[r.current]) == 0 {
			r.current++
			r.changed.Broadcast()
		}
		if r.current == len(r.parts) {
			return fetchedPage{}, false
		}
		last := r.current
		if r.unordered {
			last = len(r.parts) - 1
		}
		for i := r.current; i <= last; i++ {
			if queue := r.queues[i]; len(queue) > 0 {
				f := queue[0]
				queue[0] = fetchedPage{}
				r.queues[i] = queue[1:]
				r.queued--
				r.changed.Broadcast()
				return f, true
			}
		}
		r.changed.Wait()
	}
}

// loop yields the pages that the workers read.
func (r *parallelReader) loop(yield func(sources.Batch, error) bool) {
	for {
		f, ok := r.dequeue()
		if !ok {
			return
		}
		if f.err != nil {
			yield(sources.Batch{}, f.err)
			return
		}
		if !r.deliver(f, yield) {
			return
		}
	}
}

// deliver yields a page and then releases it.
func (r *parallelReader) deliver(f fetchedPage, yield func(sources.Batch, error) bool) bool {
	f.endHold()
	defer f.page.Record.Release()
	return yield(f.page, nil)
}

// stop makes the workers end at their next page.
func (r *parallelReader) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	r.changed.Broadcast()
}

// releaseQueued releases the pages that the loop did not take. The workers must have
// ended.
func (r *parallelReader) releaseQueued() {
	for _, queue := range r.queues {
		for _, f := range queue {
			if f.page.Record != nil {
				f.endHold()
				f.page.Record.Release()
			}
		}
	}
}
