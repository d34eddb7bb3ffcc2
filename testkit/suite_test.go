package testkit_test

import (
	"testing"

	"github.com/penstock-data/penstock/testkit"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	source, err := testkit.Shop{Seed: 7, Orders: 30}.Memory()
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	err = testkit.Check(t.Context(), source, func(r testkit.Result) {
		if r.Skipped != "" {
			t.Logf("%s %s: skipped: %s", r.Rule, r.Table, r.Skipped)
		} else {
			tried[r.Rule] = true
		}
	})
	if err != nil {
		t.Error(err)
	}
	// The reference has all capabilities, so no rule may be skipped but that about
	// ordinals, which its lookups do not need here.
	if len(tried) != 25 || tried["ordinals"] {
		t.Errorf("%d rules were checked: %v", len(tried), tried)
	}
}
