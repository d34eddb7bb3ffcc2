package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

// TestRegistry checks that a stream is in the registry from its opening until after
// its end, and can be paused, resumed and canceled there.
func TestRegistry(t *testing.T) {
	h := newHost(t, &numbers{})
	events := h.Subscribe(1000)
	defer events.Close()
	_, stream := openNumbers(t, h)
	defer stream.Close()
	r := h.Stream(stream.Name())
	if r == nil || r.Name != "numbers-1" || r.Health().Status != core.StatusOpen || len(h.Streams()) != 1 {
		t.Fatalf("the registry has %+v", r)
	}
	// The second call has no effect.
	r.Pause()
	r.Pause()
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var fault error
		for _, err := range stream.Chunks() {
			if fault = err; err == nil {
				select {
				case <-began:
				default:
					close(began)
				}
			}
		}
		ended <- fault
	}()
	if status := r.Health().Status; status != core.StatusPaused {
		t.Errorf("it is %s", status)
	}
	if rows := r.Health().Progress.Rows; rows != 0 {
		t.Errorf("a paused stream gave %d rows", rows)
	}
	r.Resume()
	<-began
	health := r.Health()
	if health.Status != core.StatusRunning || health.Source != "numbers" || health.Isolation != host.InProcess || health.Limit != 16<<20 {
		t.Errorf("the health is %+v", health)
	}
	if _, err := json.Marshal(h.Health()); err != nil {
		t.Error(err)
	}
	r.Cancel(errors.New("the operator has had enough"))
	if err := <-ended; sources.KindOf(err) != sources.Canceled || !strings.Contains(err.Error(), "the operator has had enough") {
		t.Errorf("it ended with %v", err)
	}
	if status := r.Health().Status; status != core.StatusCanceled || h.Stream("numbers-1") == nil {
		t.Errorf("it is %s", status)
	}
	var kinds []host.EventKind
	for {
		e := <-events.Events
		if e.Kind != host.EventChunk && e.Kind != host.EventLevel {
			kinds = append(kinds, e.Kind)
		}
		if e.Stream != "numbers-1" || e.Table != "numbers" {
			t.Errorf("an event is about %+v", e)
		}
		if e.Kind == host.EventEnded {
			if e.Receipt.Complete || e.Receipt.Error == "" {
				t.Errorf("the receipt is %+v", e.Receipt)
			}
			break
		}
	}
	if want := []host.EventKind{host.EventOpened, host.EventPaused, host.EventResumed, host.EventCanceled, host.EventEnded}; !slices.Equal(kinds, want) {
		t.Errorf("the events are %v", kinds)
	}
}

// TestSlowSubscriber checks that a subscriber that does not read delays no stream,
// and learns how many events it lost.
func TestSlowSubscriber(t *testing.T) {
	h := newHost(t, &numbers{})
	slow := h.Subscribe(1)
	_, stream := openNumbers(t, h)
	chunks := 0
	for _, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		if chunks++; chunks == 10 {
			break
		}
	}
	if slow.Dropped() < 9 {
		t.Errorf("%d events were dropped", slow.Dropped())
	}
	slow.Close()
	slow.Close()
	if e, open := <-slow.Events; !open || e.Kind != host.EventOpened {
		t.Errorf("the first event was %v", e.Kind)
	}
}

// TestNames checks that two running streams cannot have the same name, and that the
// registry removes streams that ended long ago.
func TestNames(t *testing.T) {
	h := newHost(t, &numbers{})
	source, err := h.Open(t.Context(), "numbers:")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		stream, err := source.Stream(t.Context(), core.Query{Table: "numbers"}, core.Options{Name: "mine"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := source.Stream(t.Context(), core.Query{Table: "numbers"}, core.Options{Name: "mine"}); sources.KindOf(err) != sources.Invalid {
			t.Errorf("the second of its name: %v", err)
		}
		other, err := source.Stream(t.Context(), core.Query{Table: "numbers"}, core.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(stream.Close(), other.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.Streams()); n < 60 || n > 70 {
		t.Errorf("%d streams are remembered", n)
	}
}

// brokenSource is a source whose sessions cannot begin.
type brokenSource struct{ sources.Source }

func (brokenSource) Begin(context.Context, sources.Env) (sources.Session, error) {
	return nil, sources.Errorf(sources.Unavailable, "", "", "nobody is there")
}

// TestCircuit checks that the streams of a source fail at once after repeated
// faults, and that the host reports this.
func TestCircuit(t *testing.T) {
	n := &numbers{}
	h, err := host.New(host.Options{
		Sources: map[string]sources.Open{"broken": func(ctx context.Context, c sources.Config) (sources.Source, error) {
			source, err := n.open(ctx, c)
			return brokenSource{source}, err
		}},
		Breaker: retry.BreakerOptions{Failures: 3, Cooldown: time.Hour},
		Retry:   retry.Policy{MaxRetries: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	events := h.Subscribe(10)
	defer events.Close()
	source, err := h.Open(t.Context(), "broken:")
	if err != nil {
		t.Fatal(err)
	}
	if err := source.Check(t.Context()); sources.KindOf(err) != sources.Unavailable {
		t.Errorf("the check says %v", err)
	}
	var tripped *retry.Tripped
	for i := range 4 {
		_, err := source.Stream(t.Context(), core.Query{Table: "numbers"}, core.Options{})
		if sources.KindOf(err) != sources.Unavailable || errors.As(err, &tripped) != (i == 3) {
			t.Errorf("stream %d: %v", i, err)
		}
	}
	health := h.Health()
	if health.Good || len(health.Sources) != 1 || health.Sources[0].Circuit != retry.CircuitOpen || health.Sources[0].Until != tripped.Until || len(health.Streams) != 0 {
		t.Errorf("the health is %+v", health)
	}
	if e := <-events.Events; e.Kind != host.EventHealth || e.Err == nil {
		t.Errorf("the first event is %+v", e)
	}
	if e := <-events.Events; e.Kind != host.EventCircuit || e.From != retry.CircuitClosed || e.To != retry.CircuitOpen {
		t.Errorf("the second event is %+v", e)
	}
}

// TestProcessesAreReplaced checks that a stream whose process is killed continues in
// another one, and yields the same rows.
func TestProcessesAreReplaced(t *testing.T) {
	dir := shop(t, 20_000)
	h := behind(t, host.Process, t.TempDir())
	source, err := h.Open(t.Context(), "csv:"+dir)
	if err != nil {
		t.Fatal(err)
	}
	read := func(kill bool) core.Receipt {
		t.Helper()
		stream, err := source.Stream(t.Context(), core.Query{Table: "orders"}, core.Options{
			Memory: 4 << 20, Retry: retry.Policy{InitialBackoff: time.Millisecond}, Name: "export",
		})
		if err != nil {
			t.Fatal(err)
		}
		chunks := 0
		for _, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
			if chunks++; kill && (chunks == 2 || chunks == 4) {
				killSandboxes(t, source)
			}
		}
		return stream.Receipt()
	}
	want, got := read(false), read(true)
	if !got.Complete || got.Digest != want.Digest || got.Rows != want.Rows || got.Retries < 1 {
		t.Errorf("undisturbed %+v\ndisturbed %+v", want, got)
	}
	if !strings.Contains(got.Faults[0].Text, "killed") {
		t.Errorf("the fault is %q", got.Faults[0].Text)
	}
}

// killSandboxes kills the processes from which streams of the source read.
func killSandboxes(t *testing.T, source *host.Source) {
	t.Helper()
	for _, i := range source.Sandboxes() {
		if i.Sessions == 0 {
			continue
		}
		p, err := os.FindProcess(i.Pid)
		if err == nil {
			err = p.Kill()
		}
		if err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
	}
}
