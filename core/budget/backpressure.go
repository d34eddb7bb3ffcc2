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

// Backpressure adapts a stream to the memory there is. Before the pages of a chunk it
// makes sure that there is room for a step: the pages, the chunk that they are
// copied together to, and a page that is being read, twice, since a builder that
// grows has two buffers. What does not fit is made smaller, then waits, then
// fails.
//
// A stream that has nothing but its floor takes steps of one page, which is a
// chunk. So it never waits for memory while it holds what others wait for.
//
// One goroutine at a time asks it for steps; all else is safe for concurrent use.
type Backpressure struct {
	budget   *Budget
	byOwner  *Accounts
	page     sources.Limits
	pressure Pressure
	notify   func(Event)
	started  time.Time

	mu       sync.Mutex
	level    Level
	rows     int64 // of a chunk, at most
	bytes    int64 // of a chunk, at most: what room was made for
	maxRows  int64 // what rows grows to
	rowBytes int64 // of a row in the last chunk, as sources.Size counts
	fitRows  int64 // rows whose relations are about to fit one step; 0 is any number
	patience int   // how many steps a stream is Degraded at least: doubled each time
	steps    int   // taken since it is
	events   []Event
	changes  int
	paused   time.Duration
}

func NewBackpressure(b *Budget, l *Accounts, page sources.Limits, pinned int64, p Pressure, notify func(Event)) *Backpressure {
	g := &Backpressure{
		budget: b, byOwner: l, page: page, pressure: p, notify: notify, started: time.Now(),
		rows: DefaultChunkRows, bytes: page.Bytes, maxRows: MaxChunkRows, patience: 8,
	}
	if pinned > 0 {
		g.rows, g.maxRows = pinned, pinned
	}
	return g
}

// Budget returns the stream's budget, accounts who holds how much of it.
func (g *Backpressure) Budget() *Budget     { return g.budget }
func (g *Backpressure) Accounts() *Accounts { return g.byOwner }

// minStep is the smallest step: a page that is being read, with what its
// allocations are rounded up by.
func (g *Backpressure) minStep() int64 { return 5 * g.page.Bytes / 2 }

// chunkBytes is how large a chunk may be, as sources.Size counts: joining holds
// its pages and the chunk at once.
func (g *Backpressure) chunkBytes() int64 { return max(g.budget.Limit()/16, 1) }

// NextChunk says how large the next chunk may be.
func (g *Backpressure) NextChunk() (rows, bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fitRows > 0 {
		return min(g.rows, g.fitRows), g.bytes
	}
	return g.rows, g.bytes
}

// LimitRows is told after each step of relations how many rows have relations that fit
// one.
func (g *Backpressure) LimitRows(rows int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fitRows = rows
}

// ChunkEmitted is told of each chunk. While there is room, and nobody pinned them,
// chunks grow.
func (g *Backpressure) ChunkEmitted(rows, bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rows > 0 {
		g.rowBytes = bytes / rows
	}
	if g.level == Normal && rows >= g.rows && g.usedPart() < g.pressure.Recover {
		g.rows = min(2*g.rows, g.maxRows)
	}
}

// usedPart is which part of the limit lives.
func (g *Backpressure) usedPart() float64 {
	return float64(g.budget.Live()) / float64(g.budget.Limit())
}

// reserve makes room for a chunk of full size, and lets it have that.
func (g *Backpressure) reserve() error {
	g.mu.Lock()
	chunk := g.page.Bytes
	if g.rowBytes > 0 {
		// A little more than the rows had so far: the byte is not what cuts them.
		chunk = max(chunk, min(g.chunkBytes(), g.rows*g.rowBytes*9/8))
	}
	g.mu.Unlock()
	if err := g.budget.Reserve(g.minStep() + 5*chunk/2); err != nil {
		return err
	}
	g.mu.Lock()
	g.bytes = chunk
	g.mu.Unlock()
	return nil
}

// Calm reports whether memory is plenty. It may be asked by any goroutine.
func (g *Backpressure) Calm() bool { return g.Level() == Normal && g.usedPart() < g.pressure.Degrade }

// MayReadAhead reports whether there is room to fetch a page before it is asked for.
func (g *Backpressure) MayReadAhead() bool {
	return g.Calm() && g.makeRoom() == nil
}

// makeRoom makes room for a page, and where a chunk begins with it for the chunk: in
// the middle of one, what was reserved for it is still there.
func (g *Backpressure) makeRoom() error {
	if g.budget.Reserved() >= g.minStep() {
		return nil
	}
	return g.reserve()
}

// Admit makes room for the next page, or returns the error of a stream that
// cannot go on: [sources.Exhausted], or [sources.Canceled] where the context
// ended.
func (g *Backpressure) Admit(ctx context.Context) error {
	g.chooseLevel()
	switch g.Level() {
	case Normal:
		err := g.makeRoom()
		if err == nil {
			return nil
		}
		g.SetLevel(Degraded, "a step of full size does not fit: "+RefusalText(err))
		fallthrough
	case Degraded:
		if g.budget.Reserve(g.minStep()) == nil {
			return nil
		}
	}
	return g.pause(ctx)
}

func (g *Backpressure) Level() Level {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.level
}

// chooseLevel chooses the level by what lives.
func (g *Backpressure) chooseLevel() {
	used, level := g.usedPart(), g.Level()
	g.mu.Lock()
	g.steps++
	rested := g.steps > g.patience
	g.mu.Unlock()
	why := func() string {
		return fmt.Sprintf("%s of %s live", FormatBytes(g.budget.Live()), FormatBytes(g.budget.Limit()))
	}
	switch {
	case used >= g.pressure.Pause:
		g.SetLevel(Paused, why())
	case used >= g.pressure.Degrade && level == Normal:
		g.SetLevel(Degraded, why())
	case used >= g.pressure.Degrade:
		g.shrink()
	case used < g.pressure.Recover && level == Degraded && rested && g.reserve() == nil:
		g.SetLevel(Normal, why()+", and a step of full size fits")
	}
}

// Report returns what the stream did about memory so far: the first 64 changes of
// level, how many there were, and how long the stream waited for memory.
func (g *Backpressure) Report() (first []Event, changes int, paused time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.events), g.changes, g.paused
}

// shrink halves the chunks once more, as long as the stream is above the line.
func (g *Backpressure) shrink() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rows = max(g.rows/2, min(MinChunkRows, g.maxRows))
}

// SetLevel goes to a level and tells of it.
func (g *Backpressure) SetLevel(to Level, why string) {
	g.mu.Lock()
	from := g.level
	if from == to {
		g.mu.Unlock()
		return
	}
	g.level, g.steps = to, 0
	if to == Normal {
		g.patience *= 2
	} else {
		g.rows, g.bytes = max(g.rows/2, min(MinChunkRows, g.maxRows)), g.page.Bytes
	}
	e := Event{At: time.Since(g.started), From: from, To: to, Why: why, Rows: g.rows, Held: g.byOwner.Breakdown(), Limit: g.budget.Limit()}
	g.changes++
	if len(g.events) < maxEvents {
		g.events = append(g.events, e)
	}
	g.mu.Unlock()
	if to == Degraded {
		// What caches keep is worth less than what is asked for.
		g.budget.reclaimCaches(g.budget.Limit() / 8)
		if p := g.budget.parent; p != nil && float64(p.Held()) >= g.pressure.Degrade*float64(p.Limit()) {
			p.reclaimCaches(p.Limit() / 8)
		}
		g.budget.ReleaseIdle()
	}
	if g.notify != nil {
		g.notify(e)
	}
}

// pause waits until the smallest step fits: for memory that somebody else can
// free. The engine runs on the consumer's own goroutine, so where nobody holds
// any it must not wait.
func (g *Backpressure) pause(ctx context.Context) error {
	begun := time.Now()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.paused += time.Since(begun)
	}()
	wait, cancel := g.pressure.wait(ctx)
	defer cancel()
	for {
		freed := g.budget.released()
		err := g.overLine()
		if err == nil {
			err = g.budget.Reserve(g.minStep())
		}
		if err == nil {
			g.resume()
			return nil
		}
		g.SetLevel(Paused, RefusalText(err))
		own := refusedBy(err, g.budget)
		switch {
		case ctx.Err() != nil:
		case own && !g.consumerHolds(), !own && !g.othersHold() && !g.consumerHolds():
			return g.exhausted(err, begun)
		case own:
			select {
			case <-freed:
				continue
			case <-wait.Done():
			}
		default:
			// The parent serves whoever has waited longest.
			if err = g.budget.ReserveWait(wait, g.minStep()); err == nil {
				g.resume()
				return nil
			}
			if wait.Err() == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			return &sources.Error{Kind: sources.Canceled, Err: context.Cause(ctx)}
		}
		return g.exhausted(err, begun)
	}
}

// overLine returns the refusal of a stream that is still above the line at which it
// goes on: halfway between those at which it degrades and pauses, so that a
// consumer at one of them does not make it go to and fro.
func (g *Backpressure) overLine() error {
	line := (g.pressure.Degrade + g.pressure.Pause) / 2
	if g.Level() != Paused {
		line = g.pressure.Pause
	}
	if g.usedPart() < line {
		return nil
	}
	return g.budget.wouldRefuse(g.minStep())
}

// resume goes on in small steps.
func (g *Backpressure) resume() {
	g.SetLevel(Degraded, fmt.Sprintf("%s of %s live, and a small step fits", FormatBytes(g.budget.Live()), FormatBytes(g.budget.Limit())))
}

// consumerHolds reports whether the consumer has something to give back. What a
// source keeps between its pages looks like the consumer's; it is far less.
func (g *Backpressure) consumerHolds() bool {
	return g.byOwner.chunks.Load() > 0 || g.byOwner.Breakdown()[Consumer] > g.budget.Limit()/4
}

// othersHold reports whether other streams have memory of the parent's.
func (g *Backpressure) othersHold() bool {
	p := g.budget.parent
	return p != nil && p.Held() > g.budget.chargedToParent()
}

func (g *Backpressure) exhausted(err error, begun time.Time) error {
	var refusal *Refusal
	errors.As(err, &refusal)
	return &sources.Error{Kind: sources.Exhausted, Err: &Shortage{
		Held: g.byOwner.Breakdown(), Limit: g.budget.Limit(), Chunks: g.byOwner.chunks.Load(),
		Waited: time.Since(begun).Round(time.Millisecond), Refusal: refusal,
	}}
}
