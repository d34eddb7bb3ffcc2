package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// TestWhoseTimeouts checks that the timeouts of the database apply unless the user sets
// some.
func TestWhoseTimeouts(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE VIEW timeouts AS SELECT current_setting('statement_timeout') AS s, current_setting('lock_timeout') AS l;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''70s''', current_database()); EXECUTE format('ALTER DATABASE %I SET lock_timeout = ''60s''', current_database()); END $$;`)
	for _, c := range []struct {
		parameters string
		options    map[string]string
		want       string
	}{
		{"", nil, `"70s"|"1min"`},
		{"&options=-c%20statement_timeout%3D50s%20-c%20lock_timeout%3D40s", nil, `"50s"|"40s"`},
		{"&statement_timeout=30s&lock_timeout=20s", nil, `"30s"|"20s"`},
		{"", map[string]string{"statement_timeout": "0", "lock_timeout": "0"}, `"0"|"0"`},
		{"", map[string]string{"snapshot": "none"}, `"70s"|"1min"`},
		{"", map[string]string{"snapshot": "none", "statement_timeout": "10s"}, `"10s"|"1min"`},
	} {
		_, ses := openWith(t, uri+c.parameters, c.options, sources.Limits{})
		if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "timeouts"})); !slices.Equal(got, []string{c.want}) {
			t.Errorf("%q %v: %q, want %s", c.parameters, c.options, got, c.want)
		}
	}
}

// read reads a table through the engine, with three retries.
func read(t *testing.T, src sources.Source, q core.Query, onChunk func(n int)) (core.Receipt, error) {
	t.Helper()
	stream, err := core.Open(t.Context(), src, q, core.Options{Memory: 8 << 20, ChunkRows: 500, Retry: retry.Policy{InitialBackoff: time.Millisecond}}, core.Resources{})
	if err != nil {
		t.Fatal(err)
	}
	chunks := 0
	var last error
	for _, err := range stream.Chunks() {
		if last = err; err == nil {
			chunks++
			onChunk(chunks)
		}
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	return stream.Receipt(), last
}

// TestTimeoutOfTheServer checks the error of a timeout that the user has not set. It is not
// retried.
func TestTimeoutOfTheServer(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE VIEW slow AS SELECT pg_sleep(600)::text AS s;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''3s''', current_database()); END $$;`)
	src, _ := open(t, uri, sources.Limits{})
	r, err := read(t, src, core.Query{Table: "slow"}, func(int) {})
	if sources.KindOf(err) != sources.Exhausted || r.Retries != 0 {
		t.Errorf("%v, %d retries", err, r.Retries)
	}
	for _, want := range []string{"statement_timeout is 3s, set by ALTER DATABASE", "slow consumer", "set the option statement_timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestCanceledByAnAdministrator checks that the error does not blame a timeout.
func TestCanceledByAnAdministrator(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE VIEW slow AS SELECT pg_sleep(600)::text AS s;`)
	a := asAdmin(t, uri)
	_, ses := open(t, uri, sources.Limits{})
	end := make(chan error)
	go func() {
		_, err := rowsOf(ses.Scan(context.Background(), &sources.Query{Table: "slow"}))
		end <- err
	}()
	a.await(1, "state = 'active' AND wait_event = 'PgSleep'")
	a.exec("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'penstock' AND datname = current_database() AND state = 'active'")
	if err := <-end; sources.KindOf(err) != sources.Exhausted || strings.Contains(err.Error(), "statement_timeout") || !strings.Contains(err.Error(), "an administrator") {
		t.Errorf("%v", err)
	}
}

// TestLostSnapshotIsFinal loses all connections of a stream that has read rows: it ends with
// a remedy, and does not try again what cannot succeed.
func TestLostSnapshotIsFinal(t *testing.T) {
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			uri := pgtest.Start(t).Database(t, bigSQL)
			a := asAdmin(t, uri)
			src, err := postgres.Open(t.Context(), sources.Config{URI: uri})
			if err != nil {
				t.Fatal(err)
			}
			r, err := read(t, src, core.Query{Table: "big", OrderBy: order}, func(n int) {
				if n == 3 {
					a.await(1, "state = 'idle in transaction'")
					a.terminate("true")
					a.await(0, "true")
				}
			})
			if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "read again, or open with the option snapshot=renew") || strings.Contains(err.Error(), "tried") || r.Retries > 1 {
				t.Errorf("%v, %d retries", err, r.Retries)
			}
			if err := src.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLostBeforeReading loses all connections before a row was read. The stream begins
// another snapshot.
func TestLostBeforeReading(t *testing.T) {
	uri := pgtest.Start(t).Database(t, bigSQL)
	a := asAdmin(t, uri)
	src, err := postgres.Open(t.Context(), sources.Config{URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Catalog(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.terminate("true")
	a.await(0, "true")
	if r, err := read(t, src, core.Query{Table: "big"}, func(int) {}); err != nil || r.Rows != 60000 {
		t.Errorf("%d rows, %v", r.Rows, err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
}

// TestOpenAtTheConnectionLimit opens a source while its role has no connection left. One
// becomes free at the second attempt.
func TestOpenAtTheConnectionLimit(t *testing.T) {
	uri := pgtest.Start(t).Database(t, "DROP ROLE IF EXISTS penstock_single; CREATE ROLE penstock_single LOGIN PASSWORD 'x' CONNECTION LIMIT 1;")
	t.Cleanup(func() {
		if err := pgtest.Run(context.Background(), uri, "DROP ROLE penstock_single;"); err != nil {
			t.Error(err)
		}
	})
	u := mustParse(t, uri)
	u.User = url.UserPassword("penstock_single", "x")
	holder, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	connections := 0
	proxy, err := testkit.NewProxy("tcp", "127.0.0.1:0", "tcp", u.Host, func(n int) testkit.Damage {
		if connections = n + 1; n == 1 {
			closed <- holder.Close(context.Background())
		}
		return testkit.Damage{}
	})
	if err != nil {
		t.Fatal(err)
	}
	u.Host = proxy.Addr().String()
	src, err := postgres.Open(t.Context(), sources.Config{URI: u.String()})
	if err != nil {
		t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	if err := proxy.Close(); err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil || connections < 2 {
		t.Errorf("%d connections, %v", connections, err)
	}
	// A canceled context ends the wait.
	u.Host = mustParse(t, uri).Host
	holder, err = pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	proxy, err = testkit.NewProxy("tcp", "127.0.0.1:0", "tcp", u.Host, func(n int) testkit.Damage {
		if n == 1 {
			cancel()
		}
		return testkit.Damage{}
	})
	if err != nil {
		t.Fatal(err)
	}
	u.Host = proxy.Addr().String()
	if _, err := postgres.Open(ctx, sources.Config{URI: u.String()}); sources.KindOf(err) != sources.Canceled {
		t.Errorf("canceled while waiting: %v", err)
	}
	if err := holder.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := proxy.Close(); err != nil {
		t.Error(err)
	}
}

func mustParse(t *testing.T, uri string) *url.URL {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestStatementEndsWithItsClient cuts the connections of a client that waits for a slow
// statement, as when the client is killed. The server notices it.
func TestStatementEndsWithItsClient(t *testing.T) {
	for _, snapshot := range []string{"strict", "none"} {
		t.Run(snapshot, func(t *testing.T) {
			uri := pgtest.Start(t).Database(t, `CREATE VIEW slow AS SELECT pg_sleep(600)::text AS s;`)
			a := asAdmin(t, uri)
			u := mustParse(t, uri)
			proxy, err := testkit.NewProxy("tcp", "127.0.0.1:0", "tcp", u.Host, func(int) testkit.Damage { return testkit.Damage{} })
			if err != nil {
				t.Fatal(err)
			}
			u.Host = proxy.Addr().String()
			_, ses := openWith(t, u.String(), map[string]string{"snapshot": snapshot}, sources.Limits{})
			end := make(chan error)
			go func() {
				_, err := rowsOf(ses.Scan(context.Background(), &sources.Query{Table: "slow"}))
				end <- err
			}()
			const sleeping = "state = 'active' AND wait_event = 'PgSleep'"
			a.await(1, sleeping)
			if err := proxy.Close(); err != nil {
				t.Error(err)
			}
			if err := <-end; sources.KindOf(err) != sources.Unavailable {
				t.Errorf("%v", err)
			}
			a.await(0, sleeping)
		})
	}
}

// TestClientCheckOfTheServer checks that a server's own interval for checking clients stays.
func TestClientCheckOfTheServer(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE VIEW interval AS SELECT current_setting('client_connection_check_interval') AS s;`)
	for own, want := range map[string]string{"": `"2s"`, "&options=-c%20client_connection_check_interval%3D7s": `"7s"`} {
		src, ses := open(t, uri+own, sources.Limits{})
		if got := fmt.Sprint(text(t, ses.Scan(t.Context(), &sources.Query{Table: "interval"}))); got != "["+want+"]" {
			t.Errorf("%q: %s, want %s", own, got, want)
		}
		c, err := src.Catalog(t.Context())
		if err != nil || c.Identity == "" {
			t.Errorf("the identity is %q, %v", c.Identity, err)
		}
	}
}
