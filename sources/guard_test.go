package sources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
)

// heard ranges over a scan and describes what it yields.
func heard(scan Batches) []string {
	var out []string
	for b, err := range scan {
		switch {
		case err != nil && (b.Record != nil || b.Cursor != nil):
			out = append(out, "a batch with the error "+err.Error())
		case err != nil:
			text, _, _ := strings.Cut(err.Error(), "\n")
			out = append(out, text)
		default:
			out = append(out, "batch "+string(b.Cursor))
		}
	}
	return out
}

func batch(name string) Batch { return Batch{Cursor: Cursor(name)} }

func TestGuardHoldsAScanToItsWord(t *testing.T) {
	broken := errors.New("connection reset")
	for _, c := range []struct {
		name string
		scan Batches
		want []string
	}{
		{"batches", func(yield func(Batch, error) bool) { _ = yield(batch("1"), nil) && yield(batch("2"), nil) }, []string{"batch 1", "batch 2"}},
		{"an error", func(yield func(Batch, error) bool) { _ = yield(batch("1"), nil) && yield(Batch{}, broken) },
			[]string{"batch 1", "scan shop: internal: connection reset"}},
		{"an error with a batch", func(yield func(Batch, error) bool) { yield(batch("1"), broken) }, []string{"scan shop: internal: connection reset"}},
		{"an error with words of its own", func(yield func(Batch, error) bool) {
			yield(Batch{}, NewError(Denied, "query", "view", broken))
		}, []string{"query view: denied: connection reset"}},
		{"more after an error", func(yield func(Batch, error) bool) {
			yield(Batch{}, broken)
			yield(batch("1"), nil)
			yield(Batch{}, broken)
			panic("and a panic")
		}, []string{"scan shop: internal: connection reset"}},
		{"nothing", func(func(Batch, error) bool) {}, []string{"scan shop: internal: the scan ended without a batch and without an error"}},
		{"a panic", func(func(Batch, error) bool) { panic("boom") }, []string{"scan shop: internal: panic: boom"}},
		{"a panic behind a batch", func(yield func(Batch, error) bool) { yield(batch("1"), nil); panic(broken) },
			[]string{"batch 1", "scan shop: internal: panic: connection reset"}},
		{"a refusal", func(func(Batch, error) bool) { panic(Errorf(Exhausted, "", "", "no memory")) }, []string{"scan shop: exhausted: no memory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			scan := Guard("scan", "shop", c.scan)
			if diff := cmp.Diff(c.want, heard(scan)); diff != "" {
				t.Error(diff)
			}
			again := heard(scan)
			if len(again) != 1 || !strings.Contains(again[0], "scan shop: invalid: the scan was already ranged over") {
				t.Errorf("a second range yields %q", again)
			}
		})
	}
}

func TestGuardLetsTheBodyPanic(t *testing.T) {
	for name, scan := range map[string]Batches{
		"on a batch":        func(yield func(Batch, error) bool) { yield(batch("1"), nil) },
		"on an error":       func(yield func(Batch, error) bool) { yield(Batch{}, errors.New("x")) },
		"on a source panic": func(func(Batch, error) bool) { panic("source") },
	} {
		t.Run(name, func(t *testing.T) {
			mine := errors.New("the consumer's own")
			cleaned := name == "on a source panic"
			defer func() {
				if r := recover(); r != any(mine) {
					t.Errorf("the panic became %v", r)
				}
				if !cleaned {
					t.Error("the source was not unwound")
				}
			}()
			for range Guard("scan", "shop", func(yield func(Batch, error) bool) {
				defer func() { cleaned = true }()
				scan(yield)
			}) {
				panic(mine)
			}
		})
	}
}

func TestGuardLetsTheGoroutineExit(t *testing.T) {
	done := make(chan bool)
	go func() {
		reached := false
		defer func() { done <- reached }()
		for range Guard("scan", "shop", func(yield func(Batch, error) bool) { yield(batch("1"), nil) }) {
			runtime.Goexit()
		}
		reached = true
	}()
	if <-done {
		t.Error("the goroutine went on")
	}
}

func TestGuardBreak(t *testing.T) {
	for name, after := range map[string]func(yield func(Batch, error) bool){
		"ends":           func(func(Batch, error) bool) {},
		"does not stop":  func(yield func(Batch, error) bool) { yield(batch("2"), nil) },
		"fails to close": func(yield func(Batch, error) bool) { yield(Batch{}, errors.New("close")) },
		"panics":         func(func(Batch, error) bool) { panic("late") },
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			for range Guard("scan", "shop", func(yield func(Batch, error) bool) { yield(batch("1"), nil); after(yield) }) {
				n++
				break
			}
			if n != 1 {
				t.Errorf("the body ran %d times", n)
			}
		})
	}
}

func TestCall(t *testing.T) {
	for _, c := range []struct {
		f    func() (int, error)
		want string
	}{
		{func() (int, error) { return 5, nil }, ""},
		{func() (int, error) { return 0, context.Canceled }, "plan shop: canceled: context canceled"},
		{func() (int, error) { panic(Errorf(Exhausted, "", "", "no memory")) }, "plan shop: exhausted: no memory"},
		{func() (int, error) { panic("no luck") }, "plan shop: internal: panic: no luck"},
	} {
		n, err := GuardCall("plan", "shop", c.f)
		if got := fmt.Sprint(err); c.want == "" && (err != nil || n != 5) || !strings.HasPrefix(got, c.want) {
			t.Errorf("got %d, %q, want %q", n, got, c.want)
		}
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("x")
	for _, c := range []struct {
		err  error
		kind Kind
		text string // after WithOp("scan", "shop")
	}{
		{cause, Internal, "scan shop: internal: x"},
		{fmt.Errorf("read: %w", context.DeadlineExceeded), Canceled, "scan shop: canceled: read: context deadline exceeded"},
		{fs.ErrNotExist, NotFound, "scan shop: not found: file does not exist"},
		{fs.ErrPermission, Denied, "scan shop: denied: permission denied"},
		{NewError(Unavailable, "", "", cause), Unavailable, "scan shop: unavailable: x"},
		{NewError(Invalid, "open", "", cause), Invalid, "open shop: invalid: x"},
		{&Error{Op: "open", Table: "t", Kind: Invalid}, Invalid, "open t: invalid"},
		{fmt.Errorf("wrapped: %w", NewError(Denied, "", "", cause)), Denied, "scan shop: denied: wrapped: denied: x"},
		{NewError(Kind(200), "", "", cause), Kind(200), "scan shop: internal: x"},
	} {
		err := WithOp("scan", "shop", c.err)
		if KindOf(c.err) != c.kind || KindOf(err) != c.kind {
			t.Errorf("%v is %s, then %s, want %s", c.err, KindOf(c.err), KindOf(err), c.kind)
		}
		if diff := cmp.Diff(c.text, err.Error()); diff != "" {
			t.Error(diff)
		}
		if !errors.Is(err, c.err) && errors.Unwrap(c.err) == nil {
			if e := (*Error)(nil); !errors.As(c.err, &e) {
				t.Errorf("%v lost its cause", err)
			}
		}
	}
	if WithOp("scan", "shop", nil) != nil {
		t.Error("nil does not stay nil")
	}
}

func TestSimple(t *testing.T) {
	schema := oneColumn(arrow.PrimitiveTypes.Int64, false)
	catalog := &Catalog{Tables: []Table{{Name: "t", Schema: schema, Rows: 2, Filters: map[string]Ops{"c": OpsOf(OpEq)}}}}
	source := Simple(catalog, func(_ context.Context, env Env, q *Query) Batches {
		if env.Page != DefaultLimits {
			t.Errorf("the page is %+v", env.Page)
		}
		if q.Where != nil {
			panic("boom")
		}
		return FromRows(env, schema, rowsOf([]any{1}, []any{2}))
	})
	ctx := t.Context()
	if c, err := source.Catalog(ctx); c != catalog || err != nil {
		t.Fatal(c, err)
	}
	if _, err := source.Begin(ctx, Env{Snapshot: "x"}); KindOf(err) != Invalid {
		t.Errorf("joining gives %v", err)
	}
	session, err := source.Begin(ctx, Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	where := &Query{Table: "t", Where: Comparison{"c", OpEq, Int(1)}}
	for _, c := range []struct {
		q    *Query
		plan string
		scan []string
	}{
		{&Query{Table: "t"}, "2", []string{"batch "}},
		{where, "-1", []string{"scan t: internal: panic: boom"}},
		{&Query{Table: "missing"}, "plan missing: not found: there is no such table", []string{"scan missing: not found: there is no such table; there are t"}},
		{&Query{Table: "t", Limit: 1}, "plan t: invalid: limit", []string{"scan t: invalid: limit: the table does not support it"}},
	} {
		plan, err := session.Plan(ctx, c.q)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(plan.Rows)
		}
		if !strings.HasPrefix(got, c.plan) {
			t.Errorf("the plan is %q, want %q", got, c.plan)
		}
		if diff := cmp.Diff(c.scan, heard(session.Scan(ctx, c.q))); diff != "" {
			t.Error(diff)
		}
	}
	for range 2 {
		if err := errors.Join(session.Close(), source.Close()); err != nil {
			t.Error(err)
		}
	}
}
