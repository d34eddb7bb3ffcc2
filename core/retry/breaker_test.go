package retry_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// TestBreaker tests that the circuit opens after the configured number of failures
// in a row, and closes after a stream succeeds.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []string
		breaker := retry.NewBreaker(retry.BreakerOptions{Failures: 5, Cooldown: 10 * time.Second, OnChange: func(from, to retry.Circuit) {
			changes = append(changes, fmt.Sprint(from, " -> ", to))
		}})
		source := &trouble{Source: coretest.Numbered(t, 5000), plan: []int{0, 0, 0, 0, 0}, err: errCable}
		read := func() error {
			stream, err := core.Open(t.Context(), source, core.Query{Table: "items"}, coretest.SmallMemory(core.Options{Retry: retry.Policy{MaxRetries: 1, Jitter: -1}}), core.Resources{Breaker: breaker})
			if err != nil {
				return err
			}
			_, err = coretest.IDs(stream)
			return err
		}
		var tripped *retry.Tripped
		// A retry scans in the current session first, and then in a new one.
		for i := range 2 {
			if err := read(); sources.KindOf(err) != sources.Unavailable || (i == 1) != errors.As(err, &tripped) {
				t.Errorf("stream %d: %v", i, err)
			}
		}
		asked := len(source.asked)
		state, until := breaker.State()
		err := read()
		if state != retry.CircuitOpen || !errors.As(err, &tripped) || !tripped.Until.Equal(until) || time.Until(until) != 10*time.Second || len(source.asked) != asked {
			t.Errorf("%s until %s: %v", state, until, err)
		}
		text := err.Error()
		time.Sleep(10 * time.Second)
		if later := err.Error(); later != text {
			t.Errorf("the error has changed from %q to %q", text, later)
		}
		if err := read(); err != nil {
			t.Errorf("after the cooldown: %v", err)
		}
		if state, _ := breaker.State(); state != retry.CircuitClosed {
			t.Errorf("the circuit is %s", state)
		}
		if d := cmp.Diff([]string{"closed -> open", "open -> half-open", "half-open -> closed"}, changes); d != "" {
			t.Error(d)
		}
	})
}
