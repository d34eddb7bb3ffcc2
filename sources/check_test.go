package sources

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

// TestCheckOfManyColumns checks queries that name each of very many columns, and as
// many that do not exist. The deadline is far beyond what a linear check needs, and far
// below what comparing every name with every other takes.
func TestCheckOfManyColumns(t *testing.T) {
	const n, wrong = 300_000, 30_000
	fields, known, unknown := make([]arrow.Field, n), make([]string, n), make([]string, n)
	for i := range n {
		known[i], unknown[i] = fmt.Sprintf("column_%06d", i), fmt.Sprintf("colunm_%06d", i)
		fields[i] = arrow.Field{Name: known[i], Type: arrow.PrimitiveTypes.Int64}
	}
	catalog := &Catalog{Tables: []Table{{Name: "t", Schema: arrow.NewSchema(fields, nil), Capabilities: CapProject}}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := catalog.Check(&Query{Table: "t", Columns: known}); err != nil {
			t.Error(err)
		}
		narrower := &Catalog{Tables: []Table{{Name: "t", Schema: arrow.NewSchema(fields[:wrong], nil), Capabilities: CapProject}}}
		_, err := narrower.Check(&Query{Table: "t", Columns: unknown[:wrong]})
		if KindOf(err) != NotFound {
			t.Errorf("the error is of kind %v", KindOf(err))
		}
		text := err.Error()
		if !strings.Contains(text, `there is no column "colunm_000000"; the nearest is "column_000000"`) {
			t.Errorf("the error names no nearest column: %.200s", text)
		}
		if got := strings.Count(text, "; the nearest is"); got != maxSuggestions {
			t.Errorf("the error names the nearest of %d columns, want %d", got, maxSuggestions)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the check did not end: is its cost quadratic in columns?")
	}
}

// TestCheckOfRepeatedColumns checks that every repetition is a fault.
func TestCheckOfRepeatedColumns(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "b", Type: arrow.PrimitiveTypes.Int64}}, nil)
	catalog := &Catalog{Tables: []Table{{Name: "t", Schema: schema, Capabilities: CapProject}}}
	_, err := catalog.Check(&Query{Table: "t", Columns: []string{"a", "b", "a", "a"}})
	if got := strings.Count(fmt.Sprint(err), `"a" is there twice`); got != 2 || KindOf(err) != Invalid {
		t.Errorf("the error is %v", err)
	}
}
