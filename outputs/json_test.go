package outputs

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

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

func TestJSONTextsAreEmbedded(t *testing.T) {
	for text, want := range map[string]string{
		` {"a" : [ 1.50 , -0, 1E400 ] , "a" : "x \" y\\" } `: `{"a":[1.50,-0,1E400],"a":"x \" y\\"}`,
		"\t\"a\u2028b\u2029\x7f\"\r\n":                       `"a\u2028b\u2029\u007f"`,
		"[\"\\\\\", \" \\\\\\\" , \"]":                       `["\\"," \\\" , "]`,
		"":                                                   `""`,
		" ":                                                  `" "`,
		"{'a':1}":                                            `"{'a':1}"`,
		"1 2":                                                `"1 2"`,
		"\"a\nb\"":                                           `"\"a\nb\""`,
		"\"\xff\"":                                           `"\"\ufffd\""`,
		"NaN":                                                `"NaN"`,
		strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000): `"` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `"`,
	} {
		if got := string(appendJSON([]byte(`{"k":`), text)); got != `{"k":`+want {
			t.Errorf("%q became %s, want %s", text, got, want)
		}
	}
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{"", " [1, 2.0]", `{"a": "\u2028 \\"}`, "\"\u2028\x7f\"", "\"\xff\"", "{"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := appendJSON(nil, s)
		if !json.Valid(got) || !utf8.Valid(got) || bytes.ContainsAny(got, "\n\r") {
			t.Fatalf("%q became %q", s, got)
		}
		if !json.Valid([]byte(s)) || !utf8.ValidString(s) {
			return
		}
		var want bytes.Buffer
		if err := json.Compact(&want, []byte(s)); err != nil {
			t.Fatal(err)
		}
		if plain := string(got); !strings.ContainsAny(s, "\u2028\u2029\x7f") && plain != want.String() {
			t.Fatalf("%q became %q, want %q", s, plain, want.String())
		}
	})
}
