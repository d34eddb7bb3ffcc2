package cache

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// sharedScan is a scan that streams with the same query share. It has its own
// session, budget and goroutine, so that it can outlive the stream that started
// it, and reads a page whenever one of its streams asks for one.
//
// The leader, which started the scan, gets its pages as they are read. Followers
// get nothing until the complete result is cached. Until then, each can still read
// for itself, and does so if the scan fails or its result is too large to cache.
// No stream waits for another stream's consumer, and no result mixes two
// snapshots.
type sharedScan struct {
	*pendingEntry
	source  sources.Source
	shared  sources.Source // the source below source, which streams share
	table   *sources.Table
	query   *sources.Query
	schema  *arrow.Schema
	budget  *budget.Budget
	session sources.Session
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{} // closed once everything is released

	mu          sync.Mutex
	changed     chan struct{} // closed and replaced when a field below changes
	queue       []scannedPage // pages for the leader
	pagesRead   int
	pagesWanted int  // pagesRead plus one if a stream waits for a page
	leader      bool // the leader has not left
	followers   int
	firstPageAt time.Time // when the first page was read
	began       bool      // the session has begun
	outcome     outcome
	err         error // of the scan
	closeErr    error // of the session; set before done is closed
}

// outcome is how a shared scan ended, from the view of its followers.
type outcome uint8

const (
	scanning  outcome = iota // not yet
	committed                // the complete result is cached
	uncached                 // the result is not cached and will not be
)

// scannedPage is a page for the leader: a contiguous page with a reference, or the
// source's page if the result is not being cached. page.Due is set in either case.
type scannedPage struct {
	contiguous *contiguousPage
	page       sources.Batch
}

func (p scannedPage) release() {
	if p.contiguous != nil {
		p.contiguous.release()
	} else {
		p.page.Record.Release()
	}
}

// newSharedScan returns a shared scan of the reader's query, led by its stream. It
// does not end with the stream's context.
func newSharedScan(ctx context.Context, entry *pendingEntry, r *Reader, budget *budget.Budget) *sharedScan {
	s := &sharedScan{
		pendingEntry: entry, source: r.config.Session.source, shared: r.config.Session.shared, table: r.table, query: r.config.Query, schema: r.schema, budget: budget,
		done: make(chan struct{}), changed: make(chan struct{}), leader: true,
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

// follow joins a running scan of the same query and source and returns it. If
// there is none, it registers s for others to join, and s leads. The budget of a
// scan that is not needed is closed.
func (c *Cache) follow(s *sharedScan) (_ *sharedScan, leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.scans[s.key.Digest] {
		if isSameSource(other.shared, s.shared) && other.join() {
			delete(c.pending, s.pendingEntry)
			s.budget.Close()
			return other, false
		}
	}
	c.scans[s.key.Digest] = append(c.scans[s.key.Digest], s)
	return s, true
}

// isSameSource reports whether a and b are the same source. Streams of different
// sources must not share a scan: it has to end before its source is closed, and
// only streams of that source ensure this.
func isSameSource(a, b sources.Source) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.TypeOf(a).Comparable() && a == b
}

// join adds a follower and reports whether the scan still accepts one.
func (s *sharedScan) join() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outcome != scanning || s.followers == 0 && !s.leader {
		return false
	}
	s.followers++
	return true
}

// notify wakes all waiters. The caller holds s.mu.
func (s *sharedScan) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// begin begins the session and starts the goroutine, which waits until a page is
// wanted. Its error is the source's.
func (s *sharedScan) begin(ctx context.Context, env sources.Env) error {
	env.Mem = s.budget
	session, err := s.source.Begin(ctx, env)
	if err != nil {
		s.finish(uncached, err)
		s.closeBudget()
		close(s.done)
		return err
	}
	s.mu.Lock()
	s.session, s.began = session, true
	s.mu.Unlock()
	go s.run()
	return nil
}

// closeBudget closes the scan's budget once no call uses it that the source has given up.
func (s *sharedScan) closeBudget() {
	if retrying, ok := s.source.(interface{ AfterCalls(func()) }); ok {
		retrying.AfterCalls(s.budget.Close)
		return
	}
	s.budget.Close()
}

// finish records how the scan ended. No stream can join afterwards.
func (s *sharedScan) finish(o outcome, err error) {
	cache := s.cache
	cache.mu.Lock()
	key := s.key.Digest
	if others := slices.DeleteFunc(cache.scans[key], func(other *sharedScan) bool { return other == s }); len(others) > 0 {
		cache.scans[key] = others
	} else {
		delete(cache.scans, key)
	}
	cache.mu.Unlock()
	if o == uncached {
		s.abandon()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outcome == scanning {
		s.outcome = o
	}
	if s.err == nil {
		s.err = err
	}
	s.notify()
}

// errScanDone reports that the scan has no more pages. It is not a failure.
var errScanDone = errors.New("the scan has no more pages")

// run is the scan's goroutine.
func (s *sharedScan) run() {
	defer close(s.done)
	defer s.closeBudget()
	defer func() {
		_, s.closeErr = sources.GuardCall("close", s.key.Table, func() (struct{}, error) { return struct{}{}, s.session.Close() })
	}()
	caching := true
	if !s.wait() {
		s.finish(uncached, nil)
		return
	}
	err := s.recordVersion(s.ctx, s.session, s.query)
	if err != nil {
		caching = false
		s.finish(uncached, nil)
	}
	// The source has a guard of its own; this one keeps a panic of the engine's on
	// this goroutine from ending the program.
	pages := sources.Guard("scan", s.table.Name, query.CheckSchema(s.ctx, s.table.Name, s.session.Scan(s.ctx, s.query), s.schema))
	for page, err := range pages {
		if err != nil {
			s.finish(uncached, err)
			return
		}
		next := scannedPage{page: page}
		if caching {
			if next.contiguous = s.pack(page); next.contiguous != nil {
				s.pages = append(s.pages, next.contiguous)
			} else {
				caching = false
				s.finish(uncached, nil)
			}
		}
		s.publish(next)
		if !s.wait() {
			s.finish(uncached, nil)
			return
		}
	}
	if caching && s.unchanged(s.ctx, s.session, s.query) && s.commitAndSave(s.schema) {
		s.finish(committed, errScanDone)
		return
	}
	s.finish(uncached, errScanDone)
}

// publish queues a page for the leader and wakes waiters.
func (s *sharedScan) publish(next scannedPage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pagesRead == 0 {
		s.firstPageAt = time.Now()
	}
	s.pagesRead++
	if s.leader {
		if next.contiguous != nil {
			next.contiguous.retain()
		} else {
			next.page.Record.Retain()
		}
		s.queue = append(s.queue, next)
	}
	s.notify()
}

// wait blocks until a page is wanted. It returns false if no stream is left to
// want one.
func (s *sharedScan) wait() bool {
	for {
		s.mu.Lock()
		unread := !s.leader && (s.followers == 0 || s.outcome != scanning)
		wanted, changed := s.pagesWanted > s.pagesRead, s.changed
		s.mu.Unlock()
		switch {
		case unread || s.ctx.Err() != nil:
			return false
		case wanted:
			return true
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
		}
	}
}

// next returns the leader's next page with its reference; errScanDone after the
// last.
func (s *sharedScan) next(ctx context.Context) (scannedPage, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			next := s.queue[0]
			s.queue = slices.Delete(s.queue, 0, 1)
			s.mu.Unlock()
			return next, nil
		}
		err := s.err
		if err == nil && s.pagesWanted <= s.pagesRead {
			s.pagesWanted = s.pagesRead + 1
			s.notify()
		}
		changed := s.changed
		s.mu.Unlock()
		if err != nil {
			return scannedPage{}, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return scannedPage{}, sources.NewError(sources.Canceled, "scan", s.key.Table, context.Cause(ctx))
		}
	}
}

// followerWait is the minimum time that a follower waits for the complete result,
// from the first page on. If the first page took longer than that, it waits as
// long again.
const followerWait = 2 * time.Second

// await waits until the scan ends, requesting its pages, and reports whether the
// result is cached. It gives up if the context ends or the wait is too long.
func (s *sharedScan) await(ctx context.Context) bool {
	for {
		s.mu.Lock()
		if s.outcome != scanning {
			defer s.mu.Unlock()
			return s.outcome == committed
		}
		if s.began && s.pagesWanted <= s.pagesRead {
			s.pagesWanted = s.pagesRead + 1
			s.notify()
		}
		changed := s.changed
		var timeout <-chan time.Time
		var timer *time.Timer
		if s.pagesRead > 0 {
			timer = time.NewTimer(time.Until(s.firstPageAt.Add(max(followerWait, s.firstPageAt.Sub(s.readAt)))))
			timeout = timer.C
		}
		s.mu.Unlock()
		giveUp := false
		select {
		case <-changed:
		case <-timeout:
			giveUp = true
		case <-ctx.Done():
			giveUp = true
		}
		if timer != nil {
			timer.Stop()
		}
		if giveUp {
			return false
		}
	}
}

// leave removes the leader or a follower. The last stream to leave ends the scan,
// waits until everything is released, and gets the error of closing the session.
func (s *sharedScan) leave(leads bool) error {
	s.mu.Lock()
	if leads {
		s.leader = false
		for _, p := range s.queue {
			p.release()
		}
		s.queue = nil
	} else {
		s.followers--
	}
	last := !s.leader && s.followers == 0
	s.notify()
	s.mu.Unlock()
	if !last {
		return nil
	}
	s.cancel()
	<-s.done
	return s.closeErr
}
