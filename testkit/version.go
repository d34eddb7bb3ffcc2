package testkit

import (
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// versionWait is how long AwaitVersion waits at most.
const versionWait = 20 * time.Second

// AwaitVersion waits until two plans of a table have the same version, so that its
// rows can be cached. A source of files gives a file that has just changed a new version
// in every plan, because the times of files are coarse.
func AwaitVersion(t testing.TB, source sources.Source, table string) {
	t.Helper()
	session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	}()
	last := ""
	for deadline := time.Now().Add(versionWait); ; time.Sleep(10 * time.Millisecond) {
		plan, err := session.Plan(t.Context(), &sources.Query{Table: table})
		if err != nil {
			t.Fatal(err)
		}
		if plan.Version != "" && plan.Version == last {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the version of %s is still %q, after %q, when %s have passed", table, plan.Version, last, versionWait)
		}
		last = plan.Version
	}
}
