//go:build linux

package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/penstock-data/penstock/host/process"
)

func TestMain(m *testing.M) {
	process.Main(linked, walls...)
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		os.Exit(roles[os.Args[1]](os.Args[2:]))
	}
	os.Exit(m.Run())
}

// TestChaos makes a few runs with fixed seeds. make chaos makes many.
func TestChaos(t *testing.T) {
	var out strings.Builder
	o := options{seed: 1, runs: 25, orders: 2000, patience: 30 * time.Second, postgres: true}
	if _, err := o.run(t.Context(), &out); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// TestStoresAreUsed: what runs keep in directories is found there by later hosts. Otherwise
// its damage could not show.
func TestStoresAreUsed(t *testing.T) {
	for _, name := range []string{"cache, damaged", "index, damaged"} {
		var out strings.Builder
		o := options{seed: 5, runs: 3, orders: 2000, patience: 30 * time.Second, only: name}
		tallies, err := o.run(t.Context(), &out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		if tallies[name].hits == 0 {
			t.Errorf("%s: nothing was used\n%s", name, out.String())
		}
	}
}

// TestSeeds: a seed always results in the same run.
func TestSeeds(t *testing.T) {
	w := &world{module: true, penstock: "penstock"}
	for seed := range uint64(100) {
		a, err := w.draw(seed, "")
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.draw(seed, "")
		if err != nil || a.String() != b.String() || a.rng.Uint64() != b.rng.Uint64() {
			t.Errorf("%s and %s", a, b)
		}
	}
}
