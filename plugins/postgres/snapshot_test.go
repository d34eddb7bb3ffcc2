package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// admin returns a connection for observing the others.
type admin struct {
	t    *testing.T
	conn *pgx.Conn
}

func asAdmin(t *testing.T, uri string) admin {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return admin{t, conn}
}

// exec runs statements.
func (a admin) exec(sql string) {
	a.t.Helper()
	if _, err := a.conn.PgConn().Exec(context.Background(), sql).ReadAll(); err != nil {
		a.t.Fatal(err)
	}
}

// count returns how many of the source's backends in this database satisfy a condition.
func (a admin) count(condition string) (n int) {
	a.t.Helper()
	if err := a.conn.QueryRow(context.Background(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'penstock' AND datname = current_database() AND "+condition).Scan(&n); err != nil {
		a.t.Fatal(err)
	}
	return n
}

// await waits until n backends satisfy a condition.
func (a admin) await(n int, condition string) {
	a.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); a.count(condition) != n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatalf("%d backends are %s, want %d", a.count(condition), condition, n)
		}
	}
}

// terminate terminates the backends that satisfy a condition.
func (a admin) terminate(condition string) {
	a.t.Helper()
	a.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'penstock' AND datname = current_database() AND " + condition)
}

const bigSQL = `CREATE TABLE big (id int PRIMARY KEY, s text NOT NULL); INSERT INTO big SELECT i, repeat('x', 100) FROM generate_series(1, 60000) i;
CREATE TABLE bare (id int, s text); INSERT INTO bare SELECT i, repeat('y', 100) FROM generate_series(1, 60000) i;`

var orders = map[string][]sources.Sort{"unordered": nil, "ordered": {{Column: "id"}}}

// TestResumeInTheSameSnapshot loses one of two connections during a scan, after the table
// has changed. The scan continues in its snapshot.
func TestResumeInTheSameSnapshot(t *testing.T) {
	for _, table := range []string{"big", "bare"} {
		for name, order := range orders {
			t.Run(table+" "+name, func(t *testing.T) {
				uri := pgtest.Start(t).Database(t, bigSQL)
				a := asAdmin(t, uri)
				_, ses := open(t, uri, sources.Limits{Rows: 500})
				q := &sources.Query{Table: table, OrderBy: order}
				var got []string
				pages, lost := 0, false
				for !lost {
					for b, err := range ses.Scan(t.Context(), q) {
						if err != nil {
							if kind := sources.KindOf(err); kind != sources.Unavailable {
								t.Fatalf("a lost connection gives %v", err)
							}
							lost = true
							break
						}
						got = append(got, lines(b.Record)...)
						q.After = b.Cursor
						if pages++; pages == 3 {
							a.await(1, "state = 'idle in transaction'") // the second member
							a.exec("DELETE FROM big WHERE id % 2 = 0; UPDATE big SET s = 'changed'; DELETE FROM bare;")
							a.terminate("state = 'active'")
						}
					}
				}
				got = append(got, text(t, ses.Scan(t.Context(), q))...)
				if len(got) != 60000 || strings.Contains(got[50000], "changed") {
					t.Errorf("%d rows in all", len(got))
				}
				slices.Sort(got)
				if n := len(slices.Compact(got)); n != 60000 {
					t.Errorf("%d different rows", n)
				}
			})
		}
	}
}

// TestLostSnapshot loses both connections. Then the session fails, or with snapshot=renew
// continues in a new snapshot.
func TestLostSnapshot(t *testing.T) {
	for _, mode := range []string{"strict", "renew"} {
		t.Run(mode, func(t *testing.T) {
			uri := pgtest.Start(t).Database(t, bigSQL)
			a := asAdmin(t, uri)
			src, ses := openWith(t, uri, map[string]string{"snapshot": mode}, sources.Limits{Rows: 500})
			q := &sources.Query{Table: "big"}
			pages, rows := 0, 0
			for b, err := range ses.Scan(t.Context(), q) {
				if err != nil {
					break
				}
				rows += int(b.Record.NumRows())
				q.After = b.Cursor
				if pages++; pages == 3 {
					a.await(1, "state = 'idle in transaction'")
					a.terminate("true")
					a.await(0, "true")
				}
			}
			if rows == 60000 {
				t.Fatal("nothing was lost")
			}
			var err error
			for range 2 { // the first to be tried was idle, and its loss is found out
				var more []string
				if more, err = rowsOf(ses.Scan(t.Context(), q)); err == nil {
					rows += len(more)
					break
				}
				if sources.KindOf(err) != sources.Unavailable {
					t.Fatalf("%v", err)
				}
			}
			c, caught := src.Catalog(t.Context())
			if caught != nil {
				t.Fatal(caught)
			}
			snapshots := c.Table("big").Capabilities.Has(sources.CapSnapshot)
			if mode == "strict" && (err == nil || !strings.Contains(err.Error(), "the snapshot is lost") || !snapshots) {
				t.Errorf("%v", err)
			}
			if mode == "renew" && (err != nil || rows != 60000 || snapshots) {
				t.Errorf("%d rows, %v", rows, err)
			}
		})
	}
}

// TestCursorsBelongToSnapshots checks that a cursor without an order is valid only in its snapshot.
func TestCursorsBelongToSnapshots(t *testing.T) {
	uri := pgtest.Start(t).Database(t, bigSQL)
	a := asAdmin(t, uri)
	src, ses := open(t, uri, sources.Limits{Rows: 500})
	q := &sources.Query{Table: "big"}
	for b, err := range ses.Scan(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		q.After = b.Cursor
		break
	}
	plan, err := ses.Plan(t.Context(), &sources.Query{Table: "big"})
	if err != nil || len(plan.Parts) == 0 {
		t.Fatalf("%+v, %v", plan, err)
	}
	a.exec("DELETE FROM big WHERE id < 100")
	again := func(join string, q *sources.Query) (int, error) {
		ses, err := src.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator, Snapshot: join})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := ses.Close(); err != nil {
				t.Error(err)
			}
		}()
		rows, err := rowsOf(ses.Scan(t.Context(), q))
		return len(rows), err
	}
	if n, err := again(plan.Snapshot, q); n != 59500 || err != nil {
		t.Errorf("in the snapshot that was joined: %d rows, %v", n, err)
	}
	part := &sources.Query{Table: "big", Part: plan.Parts[0]}
	if n, err := again(plan.Snapshot, part); n == 0 || err != nil {
		t.Errorf("a partition of the snapshot that was joined: %d rows, %v", n, err)
	}
	for name, q := range map[string]*sources.Query{"cursor": q, "partition": part} {
		if n, err := again("", q); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "another snapshot") {
			t.Errorf("a %s in another snapshot: %d rows, %v", name, n, err)
		}
	}
	// A rewritten table has its rows at other positions, in every snapshot.
	if _, err := src.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator, Snapshot: "00000001-00000001-1"}); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "snapshot=renew") {
		t.Errorf("a snapshot that is not there gives %v", err)
	}
}

// TestRewrittenTable resumes after the table was rewritten.
func TestRewrittenTable(t *testing.T) {
	uri := pgtest.Start(t).Database(t, bigSQL)
	a := asAdmin(t, uri)
	_, ses := open(t, uri, sources.Limits{Rows: 500})
	q := &sources.Query{Table: "bare"}
	for b, err := range ses.Scan(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		q.After = b.Cursor
		break
	}
	a.exec("CLUSTER big USING big_pkey")
	a.exec("VACUUM FULL bare")
	if _, err := rowsOf(ses.Scan(t.Context(), q)); sources.KindOf(err) != sources.Invalid {
		t.Errorf("resuming in a table that was rewritten gives %v", err)
	}
}

// TestWithoutSnapshot checks that with snapshot=none each scan has its own snapshot, and
// that nothing is held between scans.
func TestWithoutSnapshot(t *testing.T) {
	uri := pgtest.Start(t).Database(t, bigSQL)
	a := asAdmin(t, uri)
	src, ses := openWith(t, uri, map[string]string{"snapshot": "none"}, sources.Limits{Rows: 500})
	if n := a.count("backend_xmin IS NOT NULL OR state LIKE '%transaction%'"); n != 0 {
		t.Errorf("%d backends hold something", n)
	}
	q := &sources.Query{Table: "big"}
	for b, err := range ses.Scan(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		q.After = b.Cursor
		break
	}
	a.exec("DELETE FROM big WHERE id > 1000")
	a.terminate("true")
	a.await(0, "true")
	var got []string
	for range 3 { // the pool has some connections that are lost
		var err error
		if got, err = rowsOf(ses.Scan(t.Context(), q)); err == nil {
			break
		}
	}
	if len(got) != 500 {
		t.Errorf("%d rows after the cursor, want 500", len(got))
	}
	if n := a.count("backend_xmin IS NOT NULL OR state LIKE '%transaction%'"); n != 0 {
		t.Errorf("%d backends hold something", n)
	}
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if can := c.Table("bare").Capabilities; can&(sources.CapResume|sources.CapSnapshot|sources.CapPartition) != 0 {
		t.Errorf("a table without a key can %s", can)
	}
	if _, err := src.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator, Snapshot: "00000003-00000001-1"}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("%v", err)
	}
}

// TestSnapshotLimit checks that a snapshot is released at its limit, even during a scan.
func TestSnapshotLimit(t *testing.T) {
	uri := pgtest.Start(t).Database(t, bigSQL)
	a := asAdmin(t, uri)
	_, ses := openWith(t, uri, map[string]string{"snapshot_limit": "100ms"}, sources.Limits{Rows: 500})
	var last error
	for _, err := range ses.Scan(t.Context(), &sources.Query{Table: "big", OrderBy: []sources.Sort{{Column: "s"}}}) {
		if last = err; err == nil {
			a.await(0, "backend_xmin IS NOT NULL") // in the midst of the scan
		}
	}
	if sources.KindOf(last) != sources.Exhausted || !strings.Contains(last.Error(), "snapshot_limit") {
		t.Errorf("the scan ended with %v", last)
	}
	if _, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: "big"})); sources.KindOf(err) != sources.Exhausted {
		t.Errorf("the next one ended with %v", err)
	}
}

// TestStreamsShareConnections checks that more streams than connections wait for each
// other.
func TestStreamsShareConnections(t *testing.T) {
	uri := pgtest.Start(t).Database(t, bigSQL)
	src, err := postgres.Open(t.Context(), sources.Config{URI: uri, Options: map[string]string{"connections": "4"}})
	if err != nil {
		t.Fatal(err)
	}
	a := asAdmin(t, uri)
	var group sync.WaitGroup
	faults := make(chan error, 12)
	for range cap(faults) {
		group.Go(func() {
			faults <- func() error {
				ses, err := src.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
				if err != nil {
					return err
				}
				for _, err := range ses.Scan(t.Context(), &sources.Query{Table: "big", Limit: 10000}) {
					if err != nil {
						return err
					}
					if n, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: "bare", Limit: 5})); err != nil || len(n) != 5 {
						return fmt.Errorf("%d rows, %w", len(n), err)
					}
				}
				return ses.Close()
			}()
		})
	}
	group.Wait()
	if n := a.count("true"); n > 4 {
		t.Errorf("%d connections", n)
	}
	close(faults)
	for err := range faults {
		if err != nil {
			t.Error(err)
		}
	}
	_, err = src.Begin(t.Context(), sources.Env{MaxScans: 5})
	if sources.KindOf(err) != sources.Exhausted {
		t.Errorf("five of four connections give %v", err)
	}
	ses, err := src.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator, MaxScans: 4})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if _, err := src.Begin(ctx, sources.Env{}); sources.KindOf(err) != sources.Canceled {
		t.Errorf("one that waits for connections and is canceled gets %v", err)
	}
	if err := ses.Close(); err != nil {
		t.Error(err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
}

// TestStreamOutlivesAConnection checks that the engine resumes a stream.
func TestStreamOutlivesAConnection(t *testing.T) {
	uri := pgtest.Start(t).Database(t, bigSQL)
	a := asAdmin(t, uri)
	src, err := postgres.Open(t.Context(), sources.Config{URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}()
	sums := map[string]string{}
	for name, order := range orders {
		for _, lose := range []bool{false, true} {
			stream, err := core.Open(t.Context(), src, core.Query{Table: "big", OrderBy: order}, core.Options{Memory: 8 << 20, ChunkRows: 1000, Retry: retry.Policy{InitialBackoff: time.Millisecond}}, core.Resources{})
			if err != nil {
				t.Fatal(err)
			}
			chunks := 0
			for _, err := range stream.Chunks() {
				if err != nil {
					t.Fatal(err)
				}
				if chunks++; chunks == 3 && lose {
					a.await(1, "state = 'idle in transaction'")
					a.terminate("state = 'active'")
				}
			}
			r := stream.Receipt()
			if sums[name] == "" {
				sums[name] = r.Digest.Ordered()
			} else if diff := cmp.Diff(sums[name], r.Digest.Ordered()); diff != "" {
				t.Error(diff)
			}
			if r.Rows != 60000 || !r.Complete {
				t.Errorf("%+v", r)
			}
			if err := stream.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
