//go:build linux

package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

// racy is a source that the tests add to those of the command.
const racy = "racy"

func TestMain(m *testing.M) {
	linked[racy] = openRacy
	process.Main(linked, walls...)
	os.Exit(m.Run())
}

// TestStorm makes a short storm within the program and in processes. make storm makes long
// ones, in every wall.
func TestStorm(t *testing.T) {
	var out strings.Builder
	o := options{seed: 1, goroutines: 50, duration: time.Second, orders: 300, only: []string{"inproc", "inproc-cache", "process", "process-shared"}}
	if err := o.run(t.Context(), &out); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	t.Log(out.String())
}

// openRacy opens a source with no tables, after a data race.
func openRacy(_ context.Context, _ sources.Config) (sources.Source, error) {
	n, done := 0, make(chan struct{})
	go func() {
		n++
		close(done)
	}()
	n++
	<-done
	return sources.Simple(&sources.Catalog{Identity: strings.Repeat("x", n)}, nil), nil
}

// TestRaceInChild checks that a storm finds a race that the race detector reports in a
// child.
func TestRaceInChild(t *testing.T) {
	if !raced {
		t.Skip("this test needs the race detector")
	}
	s := &storm{log: &raceLog{}, setting: setting{
		uri:     racy + ":",
		options: host.Options{Sources: map[string]sources.Open{racy: openRacy}, Walls: []wall.Wall{process.Wall()}, Isolation: host.Process},
	}}
	s.blow(t.Context(), options{}, 1, t.TempDir())
	for _, fault := range s.faults {
		if strings.Contains(fault.Error(), "WARNING: DATA RACE") && strings.Contains(fault.Error(), "openRacy") {
			return
		}
	}
	t.Errorf("the race was not found: %v", s.faults)
}

// TestJudge checks that an error which nothing explains is a defect, and one that was
// caused is not.
func TestJudge(t *testing.T) {
	caused, idle := &reader{}, &reader{}
	caused.canceled.Store(true)
	for _, c := range []struct {
		err  error
		r    *reader
		want outcome
	}{
		{sources.NewError(sources.Canceled, "", "", errStorm), caused, canceled},
		{sources.NewError(sources.Canceled, "", "", errStorm), idle, other},
		{sources.NewError(sources.Unavailable, "", "", errStorm), caused, other},
		{sources.NewError(sources.Invalid, "", "", errStorm), caused, other},
		{sources.NewError(sources.Exhausted, "", "", errStorm), idle, refused},
		{errStorm, caused, other},
	} {
		s := &storm{}
		if got := s.judge(c.err, c.r, "reading"); got != c.want || (got == other) != (len(s.faults) == 1) {
			t.Errorf("%v is %s, with %v", c.err, got, s.faults)
		}
	}
}
