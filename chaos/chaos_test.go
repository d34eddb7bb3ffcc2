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
	if len(os.Args) > 1 && os.Args[1] == "damage" {
		os.Exit(damage(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// TestChaos makes a few runs with fixed seeds. make chaos makes many.
func TestChaos(t *testing.T) {
	var out strings.Builder
	o := options{seed: 1, runs: 25, orders: 2000, patience: time.Minute, postgres: true}
	if err := o.run(t.Context(), &out); err != nil {
		t.Errorf("%v\n%s", err, out.String())
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
