package core_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// pageOf returns the page limit that a stream of all columns of a table gives to its
// source.
func pageOf(t *testing.T, columns int, limit int64) int64 {
	t.Helper()
	fields := make([]arrow.Field, columns)
	for i := range fields {
		fields[i] = arrow.Field{Name: fmt.Sprintf("column_%d", i), Type: arrow.PrimitiveTypes.Int64}
	}
	s := &wideSource{catalog: &sources.Catalog{Tables: []sources.Table{{Name: "t", Schema: arrow.NewSchema(fields, nil), Rows: -1}}}}
	parent, err := budget.New("host", 2*limit, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	stream, err := core.Open(t.Context(), s, core.Query{Table: "t"}, core.Options{Memory: limit}, core.Resources{Budget: parent})
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	return s.page.Bytes
}

// wideSource keeps the page limits of its last session.
type wideSource struct {
	sources.Source
	catalog *sources.Catalog
	page    sources.Limits
}

func (s *wideSource) Catalog(context.Context) (*sources.Catalog, error) { return s.catalog, nil }

func (s *wideSource) Begin(_ context.Context, env sources.Env) (sources.Session, error) {
	s.page = env.Page
	return wideSession{}, nil
}

type wideSession struct{ sources.Session }

func (wideSession) Close() error { return nil }

// TestPagesOfWideTables checks that the pages of a table with many columns have room
// for many values of each, as far as the memory limit allows.
func TestPagesOfWideTables(t *testing.T) {
	for _, c := range []struct {
		columns      int
		limit, bytes int64
	}{
		{1, 512 << 20, 1 << 20},
		{1024, 512 << 20, 1 << 20},
		{4096, 512 << 20, 4 << 20},
		{100_000, 512 << 20, 16 << 20},
		{100_000, 64 << 20, 2 << 20},
		{1, 16 << 20, 512 << 10},
	} {
		if got := pageOf(t, c.columns, c.limit); got != c.bytes {
			t.Errorf("the pages of %d columns within %d bytes have %d bytes, want %d", c.columns, c.limit, got, c.bytes)
		}
	}
}
