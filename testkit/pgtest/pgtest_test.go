package pgtest_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/testkit/pgtest"
)

func TestDatabaseRunsScripts(t *testing.T) {
	uri := pgtest.Start(t).Database(t, "CREATE TABLE a (i int, s text);\nCOPY a FROM stdin;\n1\tone\n2\t\\N\n\\.\nINSERT INTO a VALUES (3, 'semi;colon');")
	conn, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	var n, nulls int
	if err := conn.QueryRow(t.Context(), "SELECT count(*), count(*) FILTER (WHERE s IS NULL) FROM a").Scan(&n, &nulls); err != nil {
		t.Fatal(err)
	}
	if n != 3 || nulls != 1 {
		t.Errorf("%d rows, %d NULLs; want 3 and 1", n, nulls)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", shortDir(t))
	s, err := pgtest.Launch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("%s is left behind", e.Name())
	}
	if conn, err := pgx.Connect(t.Context(), s.URI("postgres")); err == nil {
		t.Error(errors.Join(errors.New("the server still answers"), conn.Close(t.Context())))
	}
}

// shortDir returns a directory that the server's user may write to, with a path that is
// short enough for a socket.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "pg")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o1777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
