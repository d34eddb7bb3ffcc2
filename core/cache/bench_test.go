package cache_test

import (
	"context"
	"testing"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// BenchmarkCacheHit reads 100 rows of nine columns from the cache.
func BenchmarkCacheHit(b *testing.B) {
	shop, err := testkit.Shop{Seed: 7, Orders: 100}.Memory()
	if err != nil {
		b.Fatal(err)
	}
	budget, err := budget.New("host", 1<<30, nil)
	if err != nil {
		b.Fatal(err)
	}
	testCache, err := cache.New(cache.Options{Budget: budget})
	if err != nil {
		b.Fatal(err)
	}
	defer testCache.Close()
	read := func() core.Receipt {
		stream, err := core.Open(b.Context(), silent{shop}, core.Query{Table: "orders"}, core.Options{}, core.Resources{Budget: budget, Cache: testCache, SourceID: coretest.SourceID})
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				b.Fatal(err)
			}
		}
		return stream.Receipt()
	}
	read()
	b.ReportAllocs()
	for b.Loop() {
		if r := read(); r.Cache != cache.Hit || r.Rows != 100 {
			b.Fatalf("%+v", r)
		}
	}
}

// silent is a source whose plans have no version.
type silent struct{ sources.Source }

func (s silent) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := s.Source.Begin(ctx, env)
	return silentSession{session}, err
}

type silentSession struct{ sources.Session }

func (s silentSession) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	plan, err := s.Session.Plan(ctx, q)
	if err == nil {
		plan.Version = ""
	}
	return plan, err
}
