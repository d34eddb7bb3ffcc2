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

// sharedScan is one scan for all who ask the same at the same time. It has a session,
// a budget and a goroutine of its own, so that it outlives the stream that began
// it, and reads a page whenever any of its readers asks for one.
//
// The leader is given pages as they come. Followers are given nothing before the
// answer is whole: until then each can still ask for itself, and does where the
// answer turns out to be too large, or fails. So nobody waits for somebody else's
// consumer, and no answer is made of two moments.
type sharedScan struct {
	*pendingEntry
	source  sources.Source
	raw     sources.Source // the same, shared by streams
	table   *sources.Table
	query   *sources.Query
	schema  *arrow.Schema
	budget  *budget.Budget
	session sources.Session
	ctx     context.Context
	cancel  context.CancelFunc
	ended   chan struct{} // closed once everything is given back

	mu        sync.Mutex
	changed   chan struct{} // closed, and replaced, when anything below changes
	queue     []scannedPage // for the leader
	made      int           // pages read
	wanted    int           // pages asked for
	leader    bool          // is still there
	followers int
	first     time.Time // when the first page came
	begun     bool      // the session is there
	outcome   outcome
	err       error // of the scan
	closeErr  error // of the session; set before ended is closed
}

// outcome is how a flight ended, as its followers see it.
type outcome uint8

const (
	scanning  outcome = iota
	committed         // the whole answer is in the cache
	uncached          // it is not, and never will be
)

// scannedPage is a page for the leader: packed with a reference of its own, or the
// source's where the answer is not kept.
type scannedPage struct {
	packed *contiguousPage
	page   sources.Batch
}

func (s scannedPage) release() {
	if s.packed != nil {
		s.packed.release()
	} else {
		s.page.Record.Release()
	}
}

// newSharedScan returns a flight for what the reader asks, which its stream leads. It
// outlives the stream's context.
func newSharedScan(ctx context.Context, fill *pendingEntry, r *Reader, budget *budget.Budget) *sharedScan {
	f := &sharedScan{
		pendingEntry: fill, source: r.Session.source, raw: r.Session.shared, table: r.table, query: r.Query, schema: r.schema, budget: budget,
		ended: make(chan struct{}), changed: make(chan struct{}), leader: true,
	}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return f
}

// follow returns a flight of the same source that asks the question already, or
// makes the given one that. The budget of one that is not needed is closed.
func (c *Cache) follow(f *sharedScan) (_ *sharedScan, leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.scans[f.key.Digest] {
		if same(other.raw, f.raw) && other.join() {
			delete(c.fills, f.pendingEntry)
			f.budget.Close()
			return other, false
		}
	}
	c.scans[f.key.Digest] = append(c.scans[f.key.Digest], f)
	return f, true
}

// same reports whether two sources are one: a flight must end before its source
// is closed, which only that source's own streams see to.
func same(a, b sources.Source) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.TypeOf(a).Comparable() && a == b
}

// join adds a follower, unless it is too late.
func (f *sharedScan) join() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outcome != scanning || f.followers == 0 && !f.leader {
		return false
	}
	f.followers++
	return true
}

// tell wakes those who wait. The caller holds the lock.
func (f *sharedScan) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// begin begins the session and the goroutine, which waits to be asked. Its error
// is the source's.
func (f *sharedScan) begin(ctx context.Context, env sources.Env) error {
	env.Mem = f.budget
	session, err := f.source.Begin(ctx, env)
	if err != nil {
		f.finish(uncached, err)
		f.budget.Close()
		close(f.ended)
		return err
	}
	f.mu.Lock()
	f.session, f.begun = session, true
	f.mu.Unlock()
	go f.run()
	return nil
}

// finish says how the flight ended, and takes no followers any more.
func (f *sharedScan) finish(o outcome, err error) {
	c := f.c
	c.mu.Lock()
	key := f.key.Digest
	if rest := slices.DeleteFunc(c.scans[key], func(x *sharedScan) bool { return x == f }); len(rest) > 0 {
		c.scans[key] = rest
	} else {
		delete(c.scans, key)
	}
	c.mu.Unlock()
	if o == uncached {
		f.abandon()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outcome == scanning {
		f.outcome = o
	}
	if f.err == nil {
		f.err = err
	}
	f.tell()
}

// errOver ends the range of a flight whose scan is over. It is no error.
var errOver = errors.New("the scan is over")

// run is the flight's goroutine.
func (f *sharedScan) run() {
	defer close(f.ended)
	defer f.budget.Close()
	defer func() {
		_, f.closeErr = sources.GuardCall("close", f.key.Table, func() (struct{}, error) { return struct{}{}, f.session.Close() })
	}()
	kept := true
	if !f.wait() {
		f.finish(uncached, nil)
		return
	}
	err := f.versioned(f.ctx, f.session, f.query)
	if err != nil {
		kept = false
		f.finish(uncached, nil)
	}
	pages := sources.Guard("scan", f.table.Name, f.session.Scan(f.ctx, f.query))
	for page, err := range query.CheckSchema(f.ctx, f.table.Name, pages, f.schema) {
		if err != nil {
			f.finish(uncached, err)
			return
		}
		next := scannedPage{page: page}
		if kept {
			if next.packed = f.pack(page); next.packed != nil {
				f.pages = append(f.pages, next.packed)
			} else {
				kept = false
				f.finish(uncached, nil)
			}
		}
		f.publish(next)
		if !f.wait() {
			f.finish(uncached, nil)
			return
		}
	}
	if kept && f.unchanged(f.ctx, f.session, f.query) && f.commit() {
		f.c.store(f.key.Digest, f.schema)
		f.finish(committed, errOver)
		return
	}
	f.finish(uncached, errOver)
}

// publish gives a page to the leader.
func (f *sharedScan) publish(next scannedPage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made == 0 {
		f.first = time.Now()
	}
	f.made++
	if f.leader {
		if next.packed != nil {
			next.packed.retain()
		} else {
			next.page.Record.Retain()
		}
		f.queue = append(f.queue, next)
	}
	f.tell()
}

// wait waits until a page is wanted, and reports whether one is: nobody may be
// there any more.
func (f *sharedScan) wait() bool {
	for {
		f.mu.Lock()
		alone := !f.leader && (f.followers == 0 || f.outcome != scanning)
		asked, changed := f.wanted > f.made, f.changed
		f.mu.Unlock()
		switch {
		case alone || f.ctx.Err() != nil:
			return false
		case asked:
			return true
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
		}
	}
}

// next returns the leader's next page, with its reference; errOver after the
// last one.
func (f *sharedScan) next(ctx context.Context) (scannedPage, error) {
	for {
		f.mu.Lock()
		if len(f.queue) > 0 {
			next := f.queue[0]
			f.queue = slices.Delete(f.queue, 0, 1)
			f.mu.Unlock()
			return next, nil
		}
		err := f.err
		if err == nil && f.wanted <= f.made {
			f.wanted = f.made + 1
			f.tell()
		}
		changed := f.changed
		f.mu.Unlock()
		if err != nil {
			return scannedPage{}, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return scannedPage{}, &sources.Error{Op: "scan", Table: f.key.Table, Kind: sources.Canceled, Err: context.Cause(ctx)}
		}
	}
}

// followerWait is how long a follower waits at least for an answer to become whole,
// once its first page has come. Where that page took longer, it is as long.
const followerWait = 2 * time.Second

// await waits, and has pages read, until the flight is over, and reports whether
// the answer is in the cache. A follower whose context ends, or which has waited
// for too long, has to see for itself.
func (f *sharedScan) await(ctx context.Context) bool {
	for {
		f.mu.Lock()
		if f.outcome != scanning {
			defer f.mu.Unlock()
			return f.outcome == committed
		}
		if f.begun && f.wanted <= f.made {
			f.wanted = f.made + 1
			f.tell()
		}
		changed := f.changed
		var late <-chan time.Time
		var timer *time.Timer
		if f.made > 0 {
			timer = time.NewTimer(time.Until(f.first.Add(max(followerWait, f.first.Sub(f.asked)))))
			late = timer.C
		}
		f.mu.Unlock()
		gone := false
		select {
		case <-changed:
		case <-late:
			gone = true
		case <-ctx.Done():
			gone = true
		}
		if timer != nil {
			timer.Stop()
		}
		if gone {
			return false
		}
	}
}

// leave takes a reader away. The last one ends the flight, and waits until it has
// given everything back; its result is what went wrong when the session was
// closed.
func (f *sharedScan) leave(leads bool) error {
	f.mu.Lock()
	if leads {
		f.leader = false
		for _, s := range f.queue {
			s.release()
		}
		f.queue = nil
	} else {
		f.followers--
	}
	last := !f.leader && f.followers == 0
	f.tell()
	f.mu.Unlock()
	if !last {
		return nil
	}
	f.cancel()
	<-f.ended
	return f.closeErr
}
