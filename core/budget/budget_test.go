package budget

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock-data/penstock/sources"
)

var _ memory.Allocator = (*Budget)(nil)

func budget(t testing.TB, name string, limit int64, parent *Budget) *Budget {
	t.Helper()
	b, err := New(name, limit, parent)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// refusal runs f and returns the error of its panic, or nil.
func refusal(f func()) (err *sources.Error) {
	defer func() {
		if r := recover(); r != nil {
			err = r.(*sources.Error)
		}
	}()
	f()
	return nil
}

func TestBudgetRefusesAboveLimit(t *testing.T) {
	b := budget(t, "stream 7", 1<<20, nil)
	first := b.Allocate(600 << 10)
	err := refusal(func() { b.Allocate(500 << 10) })
	if sources.KindOf(err) != sources.Exhausted {
		t.Fatalf("got %v, want exhausted", err)
	}
	if want := "exhausted: stream 7 holds 640.0 KiB of its 1.0 MiB and needs 512.0 KiB more"; err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if b.Refused() != err {
		t.Errorf("Refused is %v, want the last refusal", b.Refused())
	}
	b.Free(first)
	b.Free(b.Allocate(1 << 20)) // all of it, once the first is back
	if b.Live() != 0 {
		t.Errorf("%d bytes live", b.Live())
	}
	if b.Peak() != 1<<20 {
		t.Errorf("peak %d, want the limit", b.Peak())
	}
}

func TestBudgetLimitMustBePositive(t *testing.T) {
	if _, err := New("stream", 0, nil); sources.KindOf(err) != sources.Invalid {
		t.Errorf("got %v, want invalid", err)
	}
}

func TestBudgetZeroesReusedBuffers(t *testing.T) {
	b := budget(t, "b", 1<<20, nil)
	dirty := b.Allocate(1000)
	for i := range dirty {
		dirty[i] = 0xff
	}
	b.Free(dirty)
	again := b.Allocate(900) // the same class
	if &again[0] != &dirty[0] {
		t.Fatal("the buffer was not reused, so the test proves nothing")
	}
	grown := b.Reallocate(1000, b.Reallocate(10, again))
	for i, x := range grown {
		if x != 0 {
			t.Fatalf("byte %d is %#x", i, x)
		}
	}
}

func TestBudgetReallocateShrinksUnderFullLimit(t *testing.T) {
	b := budget(t, "b", 1<<20, nil)
	buf := b.Allocate(1 << 20)
	buf[0] = 7
	if err := refusal(func() { b.Reallocate(2<<20, buf) }); err == nil {
		t.Fatal("growing over the limit was not refused")
	}
	buf = b.Reallocate(100, buf) // no room for a second buffer, so it stays in place
	if len(buf) != 100 || buf[0] != 7 {
		t.Fatalf("len %d, first byte %d", len(buf), buf[0])
	}
	b.Free(buf)
	if b.Live() != 0 {
		t.Errorf("%d bytes live", b.Live())
	}
}

func TestBudgetNests(t *testing.T) {
	host := budget(t, "host", 1<<20, nil)
	a, b := budget(t, "stream a", 1<<20, host), budget(t, "stream b", 1<<20, host)
	a.Free(a.Allocate(100 << 10)) // kept by a for reuse
	kept := a.Allocate(500 << 10)
	if host.Held() != a.Held() {
		t.Errorf("the host holds %d, its only active stream %d", host.Held(), a.Held())
	}
	rest := b.Allocate(512 << 10) // fits only once the idle buffers of a are released
	err := refusal(func() { b.Allocate(100 << 10) })
	var r *Refusal
	if !errors.As(err, &r) || r.Budget != "host" {
		t.Fatalf("got %v, want a refusal of the host", err)
	}
	a.Close()
	if host.Held() != int64(cap(kept)+cap(rest)) {
		t.Errorf("the host holds %d after closing a", host.Held())
	}
	a.Free(kept)
	b.Free(rest)
	b.Close()
	if host.Held() != 0 || host.Live() != 0 || len(host.children) != 0 {
		t.Errorf("the host holds %d, %d live, %d streams", host.Held(), host.Live(), len(host.children))
	}
	if err := refusal(func() { a.Allocate(1) }); err == nil {
		t.Error("a closed budget allocated memory")
	}
}

func TestBudgetForeignBufferIsRefused(t *testing.T) {
	b := budget(t, "b", 1<<20, nil)
	if err := refusal(func() { b.Free(make([]byte, 100)) }); sources.KindOf(err) != sources.Internal || err == nil {
		t.Errorf("got %v", err)
	}
}

// Any mix of calls on nested budgets keeps the figures consistent: nothing exceeds a
// limit, live and held match a model, and everything is zero at the end.
func TestBudgetFiguresAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		host, _ := New("host", rapid.Int64Range(1, 1<<16).Draw(t, "host"), nil)
		streams := make([]*Budget, 3)
		for i := range streams {
			streams[i], _ = New("stream", rapid.Int64Range(1, 1<<16).Draw(t, "limit"), host)
		}
		type held struct {
			owner *Budget
			buf   []byte
		}
		var live []held
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			owner := streams[rapid.IntRange(0, 2).Draw(t, "stream")]
			size := rapid.IntRange(0, 1<<15).Draw(t, "size")
			var i int
			if len(live) > 0 {
				i = rapid.IntRange(0, len(live)-1).Draw(t, "which")
			}
			switch op := rapid.IntRange(0, 2).Draw(t, "op"); {
			case op == 0 || len(live) == 0:
				_ = refusal(func() { live = append(live, held{owner, owner.Allocate(size)}) })
			case op == 1:
				h := &live[i]
				was := append([]byte(nil), h.buf...)
				if refusal(func() { h.buf = h.owner.Reallocate(size, h.buf) }) == nil {
					n := min(len(was), size)
					if len(h.buf) != size || string(h.buf[:n]) != string(was[:n]) {
						t.Fatalf("reallocate to %d lost contents", size)
					}
					for _, x := range h.buf[n:] {
						if x != 0 {
							t.Fatal("reallocate did not zero the buffer")
						}
					}
				}
			default:
				live[i].owner.Free(live[i].buf)
				live = append(live[:i], live[i+1:]...)
			}
			for _, h := range live {
				for i := range h.buf {
					h.buf[i] = 0xaa
				}
			}
			var want int64
			for _, h := range live {
				want += int64(cap(h.buf))
			}
			if host.Live() != want {
				t.Fatalf("%d live, want %d", host.Live(), want)
			}
			var sum int64
			for _, b := range append(streams, host) {
				if b.Held() > b.Limit() || b.Peak() > b.Limit() || b.Live() > b.Held() {
					t.Fatalf("held %d, live %d, peak %d, limit %d", b.Held(), b.Live(), b.Peak(), b.Limit())
				}
				if b != host {
					sum += b.Held()
				}
			}
			if sum != host.Held() {
				t.Fatalf("the host holds %d, its streams %d", host.Held(), sum)
			}
		}
		for _, h := range live {
			h.owner.Free(h.buf)
		}
		for _, b := range streams {
			b.Close()
		}
		if host.Held() != 0 {
			t.Fatalf("%d held at the end", host.Held())
		}
	})
}

func TestBudgetIsSafeForConcurrentUse(t *testing.T) {
	host := budget(t, "host", 1<<20, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			b, _ := New("stream", 256<<10, host)
			for i := range 500 {
				_ = refusal(func() {
					buf := b.Allocate(1 + i*97%(128<<10))
					buf[0] = 1
					b.Free(buf)
				})
			}
			b.Close()
		})
	}
	wg.Wait()
	if host.Held() != 0 || len(host.children) != 0 {
		t.Errorf("the host holds %d for %d streams", host.Held(), len(host.children))
	}
}

// An Arrow builder that is refused memory at any point leaves none behind.
func TestBudgetRefusalLeavesBuildersClean(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "l", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
	}, nil)
	build := func(b *Budget) {
		rb := array.NewRecordBuilder(b, schema)
		defer rb.Release()
		for i := range 200 {
			rb.Field(0).(*array.Int64Builder).Append(int64(i))
			rb.Field(1).(*array.StringBuilder).Append("a text of some length")
			l := rb.Field(2).(*array.ListBuilder)
			l.Append(true)
			l.ValueBuilder().(*array.StringBuilder).Append("item")
		}
		rb.NewRecordBatch().Release()
	}
	var refused int
	for limit := int64(64); ; limit += 256 {
		b := budget(t, "b", limit, nil)
		err := refusal(func() { build(b) })
		if diff := cmp.Diff(int64(0), b.Live()); diff != "" {
			t.Fatalf("limit %d (-want +live): %s", limit, diff)
		}
		if err == nil {
			break
		}
		refused++
	}
	if refused < 20 {
		t.Errorf("only %d refusals were tried", refused)
	}
}

func FuzzSizeClass(f *testing.F) {
	for _, n := range []int{1, 63, 64, 65, 511, 512, 513, 640, 641, 1 << 20, 1<<20 + 1} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n int) {
		if n <= 0 || n > 1<<40 {
			t.Skip()
		}
		c := sizeClass(n)
		if c < n || c%64 != 0 || sizeClass(c) != c || (n > 512 && (c-n)*5 > c) {
			t.Errorf("sizeClass(%d) = %d", n, c)
		}
	})
}

func BenchmarkBudgetReuse(b *testing.B) {
	mem, _ := New("b", 1<<20, nil)
	for b.Loop() {
		mem.Free(mem.Allocate(4096))
	}
}

// FuzzBreakdown tests that any JSON is an error or a breakdown that survives a round trip.
func FuzzBreakdown(f *testing.F) {
	for _, text := range []string{`{}`, `null`, `{"none":1}`, `{"` + Owner(0).String() + `":1}`, `{"` + Owner(0).String() + `":-1}`} {
		f.Add([]byte(text))
	}
	full, err := json.Marshal(Breakdown{1, 2, 3, 4, 5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Fuzz(func(t *testing.T, text []byte) {
		var first, second Breakdown
		if first.UnmarshalJSON(text) != nil {
			return
		}
		again, err := first.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := second.UnmarshalJSON(again); err != nil || first != second {
			t.Errorf("%s became %s, %v", text, again, err)
		}
	})
}
