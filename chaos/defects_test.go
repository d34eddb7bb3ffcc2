//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// smallWorld returns a world with CSV files alone.
func smallWorld(t *testing.T) *world {
	t.Helper()
	if err := adoptOrphans(); err != nil {
		t.Fatal(err)
	}
	w := &world{dir: t.TempDir(), truths: map[string]*truth{}, exports: map[string][]byte{}}
	w.shop = filepath.Join(w.dir, "shop")
	if err := (testkit.Shop{Seed: 3, Orders: 3000}).WriteCSV(t.Context(), w.shop); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestFindsDefects: a run that has a defect of each kind is blamed for it.
func TestFindsDefects(t *testing.T) {
	w := smallWorld(t)
	release := make(chan struct{})
	defer close(release)
	cases := []struct {
		name, category string
		fault          fault
	}{
		{"rows are missing", isWrong, fault{begin: wrap(func(_ *plan, s sources.Source) sources.Source { return testkit.TruncateAfter(s, 2) })}},
		{"a harmless fault is not harmless", isWrong, fault{harmless: true, begin: wrap(func(_ *plan, s sources.Source) sources.Source {
			return testkit.FailAfter(s, 1, sources.NewError(sources.Internal, "", "", errChaos))
		})}},
		{"a goroutine stays", isLeak, fault{run: func(*plan, context.Context) (o outcome) {
			go func() { <-release }()
			return o
		}}},
		{"a file stays", isLeak, fault{run: func(p *plan, _ context.Context) (o outcome) {
			o.blameIf(isWrong, os.WriteFile(filepath.Join(p.scratch(), "x"), nil, 0o666))
			return o
		}}},
		{"a process stays that left its group and its parent", isOrphan, fault{run: func(*plan, context.Context) (o outcome) {
			o.blameIf(isWrong, exec.Command("sh", "-c", "setsid sleep 1000 &").Run())
			return o
		}}},
		{"the run sleeps for ever", isHang, fault{run: func(_ *plan, ctx context.Context) outcome {
			<-release
			return outcome{}
		}}},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, err := w.draw(uint64(i), "nothing")
			if err != nil {
				t.Fatal(err)
			}
			p.wall, p.question, p.memory = host.InProcess, question{source: "csv", table: "order_lines"}, memory
			c.fault.name = c.name
			p.fault = c.fault
			o := p.try(t.Context(), time.Second)
			if o.wrong == nil || o.category != c.category {
				t.Errorf("the run is blamed for %q, %v; want %q", o.category, o.wrong, c.category)
			}
		})
	}
}

// TestHangs: a run that computes without progress hangs, and one that goes on does not.
func TestHangs(t *testing.T) {
	w := newWatch(100 * time.Millisecond)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				work()
			}
		}
	}()
	if why := <-w.hung; !strings.Contains(why, "processor time") && !strings.Contains(why, "idle") {
		t.Errorf("the watch says %q", why)
	}
	close(stop)
	w.end()
}

// TestOrphansEnd: killOrphans ends what a run has left behind.
func TestOrphansEnd(t *testing.T) {
	if err := adoptOrphans(); err != nil {
		t.Fatal(err)
	}
	before := takeInventory()
	if err := exec.Command("sh", "-c", "setsid sleep 1000 &").Run(); err != nil {
		t.Fatal(err)
	}
	if n := len(takeInventory().processes) - len(before.processes); n != 1 {
		t.Fatalf("%d processes were left behind, want 1", n)
	}
	before.killOrphans()
	err := eventually(10*time.Second, func() error {
		for pid := range takeInventory().processes {
			if _, old := before.processes[pid]; !old {
				_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
				return errors.New("the process still runs")
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
