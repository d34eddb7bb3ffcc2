package budget

import (
	"errors"
	"fmt"
	"time"
)

// refusalOf returns the [*Refusal] in err, without the kind of error around it, or
// err if there is none.
func refusalOf(err error) error {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal
	}
	return err
}

// RefusalText returns the text of the [*Refusal] in err, or of err if there is none.
func RefusalText(err error) string { return refusalOf(err).Error() }

// refusedBy reports whether err is a refusal of b, and not of a budget above it.
func refusedBy(err error, b *Budget) bool {
	var refusal *Refusal
	return errors.As(err, &refusal) && refusal.Budget == b.name
}

// Shortage is the cause of the [sources.Exhausted] error of a stream that ran out
// of memory.
type Shortage struct {
	Held    Breakdown
	Limit   int64         // the stream's memory limit, in bytes
	Chunks  int64         // chunks that the consumer has not released
	Waited  time.Duration // how long the stream waited for memory
	Refusal *Refusal      // of the step that did not fit; nil if none was tried
}

// Error lists memory use and a remedy, as in "consumer holds 61.0 MiB of 64.0 MiB
// in 12 chunks; release them".
func (s *Shortage) Error() string {
	waited := ""
	if s.Waited > 0 {
		waited = fmt.Sprintf(", after waiting %s", s.Waited)
	}
	if s.Chunks > 0 && s.Held[Consumer] > s.Held.Total()/2 {
		return fmt.Sprintf("consumer holds %s of %s in %d chunks%s; release them", FormatBytes(s.Held[Consumer]), FormatBytes(s.Limit), s.Chunks, waited)
	}
	return fmt.Sprintf("%v (%s)%s; raise the memory limit", s.Refusal, s.Held, waited)
}

// Unwrap returns the refusal, or nil if there is none.
func (s *Shortage) Unwrap() error {
	if s.Refusal == nil {
		return nil
	}
	return s.Refusal
}
