package simulate

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 1, "the first seed of TestSimulate")
	seedsFlag = flag.Uint64("seeds", defaultSeeds, "how many seeds TestSimulate runs")
	worldFlag = flag.String("world", "", "a world for TestWorld, as JSON")
)

// patienceReal is how long one world may take in real time. A healthy one takes some
// milliseconds, so that this tells an endless loop from a busy machine.
const patienceReal = 2 * time.Minute

// watched runs a world, and ends the program if it never ends.
func watched(t *testing.T, w world, trace bool) (faults, notes []string) {
	watch := time.AfterFunc(patienceReal, func() {
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "the world does not end within %s of real time: %s\n%s\n", patienceReal, w, stacks[:runtime.Stack(stacks, true)])
		os.Exit(2)
	})
	defer watch.Stop()
	return run(t, w, trace)
}

// TestSimulate runs the worlds of many seeds. It shows the smallest world that fails.
func TestSimulate(t *testing.T) {
	var next, count atomic.Uint64
	var failed atomic.Bool
	for i := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for !failed.Load() {
				n := next.Add(1) - 1
				if n >= *seedsFlag {
					return
				}
				w := newWorld(*seedFlag + n)
				faults, _ := watched(t, w, false)
				count.Add(1)
				if len(faults) > 0 && !failed.Swap(true) {
					report(t, w, faults, count.Load())
				}
			}
		})
	}
}

// report shrinks a world that fails, and fails the test.
func report(t *testing.T, w world, faults []string, count uint64) {
	t.Logf("seed %d, after %d worlds, fails: %s", w.Seed, count, faults[0])
	class := classOf(faults[0])
	tries := 0
	small := shrink(w, func(w world) bool {
		if tries++; tries > 3000 {
			return false
		}
		for range 2 {
			if faults, _ := watched(t, w, false); len(faults) > 0 && classOf(faults[0]) == class {
				return true
			}
		}
		return false
	})
	faults, notes := watched(t, small, true)
	for range 20 { // if it depends on the order in which goroutines run
		if len(faults) > 0 {
			break
		}
		faults, notes = watched(t, small, true)
	}
	t.Errorf("seed %d fails. The smallest world:\n%s\n\nWhat is wrong:\n%s\n\nRun it again:\ngo test ./simulate -run TestWorld -v -world '%s'", w.Seed, strings.Join(notes, "\n"), strings.Join(faults, "\n"), small)
}

// classOf returns a fault without its numbers and details, so that a smaller world with
// another fault is not taken for the same.
func classOf(fault string) string {
	line, _, _ := strings.Cut(fault, "\n")
	if _, rest, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(line, "r") {
		line = rest
	}
	line, _, _ = strings.Cut(line, " (")
	return strings.Join(strings.FieldsFunc(line, func(c rune) bool { return c >= '0' && c <= '9' }), "#")
}

// TestWorld runs the world of the flag -world, and shows what happens in it.
func TestWorld(t *testing.T) {
	if *worldFlag == "" {
		t.Skip("there is no -world")
	}
	w, err := parseWorld(*worldFlag)
	if err != nil {
		t.Fatal(err)
	}
	faults, notes := watched(t, w, true)
	t.Log("\n" + strings.Join(notes, "\n"))
	if len(faults) > 0 {
		t.Error(strings.Join(faults, "\n"))
	}
}

// TestSameSeedSameRun tests that a world repeats exactly: what happens and at which time.
// The order of what happens at the same instant may differ. It leaves out what makes several goroutines run at the same instant:
// readers that read ahead or in parallel, or that wait for one another's sessions, scans
// or memory.
func TestSameSeedSameRun(t *testing.T) {
	different := 0
	for seed := range uint64(60) {
		w := newWorld(seed)
		w.Together, w.Source.Sessions, w.Cache, w.Memory = false, 0, nil, 0
		for i := range w.Readers {
			w.Readers[i].At += i // they do not begin at the same instant
			w.Readers[i].ReadAhead, w.Readers[i].Parallel = false, 0
		}
		_, first := watched(t, w, true)
		_, second := watched(t, w, true)
		slices.Sort(first)
		slices.Sort(second)
		if strings.Join(first, "\n") != strings.Join(second, "\n") {
			different++
			t.Logf("seed %d:\n%s\n\nthen:\n%s", seed, strings.Join(first, "\n"), strings.Join(second, "\n"))
		}
	}
	if different > 0 {
		t.Errorf("%d worlds of 60 ran in two ways", different)
	}
}
