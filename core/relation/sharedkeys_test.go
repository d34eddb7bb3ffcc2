package relation_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// dated is a source whose plans have the version that a function returns.
type dated struct {
	sources.Source
	version func() string
}

func (d dated) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := d.Source.Begin(ctx, env)
	return datedSession{session, d.version}, err
}

type datedSession struct {
	sources.Session
	version func() string
}

func (s datedSession) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	plan, err := s.Session.Plan(ctx, q)
	if err == nil {
		plan.Version = s.version()
	}
	return plan, err
}

// TestLookupsAreRemembered tests that streams of different orders look up each of
// their common customers once, with and without versions, until the version changes,
// the table is invalidated, or a stream bypasses or refreshes the cache.
func TestLookupsAreRemembered(t *testing.T) {
	shop, err := testkit.Shop{Seed: 7, Orders: 60}.Memory()
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"", "1"} {
		t.Run("version "+version, func(t *testing.T) {
			version := version
			source := dated{shop, func() string { return version }}
			testCache := coretest.NewCache(t, cache.Options{})
			load := coretest.ParseLoad(t, "customer")
			read := func(from int64, mode cache.Mode) (lookedUp int64) {
				t.Helper()
				where := sources.Comparison{Column: "id", Op: sources.OpGt, Value: sources.Int(from)}
				q := core.Query{Table: "orders", Where: where, Load: query.Load{Required: load}}
				want, _ := coretest.ReadObjects(t, source, q, core.Options{})
				o := core.Options{Caching: cache.Policy{Mode: mode}}
				got, receipt := coretest.ReadObjectsWith(t, source, q, o, coretest.WithCache(testCache, nil))
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Fatalf("orders after %d (-want +got):\n%s", from, diff)
				}
				return receipt.Relations[0].Keys - receipt.Relations[0].Remembered
			}
			first := read(0, cache.ModeUse)
			if again := read(3, cache.ModeUse); first == 0 || again != 0 {
				t.Errorf("looked up %d keys, then %d", first, again)
			}
			if s := testCache.Stats(); s.KeysFound == 0 || s.KeysAsked != uint64(first) {
				t.Errorf("%+v", s)
			}
			if bypassed := read(3, cache.ModeBypass); bypassed == 0 {
				t.Error("no look-ups with bypass")
			}
			if fresh := read(3, cache.ModeRefresh); fresh == 0 {
				t.Error("no look-ups with refresh")
			}
			if again := read(7, cache.ModeUse); again != 0 {
				t.Errorf("looked up %d keys after a refresh of all", again)
			}
			testCache.Invalidate(coretest.SourceID, "customers")
			if again := read(7, cache.ModeUse); again == 0 {
				t.Error("no look-ups after Invalidate")
			}
			if version != "" {
				version = "2"
				if again := read(7, cache.ModeUse); again == 0 {
					t.Error("no look-ups after a change of version")
				}
			}
			testCache.Clear()
			if held := testCache.Budget().Held(); held != 0 {
				t.Errorf("%d bytes are held after Clear", held)
			}
		})
	}
}

// TestLookupsExpire tests that rows of look-ups expire, even if they are used all
// the time.
func TestLookupsExpire(t *testing.T) {
	shop, err := testkit.Shop{Seed: 7, Orders: 60}.Memory()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		source := dated{shop, func() string { return "" }}
		cache := coretest.NewCache(t, cache.Options{TTL: time.Minute})
		read := func(from int64) (lookedUp int64) {
			q := core.Query{Table: "orders", Where: sources.Comparison{Column: "id", Op: sources.OpGt, Value: sources.Int(from)}, Load: query.Load{Required: coretest.ParseLoad(t, "customer")}}
			stream := coretest.Open(t, source, q, core.Options{}, core.Resources{Cache: cache, SourceID: coretest.SourceID})
			for _, err := range stream.Chunks() {
				if err != nil {
					t.Fatal(err)
				}
			}
			r := stream.Receipt().Relations[0]
			return r.Keys - r.Remembered
		}
		first := read(0)
		for i := range 5 {
			if again := read(int64(1 + i)); again != 0 {
				t.Errorf("looked up %d keys after %d seconds", again, 10*i)
			}
			time.Sleep(10 * time.Second)
		}
		time.Sleep(10 * time.Second)
		if again := read(0); again != first {
			t.Errorf("looked up %d keys after a minute, want %d", again, first)
		}
		if again := read(9); again != 0 {
			t.Errorf("looked up %d keys right afterwards", again)
		}
	})
}

// TestStreamsShareLookups tests streams that use the rows of each other's look-ups
// at the same time, while memory is short and entries are dropped.
func TestStreamsShareLookups(t *testing.T) {
	shop, err := testkit.Shop{Seed: 7, Orders: 200}.Memory()
	if err != nil {
		t.Fatal(err)
	}
	source := dated{shop, func() string { return "" }}
	cache := coretest.NewCache(t, cache.Options{MaxBytes: 200 << 10, TTL: time.Hour})
	q := core.Query{Table: "orders", Load: query.Load{Required: coretest.ParseLoad(t, "customer,order_lines.product")}}
	sum := func(r core.Resources, from int64) (string, error) {
		q := q
		q.Where = sources.Comparison{Column: "id", Op: sources.OpGt, Value: sources.Int(from)}
		stream, err := core.Open(t.Context(), source, q, core.Options{ChunkRows: 20}, r)
		if err != nil {
			return "", err
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				return "", err
			}
		}
		return stream.Receipt().Digest.Ordered(), stream.Close()
	}
	var want [4]string
	for i := range want {
		if want[i], err = sum(core.Resources{}, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for i := range want {
		all.Go(func() {
			for j := range 6 {
				got, err := sum(coretest.WithCache(cache, nil), int64(i))
				if err != nil || got != want[i] {
					t.Errorf("sum %s, error: %v, want sum %s", got, err, want[i])
				}
				switch (i + j) % 4 {
				case 1:
					cache.Invalidate(coretest.SourceID, []string{"customers", "products", "order_lines", "orders"}[j%4])
				case 2:
					cache.Clear()
				}
			}
		})
	}
	all.Wait()
	cache.Clear()
	if held := cache.Budget().Held(); held != 0 {
		t.Errorf("%d bytes are held after Clear", held)
	}
}
