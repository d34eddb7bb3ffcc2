package process_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

// hog opens the plugin that allocates memory.
func hog(t *testing.T, o wall.Options, options map[string]string) *process.Source {
	t.Helper()
	o.Command, o.Name = []string{hogFile(t)}, "hog"
	clean(t)
	source, err := process.Open(t.Context(), o, sources.Config{Options: options})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	})
	return source.(*process.Source)
}

const isolateCap = 256 << 20

// TestHog checks that a plugin which allocates memory is killed at its cap, that its
// stream reports this, that other streams continue, and that the next session works.
func TestHog(t *testing.T) {
	for _, rate := range []string{"200e6", "2e9"} {
		t.Run(rate, func(t *testing.T) {
			source := hog(t, wall.Options{Memory: isolateCap}, map[string]string{"rate": rate})
			modest := func() {
				stream, err := core.Open(t.Context(), source, core.Query{Table: "modest"}, core.Options{Memory: 4 << 20}, core.Resources{})
				if err != nil {
					t.Error(err)
					return
				}
				for _, err := range stream.Chunks() {
					if err != nil {
						t.Error(err)
					}
				}
				if r := stream.Receipt(); r.Rows != 10 || !r.Complete {
					t.Errorf("another stream's receipt is %+v", r)
				}
			}
			hogged := make(chan struct{})
			var others sync.WaitGroup
			others.Go(func() {
				for {
					modest()
					select {
					case <-hogged:
						return
					default:
					}
				}
			})
			session := begin(t, source, memory.DefaultAllocator)
			_, err := rows(t.Context(), session, "hog")
			close(hogged)
			others.Wait()
			var excess *process.Excess
			if sources.KindOf(err) != sources.Exhausted || !errors.As(err, &excess) {
				t.Fatalf("the scan ends with %v", err)
			}
			if excess.Limit != isolateCap || excess.Held <= isolateCap || !strings.HasPrefix(err.Error(), `scan hog: exhausted: plugin "hog" held `) || !strings.Contains(err.Error(), " MiB of its 256 MiB") {
				t.Errorf("the error is %v, with %+v", err, excess)
			}
			if _, peak, limit := session.(interface {
				SandboxMemory() (held, peak, limit int64)
			}).SandboxMemory(); peak < excess.Held || limit != isolateCap {
				t.Errorf("the session says its isolate had %d of %d bytes", peak, limit)
			}
			if _, err := session.Plan(t.Context(), &sources.Query{Table: "hog"}); sources.KindOf(err) != sources.Exhausted {
				t.Errorf("what is asked after that: %v", err)
			}
			end(t, session)
			modest()
		})
	}
}

// TestHogWhileOpening checks that the cap also applies before the source is open.
func TestHogWhileOpening(t *testing.T) {
	file := hogFile(t)
	clean(t)
	_, err := process.Open(t.Context(), wall.Options{Command: []string{file}, Memory: 64 << 20}, sources.Config{Options: map[string]string{"rate": "1e9", "at": "open"}})
	if sources.KindOf(err) != sources.Exhausted || !strings.HasPrefix(err.Error(), `open: exhausted: plugin "hog" held `) {
		t.Errorf("it opens with %v", err)
	}
}

// TestPeaked checks that a process that came close to its cap is not used again.
func TestPeaked(t *testing.T) {
	for until, reused := range map[string]bool{"50e6": true, "230e6": false} {
		t.Run(until, func(t *testing.T) {
			source := hog(t, wall.Options{Memory: isolateCap}, map[string]string{"rate": "1e9", "until": until})
			first := pids(source)
			session := begin(t, source, memory.DefaultAllocator)
			if n, err := rows(t.Context(), session, "hog"); err != nil || n != 10 {
				t.Fatalf("%d rows, %v", n, err)
			}
			end(t, session)
			next := begin(t, source, memory.DefaultAllocator)
			if got := slices.Contains(pids(source), first[0]); got != reused {
				t.Errorf("%v serves again: %t, want %t", first, got, reused)
			}
			end(t, next)
		})
	}
}

// TestNextInterval checks that the interval is the shorter, the closer a process is
// to its cap.
func TestNextInterval(t *testing.T) {
	for room, want := range map[int64]time.Duration{0: 2 * time.Millisecond, 1 << 20: 2 * time.Millisecond, 128 << 20: 31250 * time.Microsecond, 8 << 30: 100 * time.Millisecond} {
		if got := process.NextInterval(room); got != want {
			t.Errorf("with %d bytes of room the next look is after %s, want %s", room, got, want)
		}
	}
}
