package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// How a stream goes about memory when nobody says otherwise.
const (
	// DefaultChunkRows is how many rows a chunk has at first.
	DefaultChunkRows = 1000
	// LeastChunkRows is how many rows a chunk has when memory is short.
	LeastChunkRows = 100
	// MostChunkRows is how many rows a chunk grows to while there is room.
	MostChunkRows = 64 << 10
	// DefaultMaxWait is how long a stream waits for memory.
	DefaultMaxWait = 30 * time.Second
)

// Pressure says where the levels of a stream lie, as parts of its limit, and how
// long it waits. The zero value of a field is its default.
type Pressure struct {
	Degrade float64       // at so much a stream is Degraded: 0.8
	Pause   float64       // at so much it is Paused: 0.95
	Recover float64       // below so much it is Normal again: 0.6
	MaxWait time.Duration // how long it is Paused, and waits to be admitted: 30 s; less than 0 not at all
}

// OrDefault returns p with its zero fields replaced by the defaults.
func (p Pressure) OrDefault() Pressure {
	if p.Degrade == 0 {
		p.Degrade = 0.80
	}
	if p.Pause == 0 {
		p.Pause = 0.95
	}
	if p.Recover == 0 {
		p.Recover = 0.60
	}
	if p.MaxWait == 0 {
		p.MaxWait = DefaultMaxWait
	}
	return p
}

// Check returns what is wrong with p, an error of kind [sources.Invalid]; the
// zero value is good.
func (p Pressure) Check() error {
	d := p.OrDefault()
	if 0 < d.Recover && d.Recover < d.Degrade && d.Degrade < d.Pause && d.Pause <= 1 {
		return nil
	}
	return &sources.Error{Op: "stream", Kind: sources.Invalid, Err: fmt.Errorf(
		"Pressure: Recover %g, Degrade %g and Pause %g must be parts of the limit in this order", d.Recover, d.Degrade, d.Pause)}
}

// wait returns a context that ends when a stream has waited for as long as it
// may.
func (p Pressure) wait(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.MaxWait < 0 {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, p.MaxWait)
}

// governor adapts a stream to the memory there is. Before the pages of a chunk it
// makes sure that there is room for a step: the pages, the chunk that they are
// copied together to, and a page that is being read, twice, since a builder that
// grows has two buffers. What does not fit is made smaller, then waits, then
// fails.
//
// A stream that has nothing but its floor takes steps of one page, which is a
// chunk. So it never waits for memory while it holds what others wait for.
//
// One goroutine at a time asks it for steps; all else is safe for concurrent use.
type governor struct {
	budget   *Budget
	ledger   *ledger
	page     sources.Limits
	pressure Pressure
	notify   func(Event)
	started  time.Time

	mu       sync.Mutex
	level    Level
	rows     int64 // of a chunk, at most
	bytes    int64 // of a chunk, at most: what room was made for
	most     int64 // what rows grows to
	rowBytes int64 // of a row in the last chunk, as sources.Size counts
	fit      int64 // rows whose relations are about to fit one step; 0 is any number
	patience int   // how many steps a stream is Degraded at least: doubled each time
	steps    int   // taken since it is
	events   []Event
	changes  int
	paused   time.Duration
}

func newGovernor(b *Budget, l *ledger, page sources.Limits, pinned int64, p Pressure, notify func(Event)) *governor {
	g := &governor{
		budget: b, ledger: l, page: page, pressure: p, notify: notify, started: time.Now(),
		rows: DefaultChunkRows, bytes: page.Bytes, most: MostChunkRows, patience: 8,
	}
	if pinned > 0 {
		g.rows, g.most = pinned, pinned
	}
	return g
}

// budgetOf returns the stream's budget, accounts who holds how much of it.
func (g *governor) budgetOf() *Budget { return g.budget }
func (g *governor) accounts() *ledger { return g.ledger }

// least is the floor of a stream with such pages: what its smallest step takes,
// beside a page of which a part waits to become the next chunk.
func least(page sources.Limits) int64 { return 4 * page.Bytes }

// smallest is the smallest step: a page that is being read, with what its
// allocations are rounded up by.
func (g *governor) smallest() int64 { return 5 * g.page.Bytes / 2 }

// chunkBytes is how large a chunk may be, as sources.Size counts: joining holds
// its pages and the chunk at once.
func (g *governor) chunkBytes() int64 { return max(g.budget.Limit()/16, 1) }

// next says how large the next chunk may be.
func (g *governor) next() (rows, bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fit > 0 {
		return min(g.rows, g.fit), g.bytes
	}
	return g.rows, g.bytes
}

// fits is told after each step of relations how many rows have relations that fit
// one.
func (g *governor) fits(rows int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fit = rows
}

// emitted is told of each chunk. While there is room, and nobody pinned them,
// chunks grow.
func (g *governor) emitted(rows, bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rows > 0 {
		g.rowBytes = bytes / rows
	}
	if g.level == Normal && rows >= g.rows && g.used() < g.pressure.Recover {
		g.rows = min(2*g.rows, g.most)
	}
}

// used is which part of the limit lives.
func (g *governor) used() float64 {
	return float64(g.budget.Live()) / float64(g.budget.Limit())
}

// reserve makes room for a chunk of full size, and lets it have that.
func (g *governor) reserve() error {
	g.mu.Lock()
	chunk := g.page.Bytes
	if g.rowBytes > 0 {
		// A little more than the rows had so far: the byte is not what cuts them.
		chunk = max(chunk, min(g.chunkBytes(), g.rows*g.rowBytes*9/8))
	}
	g.mu.Unlock()
	if err := g.budget.Reserve(g.smallest() + 5*chunk/2); err != nil {
		return err
	}
	g.mu.Lock()
	g.bytes = chunk
	g.mu.Unlock()
	return nil
}

// calm reports whether memory is plenty. It may be asked by any goroutine.
func (g *governor) calm() bool { return g.levelNow() == Normal && g.used() < g.pressure.Degrade }

// ahead reports whether there is room to fetch a page before it is asked for.
func (g *governor) ahead() bool {
	return g.calm() && g.room() == nil
}

// room makes room for a page, and where a chunk begins with it for the chunk: in
// the middle of one, what was reserved for it is still there.
func (g *governor) room() error {
	if g.budget.Reserved() >= g.smallest() {
		return nil
	}
	return g.reserve()
}

// admit makes room for the next page, or returns the error of a stream that
// cannot go on: [sources.Exhausted], or [sources.Canceled] where the context
// ended.
func (g *governor) admit(ctx context.Context) error {
	g.settle()
	switch g.levelNow() {
	case Normal:
		err := g.room()
		if err == nil {
			return nil
		}
		g.change(Degraded, "a step of full size does not fit: "+cause(err))
		fallthrough
	case Degraded:
		if g.budget.Reserve(g.smallest()) == nil {
			return nil
		}
	}
	return g.pause(ctx)
}

func (g *governor) levelNow() Level {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.level
}

// settle chooses the level by what lives.
func (g *governor) settle() {
	used, level := g.used(), g.levelNow()
	g.mu.Lock()
	g.steps++
	rested := g.steps > g.patience
	g.mu.Unlock()
	why := func() string {
		return fmt.Sprintf("%s of %s live", FormatBytes(g.budget.Live()), FormatBytes(g.budget.Limit()))
	}
	switch {
	case used >= g.pressure.Pause:
		g.change(Paused, why())
	case used >= g.pressure.Degrade && level == Normal:
		g.change(Degraded, why())
	case used >= g.pressure.Degrade:
		g.shrink()
	case used < g.pressure.Recover && level == Degraded && rested && g.reserve() == nil:
		g.change(Normal, why()+", and a step of full size fits")
	}
}

// report returns what the stream did about memory so far: the first 64 changes of
// level, how many there were, and how long the stream waited for memory.
func (g *governor) report() (first []Event, changes int, paused time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.events), g.changes, g.paused
}

// admission waits until the budget has its floor, which is the stream's for as
// long as it is open: with it, it can always take its smallest step.
func admission(ctx context.Context, b *Budget, floor int64, p Pressure) error {
	wait, cancel := p.wait(ctx)
	defer cancel()
	err := b.Admit(wait, floor)
	if err != nil && ctx.Err() != nil {
		return &sources.Error{Kind: sources.Canceled, Err: context.Cause(ctx)}
	}
	if err != nil {
		return &sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("no room for another stream: %w; close one, or give the host more memory", refusalOf(err))}
	}
	return nil
}

// shrink halves the chunks once more, as long as the stream is above the line.
func (g *governor) shrink() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rows = max(g.rows/2, min(LeastChunkRows, g.most))
}

// change goes to a level and tells of it.
func (g *governor) change(to Level, why string) {
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
		g.rows, g.bytes = max(g.rows/2, min(LeastChunkRows, g.most)), g.page.Bytes
	}
	e := Event{At: time.Since(g.started), From: from, To: to, Why: why, Rows: g.rows, Held: g.ledger.now(), Limit: g.budget.Limit()}
	g.changes++
	if len(g.events) < mostEvents {
		g.events = append(g.events, e)
	}
	g.mu.Unlock()
	if to == Degraded {
		// What caches keep is worth less than what is asked for.
		g.budget.shorten(g.budget.Limit() / 8)
		if p := g.budget.parent; p != nil && float64(p.Held()) >= g.pressure.Degrade*float64(p.Limit()) {
			p.shorten(p.Limit() / 8)
		}
		g.budget.shed()
	}
	if g.notify != nil {
		g.notify(e)
	}
}

// pause waits until the smallest step fits: for memory that somebody else can
// free. The engine runs on the consumer's own goroutine, so where nobody holds
// any it must not wait.
func (g *governor) pause(ctx context.Context) error {
	begun := time.Now()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.paused += time.Since(begun)
	}()
	wait, cancel := g.pressure.wait(ctx)
	defer cancel()
	for {
		freed := g.budget.waits()
		err := g.full()
		if err == nil {
			err = g.budget.Reserve(g.smallest())
		}
		if err == nil {
			g.resume()
			return nil
		}
		g.change(Paused, cause(err))
		own := isRefusalOf(err, g.budget)
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
			if err = g.budget.ReserveWait(wait, g.smallest()); err == nil {
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

// full returns the refusal of a stream that is still above the line at which it
// goes on: halfway between those at which it degrades and pauses, so that a
// consumer at one of them does not make it go to and fro.
func (g *governor) full() error {
	line := (g.pressure.Degrade + g.pressure.Pause) / 2
	if g.levelNow() != Paused {
		line = g.pressure.Pause
	}
	if g.used() < line {
		return nil
	}
	return g.budget.refusal(g.smallest())
}

// resume goes on in small steps.
func (g *governor) resume() {
	g.change(Degraded, fmt.Sprintf("%s of %s live, and a small step fits", FormatBytes(g.budget.Live()), FormatBytes(g.budget.Limit())))
}

// consumerHolds reports whether the consumer has something to give back. What a
// source keeps between its pages looks like the consumer's; it is far less.
func (g *governor) consumerHolds() bool {
	return g.ledger.chunks.Load() > 0 || g.ledger.now()[Consumer] > g.budget.Limit()/4
}

// othersHold reports whether other streams have memory of the parent's.
func (g *governor) othersHold() bool {
	p := g.budget.parent
	return p != nil && p.Held() > g.budget.chargedNow()
}

func (g *governor) exhausted(err error, begun time.Time) error {
	var refusal *Refusal
	errors.As(err, &refusal)
	return &sources.Error{Kind: sources.Exhausted, Err: &Shortage{
		Held: g.ledger.now(), Limit: g.budget.Limit(), Chunks: g.ledger.chunks.Load(),
		Waited: time.Since(begun).Round(time.Millisecond), Refusal: refusal,
	}}
}

// refusalOf is the refusal in an error, without its kind.
func refusalOf(err error) error {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal
	}
	return err
}

func cause(err error) string { return refusalOf(err).Error() }

func isRefusalOf(err error, b *Budget) bool {
	var refusal *Refusal
	return errors.As(err, &refusal) && refusal.Budget == b.name
}

// Shortage is the cause of the [sources.Exhausted] error of a stream that cannot
// go on.
type Shortage struct {
	Held    Holding
	Limit   int64         // bytes
	Chunks  int64         // that the consumer has not released
	Waited  time.Duration // for memory
	Refusal *Refusal      // of the step that did not fit; nil where none was tried
}

// Error says who holds what, and what helps: "consumer holds 61.0 MiB of 64.0 MiB
// in 12 chunks; release them".
func (s *Shortage) Error() string {
	waited := ""
	if s.Waited > 0 {
		waited = fmt.Sprintf(", after %s of waiting", s.Waited)
	}
	if s.Chunks > 0 && s.Held[Consumer] > s.Held.Total()/2 {
		return fmt.Sprintf("consumer holds %s of %s in %d chunks%s; release them", FormatBytes(s.Held[Consumer]), FormatBytes(s.Limit), s.Chunks, waited)
	}
	return fmt.Sprintf("%v (%s)%s; give it more memory", s.Refusal, s.Held, waited)
}

// Unwrap returns the refusal.
func (s *Shortage) Unwrap() error {
	if s.Refusal == nil {
		return nil
	}
	return s.Refusal
}
