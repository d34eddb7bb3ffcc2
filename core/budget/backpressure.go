package budget

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// Backpressure adapts a stream to the memory that is available. Before each chunk it
// reserves memory for a step: the pages of the chunk, the chunk that they are copied
// into, and twice the page that is being read, since a growing builder has two
// buffers at once. If a full-size step does not fit, Backpressure first makes the
// chunks smaller, then waits, and finally fails.
//
// A stream that has only its floor takes steps of one page, which becomes a chunk.
// It therefore never waits for memory while it holds memory that others wait for.
//
// [Backpressure.Admit] and [Backpressure.MayReadAhead] must be called by one
// goroutine at a time. The other methods are safe for concurrent use.
type Backpressure struct {
	budget   *Budget
	accounts *Accounts
	page     sources.Limits
	pressure Pressure
	onEvent  func(Event) // or nil
	started  time.Time

	mu           sync.Mutex
	level        Level
	rows         int64 // maximum of rows per chunk
	bytes        int64 // maximum of bytes per chunk, for which memory is reserved
	maxRows      int64 // what rows may grow to
	rowBytes     int64 // average size of a row in the last chunk, as sources.Size counts
	relationRows int64 // how many rows have relations that fit in one batch; 0 if unlimited
	minDegraded  int   // how many steps the stream stays Degraded at least; doubles each time
	stepsAtLevel int   // steps since the level changed
	events       []Event
	changes      int
	waited       time.Duration
}

// NewBackpressure returns the backpressure of a stream with the given budget,
// accounts and page size. If chunkRows is positive, chunks start with that many rows
// and do not grow beyond it. onEvent, if non-nil, is called when the level changes, on
// the goroutine that changes it.
func NewBackpressure(budget *Budget, accounts *Accounts, page sources.Limits, chunkRows int64, p Pressure, onEvent func(Event)) *Backpressure {
	b := &Backpressure{
		budget: budget, accounts: accounts, page: page, pressure: p, onEvent: onEvent, started: time.Now(),
		rows: DefaultChunkRows, bytes: page.Bytes, maxRows: MaxChunkRows, minDegraded: 8,
	}
	if chunkRows > 0 {
		b.rows, b.maxRows = chunkRows, chunkRows
	}
	return b
}

// Budget returns the stream's budget.
func (b *Backpressure) Budget() *Budget { return b.budget }

// Accounts returns the accounts of the stream's budget.
func (b *Backpressure) Accounts() *Accounts { return b.accounts }

// minStep returns the bytes of the smallest step: the page that is being read, twice,
// and what its allocations are rounded up by.
func (b *Backpressure) minStep() int64 { return 5 * b.page.Bytes / 2 }

// chunkBytes returns the maximum size of a chunk, as sources.Size counts. It is a
// small part of the limit, since building a chunk needs its pages and the chunk at
// once.
func (b *Backpressure) chunkBytes() int64 { return max(b.budget.Limit()/16, 1) }

// NextChunk returns the maximum size of the next chunk, in rows and in bytes as
// [sources.Size] counts.
func (b *Backpressure) NextChunk() (rows, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.relationRows > 0 {
		return min(b.rows, b.relationRows), b.bytes
	}
	return b.rows, b.bytes
}

// LimitRows limits chunks to the number of rows whose relations fit in one batch, as
// the relations loaded last have shown. If rows is 0, there is no such limit.
func (b *Backpressure) LimitRows(rows int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.relationRows = rows
}

// ChunkEmitted records the size of a chunk that was made, in rows and in bytes as
// [sources.Size] counts. While there is enough memory, later chunks grow.
func (b *Backpressure) ChunkEmitted(rows, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if rows > 0 {
		b.rowBytes = bytes / rows
	}
	if b.level == Normal && rows >= b.rows && b.usedFraction() < b.pressure.Recover {
		b.rows = min(2*b.rows, b.maxRows)
	}
}

// usedFraction returns live memory as a fraction of the limit.
func (b *Backpressure) usedFraction() float64 {
	return float64(b.budget.Live()) / float64(b.budget.Limit())
}

// reserve reserves memory for a full-size step, and sets the size of the chunk to
// that.
func (b *Backpressure) reserve() error {
	b.mu.Lock()
	chunk := b.page.Bytes
	if b.rowBytes > 0 {
		// An eighth more than before, so that chunks are limited by rows, not bytes.
		chunk = max(chunk, min(b.chunkBytes(), b.rows*b.rowBytes*9/8))
	}
	b.mu.Unlock()
	if err := b.budget.Reserve(b.minStep() + 5*chunk/2); err != nil {
		return err
	}
	b.mu.Lock()
	b.bytes = chunk
	b.mu.Unlock()
	return nil
}

// Calm reports whether there is enough memory for optional work, such as scanning
// partitions in parallel.
func (b *Backpressure) Calm() bool {
	return b.Level() == Normal && b.usedFraction() < b.pressure.Degrade
}

// MayReadAhead reports whether there is enough memory to fetch a page before it is
// needed, and reserves it.
func (b *Backpressure) MayReadAhead() bool {
	return b.Calm() && b.makeRoom() == nil
}

// makeRoom ensures that memory for the next page is reserved. In the middle of a
// chunk, the rest of its reservation usually suffices; otherwise makeRoom reserves a
// full-size step.
func (b *Backpressure) makeRoom() error {
	if b.budget.Reserved() >= b.minStep() {
		return nil
	}
	return b.reserve()
}

// Admit reserves memory for the next page. If there is not enough, it makes chunks
// smaller, and then waits up to [Pressure.MaxWait] as long as others can release
// memory. If none becomes available, the error is of kind [sources.Exhausted], with a
// [Shortage] as its cause; if ctx ends first, it is of kind [sources.Canceled].
func (b *Backpressure) Admit(ctx context.Context) error {
	b.chooseLevel()
	switch b.Level() {
	case Normal:
		err := b.makeRoom()
		if err == nil {
			return nil
		}
		b.SetLevel(Degraded, "a full-size step does not fit: "+RefusalText(err))
		fallthrough
	case Degraded:
		if b.budget.Reserve(b.minStep()) == nil {
			return nil
		}
	}
	return b.pause(ctx)
}

// Level returns the stream's current level.
func (b *Backpressure) Level() Level {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.level
}

// chooseLevel sets the level according to the live memory.
func (b *Backpressure) chooseLevel() {
	used, level := b.usedFraction(), b.Level()
	b.mu.Lock()
	b.stepsAtLevel++
	mayRecover := b.stepsAtLevel > b.minDegraded
	b.mu.Unlock()
	why := func() string {
		return fmt.Sprintf("%s of %s in use", FormatBytes(b.budget.Live()), FormatBytes(b.budget.Limit()))
	}
	switch {
	case used >= b.pressure.Pause:
		b.SetLevel(Paused, why())
	case used >= b.pressure.Degrade && level == Normal:
		b.SetLevel(Degraded, why())
	case used >= b.pressure.Degrade:
		b.shrink()
	case used < b.pressure.Recover && level == Degraded && mayRecover && b.reserve() == nil:
		b.SetLevel(Normal, why()+", and a full-size step fits")
	}
}

// Report returns the first 64 changes of level, how many there have been, and how long
// the stream has waited for memory.
func (b *Backpressure) Report() (first []Event, changes int, waited time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events), b.changes, b.waited
}

// shrink halves the size of chunks, down to [MinChunkRows].
func (b *Backpressure) shrink() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = max(b.rows/2, min(MinChunkRows, b.maxRows))
}

// SetLevel changes the level, and reports that as an [Event] with the reason why. If
// the level is the same, it does nothing.
func (b *Backpressure) SetLevel(to Level, why string) {
	b.mu.Lock()
	from := b.level
	if from == to {
		b.mu.Unlock()
		return
	}
	b.level, b.stepsAtLevel = to, 0
	if to == Normal {
		b.minDegraded *= 2
	} else {
		b.rows, b.bytes = max(b.rows/2, min(MinChunkRows, b.maxRows)), b.page.Bytes
	}
	e := Event{At: time.Since(b.started), From: from, To: to, Why: why, Rows: b.rows, Held: b.accounts.Breakdown(), Limit: b.budget.Limit()}
	b.changes++
	if len(b.events) < maxEvents {
		b.events = append(b.events, e)
	}
	b.mu.Unlock()
	if to == Degraded {
		// What caches keep is worth less than what the stream needs.
		b.budget.reclaimCaches(b.budget.Limit() / 8)
		if p := b.budget.parent; p != nil && float64(p.Held()) >= b.pressure.Degrade*float64(p.Limit()) {
			p.reclaimCaches(p.Limit() / 8)
		}
		b.budget.ReleaseIdle()
	}
	if b.onEvent != nil {
		b.onEvent(e)
	}
}

// pause waits until the smallest step fits. The engine runs on the consumer's own
// goroutine, so it waits only if others, or records that the consumer has retained,
// hold memory that can be released in the meantime.
func (b *Backpressure) pause(ctx context.Context) error {
	start := time.Now()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.waited += time.Since(start)
	}()
	waitCtx, cancel := b.pressure.wait(ctx)
	defer cancel()
	for {
		freed := b.budget.released()
		err := b.checkUsage()
		if err == nil {
			err = b.budget.Reserve(b.minStep())
		}
		if err == nil {
			b.resume()
			return nil
		}
		b.SetLevel(Paused, RefusalText(err))
		ownLimit := refusedBy(err, b.budget)
		switch {
		case ctx.Err() != nil:
		case ownLimit && !b.consumerHolds(), !ownLimit && !b.othersHold() && !b.consumerHolds():
			return b.exhausted(err, start)
		case ownLimit:
			select {
			case <-freed:
				continue
			case <-waitCtx.Done():
			}
		default:
			// The parent serves the oldest waiter first.
			if err = b.budget.ReserveWait(waitCtx, b.minStep()); err == nil {
				b.resume()
				return nil
			}
			if waitCtx.Err() == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			return sources.NewError(sources.Canceled, "", "", context.Cause(ctx))
		}
		return b.exhausted(err, start)
	}
}

// checkUsage returns a refusal if live memory is above the threshold for fetching. A
// paused stream resumes halfway between the thresholds for Degraded and Paused, so
// that it does not oscillate around one of them.
func (b *Backpressure) checkUsage() error {
	threshold := (b.pressure.Degrade + b.pressure.Pause) / 2
	if b.Level() != Paused {
		threshold = b.pressure.Pause
	}
	if b.usedFraction() < threshold {
		return nil
	}
	return b.budget.refusal(b.minStep())
}

// resume ends a pause: the stream continues Degraded.
func (b *Backpressure) resume() {
	b.SetLevel(Degraded, fmt.Sprintf("%s of %s in use, and a minimal step fits", FormatBytes(b.budget.Live()), FormatBytes(b.budget.Limit())))
}

// consumerHolds reports whether the consumer has memory to release. Memory that a
// source keeps between pages is attributed to the consumer too, but it is much less
// than the threshold.
func (b *Backpressure) consumerHolds() bool {
	return b.accounts.chunks.Load() > 0 || b.accounts.Breakdown()[Consumer] > b.budget.Limit()/4
}

// othersHold reports whether others hold memory of the parent.
func (b *Backpressure) othersHold() bool {
	p := b.budget.parent
	return p != nil && p.Held() > b.budget.chargedToParent()
}

// exhausted returns the error of a stream that ran out of memory, where err is the
// last refusal.
func (b *Backpressure) exhausted(err error, start time.Time) error {
	var refusal *Refusal
	errors.As(err, &refusal)
	return sources.NewError(sources.Exhausted, "", "", &Shortage{
		Held: b.accounts.Breakdown(), Limit: b.budget.Limit(), Chunks: b.accounts.chunks.Load(),
		Waited: time.Since(start).Round(time.Millisecond), Refusal: refusal,
	})
}
