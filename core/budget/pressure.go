package budget

import (
	"context"
	"time"

	"github.com/penstock-data/penstock/sources"
)

const (
	// DefaultChunkRows is the size of the first chunk, in rows.
	DefaultChunkRows = 1000
	// MinChunkRows is the size, in rows, down to which chunks shrink when memory is
	// short.
	MinChunkRows = 100
	// MaxChunkRows is the size, in rows, up to which chunks grow while there is
	// enough memory.
	MaxChunkRows = 64 << 10
	// DefaultMaxWait is the default of [Pressure.MaxWait].
	DefaultMaxWait = 30 * time.Second
)

// Pressure configures when a stream changes its [Level], and how long it waits for
// memory. Degrade, Pause and Recover are fractions of the stream's limit, compared
// with its live memory: 0 < Recover < Degrade < Pause <= 1. A field that is zero
// has its default.
type Pressure struct {
	Degrade float64 // a stream that uses this much becomes Degraded; default 0.8
	Pause   float64 // a stream that uses this much becomes Paused; default 0.95
	Recover float64 // a Degraded stream that uses less than this becomes Normal; default 0.6
	// MaxWait is how long a stream waits for memory, before it is opened and each
	// time that it is Paused. The default is 30 s. If MaxWait is negative, the
	// stream does not wait.
	MaxWait time.Duration
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

// Check returns an error of kind [sources.Invalid] if p, with its defaults, is not
// valid. The zero value is valid.
func (p Pressure) Check() error {
	d := p.OrDefault()
	if 0 < d.Recover && d.Recover < d.Degrade && d.Degrade < d.Pause && d.Pause <= 1 {
		return nil
	}
	return sources.Errorf(sources.Invalid, "stream", "",
		"Pressure must satisfy 0 < Recover < Degrade < Pause <= 1 (got Recover %g, Degrade %g, Pause %g)", d.Recover, d.Degrade, d.Pause)
}

// wait returns a context that ends after MaxWait.
func (p Pressure) wait(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.MaxWait < 0 {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, p.MaxWait)
}

// Floor returns the floor of a stream with pages of that size, in bytes. It is enough
// for the smallest step of the stream, while a part of the page before waits to become
// the next chunk.
func Floor(page sources.Limits) int64 { return 4 * page.Bytes }

// AdmitStream waits until the parent of b has room for floor bytes, which b then
// keeps until it is closed. With its floor, a stream can always take its smallest
// step.
//
// If there is no room within [Pressure.MaxWait], the error is of kind
// [sources.Exhausted]; if ctx ends first, it is of kind [sources.Canceled].
func AdmitStream(ctx context.Context, b *Budget, floor int64, p Pressure) error {
	wait, cancel := p.wait(ctx)
	defer cancel()
	err := b.Admit(wait, floor)
	if err != nil && ctx.Err() != nil {
		return sources.NewError(sources.Canceled, "", "", context.Cause(ctx))
	}
	if err != nil {
		return sources.Errorf(sources.Exhausted, "", "", "no room for another stream: %w; close a stream, or raise the host's memory limit", refusalOf(err))
	}
	return nil
}
