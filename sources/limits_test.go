package sources_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

var (
	tooLong  = strings.Repeat("n", sources.MaxName+1)
	fields   = func(f ...arrow.Field) *arrow.Schema { return arrow.NewSchema(f, nil) }
	integer  = arrow.PrimitiveTypes.Int64
	goodName = strings.Repeat("n", sources.MaxName)
)

func TestClip(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"short", 5, "short"}, {"longer", 5, "lo..."}, {"日本語です", 11, "日本..."}, {"日本語です", 10, "日本..."},
		{"日本語です", 4, "..."}, {"\xff\xfe\xfd\xfc\xfb\xfa", 5, "\xff\xfe..."},
	} {
		if got := sources.Clip(c.text, c.most); got != c.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", c.text, c.most, got, c.want)
		}
	}
}

// TestLongNames tests that a name which is too long is refused wherever a catalog has
// one, and that one of the greatest length is not.
func TestLongNames(t *testing.T) {
	relation := func(r sources.Relation) sources.Table {
		return sources.Table{Name: "t", Schema: fields(), Relations: []sources.Relation{r}}
	}
	of := func(name string) map[string]*sources.Catalog {
		one := func(t sources.Table) *sources.Catalog { return &sources.Catalog{Tables: []sources.Table{t}} }
		return map[string]*sources.Catalog{
			"identity": {Identity: name},
			"table":    one(sources.Table{Name: name, Schema: fields()}),
			"column":   one(sources.Table{Name: "t", Schema: fields(arrow.Field{Name: name, Type: integer})}),
			"nested":   one(sources.Table{Name: "t", Schema: fields(arrow.Field{Name: "c", Type: arrow.StructOf(arrow.Field{Name: name, Type: integer})})}),
			"relation": one(relation(sources.Relation{Name: name})),
			"alias":    one(relation(sources.Relation{Name: "r", Aliases: []string{name}})),
			"near":     one(relation(sources.Relation{Name: "r", Through: &sources.Through{Near: []string{name}}})),
		}
	}
	for where, c := range of(tooLong) {
		err := sources.CheckCatalog(c)
		if sources.KindOf(err) != sources.Invalid || err == nil || len(err.Error()) > 1000 || !strings.Contains(err.Error(), "has 65537 bytes, but the limit is 65536") {
			t.Errorf("%s: %.200v", where, err)
		}
	}
	for where, c := range of(goodName) {
		if err := sources.CheckCatalog(c); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
	labels := arrow.Field{Name: "c", Type: arrow.BinaryTypes.String, Metadata: arrow.MetadataFrom(map[string]string{sources.MetaLabels: strings.Repeat(" ", sources.MaxLabels+1)})}
	if err := sources.CheckCatalog(&sources.Catalog{Tables: []sources.Table{{Schema: fields(labels)}}}); sources.KindOf(err) != sources.Invalid || err == nil {
		t.Errorf("labels: %v", err)
	}
	if err := sources.CheckCatalog(nil); err == nil {
		t.Error("no catalog is no error")
	}
}

// TestLongComments tests that texts which are only for people are cut, in a copy.
func TestLongComments(t *testing.T) {
	long := strings.Repeat("c", sources.MaxComment+1)
	meta := map[string]string{sources.MetaComment: long, sources.MetaType: long, sources.MetaDefault: long, sources.MetaGenerated: long, sources.MetaOrder: "source"}
	c := &sources.Catalog{Tables: []sources.Table{{Name: "plain", Schema: fields()}, {
		Name: "t", Comment: long, Relations: []sources.Relation{{Name: "r", Unusable: long}},
		Schema: fields(arrow.Field{Name: "c", Type: integer, Metadata: arrow.MetadataFrom(meta)}),
	}}}
	before := fmt.Sprint(c)
	got := sources.NormalizeCatalog(c)
	if fmt.Sprint(c) != before {
		t.Error("the catalog was modified")
	}
	texts := []string{got.Tables[1].Comment, got.Tables[1].Relations[0].Unusable}
	for _, key := range []string{sources.MetaComment, sources.MetaType, sources.MetaDefault, sources.MetaGenerated} {
		text, _ := got.Tables[1].Schema.Field(0).Metadata.GetValue(key)
		texts = append(texts, text)
	}
	for i, text := range texts {
		if len(text) != sources.MaxComment || !strings.HasSuffix(text, "c...") {
			t.Errorf("text %d has %d bytes", i, len(text))
		}
	}
	if order, _ := got.Tables[1].Schema.Field(0).Metadata.GetValue(sources.MetaOrder); order != "source" {
		t.Errorf("the order is %q", order)
	}
}

func TestLongPlans(t *testing.T) {
	for where, p := range map[string]*sources.Plan{
		"version": {Version: tooLong}, "snapshot": {Snapshot: tooLong}, "partition 1": {Parts: []sources.Part{nil, sources.Part(tooLong)}},
		"partitions": {Parts: make([]sources.Part, sources.MaxParts+1)},
	} {
		if err := sources.CheckPlan(p); sources.KindOf(err) != sources.Invalid || err == nil || !strings.Contains(err.Error(), where) {
			t.Errorf("%s: %v", where, err)
		}
	}
	p := &sources.Plan{Version: goodName, Parts: []sources.Part{sources.Part(goodName)}, Detail: strings.Repeat("d", sources.MaxComment+1)}
	if err := sources.CheckPlan(p); err != nil || len(p.Detail) != sources.MaxComment {
		t.Errorf("a detail of %d bytes, %v", len(p.Detail), err)
	}
}

// TestLongErrors tests that the text of an error is bounded, whichever part is long, and
// that its cause can still be found.
func TestLongErrors(t *testing.T) {
	long := strings.Repeat("日本", 1<<20)
	cause := fmt.Errorf("%s: %w", long, context.DeadlineExceeded)
	err := sources.NewError(sources.Invalid, long, long, cause)
	text := err.Error()
	if len(text) > sources.MaxErrorText || !utf8.ValidString(text) || !strings.Contains(text, ": invalid: ") {
		t.Errorf("%d bytes: %.700q", len(text), text)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error("the cause is lost")
	}
	var skipped sources.Skipped
	skipped.Add(sources.Skipped{Records: 1, Locations: []string{long}})
	if n := len(skipped.Locations[0]); n > sources.MaxLocation {
		t.Errorf("a location of %d bytes", n)
	}
}

// TestSuggestBounded tests that the search for the nearest name takes neither the time nor
// the memory that long names or many of them would.
func TestSuggestBounded(t *testing.T) {
	long := strings.Repeat("long name ", 3<<20)
	many := make([]string, 100_000)
	for i := range many {
		many[i] = fmt.Sprintf("%0100d", i)
	}
	many[0] = "orders"
	typed := strings.Repeat("o", 100)
	for _, c := range []struct {
		typed string
		names []string
		want  string
	}{
		{"order", []string{long, "orders"}, `; the nearest is "orders"`},
		{long, []string{"orders"}, "; there are orders"},
		{"x", []string{long}, "; there are " + sources.Clip(long, 64)},
		{"long", []string{"other", long}, fmt.Sprintf("; the nearest is %q", sources.Clip(long, 256))},
		{"oders", many, `; the nearest is "orders"`},
		{typed, many, ""},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := sources.Suggest(c.typed, c.names)
		runtime.ReadMemStats(&after)
		if c.want != "" && got != c.want {
			t.Errorf("Suggest(%.20q) = %.300q", c.typed, got)
		}
		if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 64<<20 {
			t.Errorf("Suggest(%.20q) allocates %d bytes", c.typed, bytes)
		}
	}
}

// TestLongLocations tests that what a scan says about a skipped record is cut.
func TestLongLocations(t *testing.T) {
	long := make([]string, 2)
	for i := range long {
		long[i] = strings.Repeat("l", sources.MaxLocation+1)
	}
	pages := func(yield func(sources.Batch, error) bool) {
		yield(sources.Batch{Skipped: sources.Skipped{Records: 99, Locations: long}}, nil)
	}
	for page, err := range sources.Guard("scan", "t", pages) {
		got := page.Skipped
		if err != nil || got.Records != 99 || len(got.Locations) != 2 || len(got.Locations[0]) != sources.MaxLocation || len(long[0]) != sources.MaxLocation+1 {
			t.Errorf("%d records, %d locations, %v", got.Records, len(got.Locations), err)
		}
	}
}
