package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// gatedSQL creates a view whose rows 11, 21 and 31 wait until the advisory lock with
// their number is free. The rows are larger than the server's buffer.
const gatedSQL = `CREATE TABLE n (i int PRIMARY KEY); INSERT INTO n SELECT generate_series(1, 5);
CREATE FUNCTION gate(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
IF i IN (11, 21, 31) THEN PERFORM pg_advisory_lock_shared(i); PERFORM pg_advisory_unlock_shared(i); END IF; RETURN i; END $$;
CREATE VIEW gated AS SELECT gate(i) AS i, repeat('x', 9000) AS t FROM generate_series(1, 35) i;`

// closeGates locks the rows of the view "gated", and returns a function that lets the
// scan pass the next one.
func closeGates(t *testing.T, uri string) (open func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	exec := func(format string, args ...any) {
		if _, err := conn.Exec(context.Background(), fmt.Sprintf(format, args...)); err != nil {
			t.Error(err)
		}
	}
	exec("SELECT pg_advisory_lock(i) FROM unnest(ARRAY[11, 21, 31]) i")
	next := 11
	return func() {
		if next <= 31 {
			exec("SELECT pg_advisory_unlock(%d)", next)
			next += 10
		}
	}
}

// soon returns a context that ends long after a test should have.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// readGated reads the view "gated". It opens each gate when a page has come that is due,
// so the scan ends only if pages come while the statement waits.
func readGated(t *testing.T, uri string, ses sources.Session) {
	t.Helper()
	openGate := closeGates(t, uri)
	var got, want []string
	due := 0
	for page, err := range ses.Scan(soon(t), &sources.Query{Table: "gated"}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(page.Record.NumRows()) {
			got = append(got, sources.ValueAt(page.Record.Column(0), i).String())
		}
		if page.Due {
			due++
			if page.Record.NumRows() == 0 {
				t.Error("an empty page is due")
			}
			openGate()
		}
	}
	for i := range 35 {
		want = append(want, fmt.Sprint(i+1))
	}
	if diff := cmp.Diff(want, got); diff != "" || due < 3 {
		t.Errorf("%d pages were due, rows (-want +got):\n%s", due, diff)
	}
}

// TestDuePages tests that a scan hands on its rows while it waits for the server, and that
// this costs neither the connection nor its snapshot.
func TestDuePages(t *testing.T) {
	uri := pgtest.Start(t).Database(t, gatedSQL)
	_, ses := open(t, uri, sources.Limits{})
	asAdmin(t, uri).exec("INSERT INTO n VALUES (6)")
	readGated(t, uri, ses)
	readGated(t, uri, ses)
	if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "n"})); len(got) != 5 {
		t.Errorf("the snapshot has the rows %q", got)
	}
}

// TestDuePagesAreLeft tests how scans end if the consumer leaves the loop, panics or
// cancels the context while the scan waits for the server.
func TestDuePagesAreLeft(t *testing.T) {
	uri := pgtest.Start(t).Database(t, gatedSQL)
	_, ses := open(t, uri, sources.Limits{})
	closeGates(t, uri)
	a := asAdmin(t, uri)
	a.exec("INSERT INTO n VALUES (6)")
	for range ses.Scan(t.Context(), &sources.Query{Table: "n"}) { // opens the second connection
		text(t, ses.Scan(t.Context(), &sources.Query{Table: "n"}))
	}
	// untilDue calls f with each page that is due, until that returns false.
	untilDue := func(ctx context.Context, f func() bool) (err error) {
		for page, err := range ses.Scan(ctx, &sources.Query{Table: "gated"}) {
			if err != nil {
				return err
			}
			if page.Due && !f() {
				return nil
			}
		}
		return nil
	}
	check := func(what string) {
		t.Helper()
		if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "n"})); len(got) != 5 {
			t.Errorf("after %s, the snapshot has the rows %q", what, got)
		}
		for deadline := time.Now().Add(10 * time.Second); a.count("state = 'active'") > 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("after %s, the statement still runs", what)
			}
		}
	}
	if err := untilDue(soon(t), func() bool { return false }); err != nil {
		t.Error(err)
	}
	check("a break")

	ctx, cancel := context.WithCancel(t.Context())
	if err := untilDue(ctx, func() bool { cancel(); return true }); sources.KindOf(err) != sources.Canceled {
		t.Errorf("a canceled scan ends with %v", err)
	}
	check("a canceled context")

	func() {
		defer func() {
			if r := recover(); r != "the consumer's" {
				t.Errorf("recovered %v", r)
			}
		}()
		_ = untilDue(soon(t), func() bool { panic("the consumer's") })
	}()
	check("a panic")
}

// TestNeverDue tests that a negative FlushAfter turns due pages off.
func TestNeverDue(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE VIEW slow AS SELECT i, repeat('x', 9000) AS t, pg_sleep(0.15)::text AS s FROM generate_series(1, 3) i`)
	src, _ := open(t, uri, sources.Limits{})
	for _, c := range []struct {
		flush time.Duration
		due   bool
	}{{0, true}, {-1, false}} {
		ses, err := src.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator, FlushAfter: c.flush})
		if err != nil {
			t.Fatal(err)
		}
		due := false
		for page, err := range ses.Scan(t.Context(), &sources.Query{Table: "slow"}) {
			if err != nil {
				t.Fatal(err)
			}
			due = due || page.Due
		}
		if due != c.due {
			t.Errorf("with %s pages are due: %t", c.flush, due)
		}
		if err := ses.Close(); err != nil {
			t.Error(err)
		}
	}
}
