package budget

import (
	"errors"
	"fmt"
	"time"
)

// refusalOf is the refusal in an error, without its kind.
func refusalOf(err error) error {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal
	}
	return err
}

func RefusalText(err error) string { return refusalOf(err).Error() }

func refusedBy(err error, b *Budget) bool {
	var refusal *Refusal
	return errors.As(err, &refusal) && refusal.Budget == b.name
}

// Shortage is the cause of the [sources.Exhausted] error of a stream that cannot
// go on.
type Shortage struct {
	Held    Breakdown
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
