package budget

import (
	"context"
	"fmt"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// How a stream goes about memory when nobody says otherwise.
const (
	// DefaultChunkRows is how many rows a chunk has at first.
	DefaultChunkRows = 1000
	// MinChunkRows is how many rows a chunk has when memory is short.
	MinChunkRows = 100
	// MaxChunkRows is how many rows a chunk grows to while there is room.
	MaxChunkRows = 64 << 10
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

// Floor is the floor of a stream with such pages: what its smallest step takes,
// beside a page of which a part waits to become the next chunk.
func Floor(page sources.Limits) int64 { return 4 * page.Bytes }

// AdmitStream waits until the budget has its floor, which is the stream's for as
// long as it is open: with it, it can always take its smallest step.
func AdmitStream(ctx context.Context, b *Budget, floor int64, p Pressure) error {
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
