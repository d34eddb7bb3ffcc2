package outputs

import (
	"encoding/json"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
)

func TestJSONNamesAreUnique(t *testing.T) {
	fields := []arrow.Field{{Name: "a"}, {Name: "a"}, {Name: "a_2"}, {Name: "a"}, {Name: "\xff"}}
	want := []string{`"a":`, `"a_3":`, `"a_2":`, `"a_4":`, `"\ufffd":`}
	var got []string
	for _, n := range jsonNames(fields) {
		got = append(got, string(n))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzJSONString(f *testing.F) {
	for _, seed := range []string{"", "a\"\\\x00\x7f", "é\u2028\xff\xc3", "😀"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(appendJSONString(nil, s), &back); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if want := string([]rune(s)); back != want {
			t.Fatalf("%q came back as %q", want, back)
		}
	})
}
