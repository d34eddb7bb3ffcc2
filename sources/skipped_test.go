package sources

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSkipped(t *testing.T) {
	var sum, want Skipped
	for i := range 7 {
		sum.Add(Skipped{Records: 3, Locations: []string{string(rune('a' + i)), "x"}})
		if want.Locations = append(want.Locations, string(rune('a'+i)), "x"); len(want.Locations) > MaxSkippedLocations {
			want.Locations = want.Locations[:MaxSkippedLocations]
		}
	}
	want.Records = 21
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Error(diff)
	}
	if err := sum.Check(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Skipped{{Records: -1}, {Locations: []string{"x"}}, {Records: 99, Locations: make([]string, MaxSkippedLocations+1)}} {
		if KindOf(bad.Check()) != Invalid {
			t.Errorf("%+v is taken", bad)
		}
	}
}
