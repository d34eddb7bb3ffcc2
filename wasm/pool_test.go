package wasm_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/wasm"
)

// TestRegion checks that a memory keeps its contents as it grows, that new bytes are
// zero, and that it does not exceed its limit.
func TestRegion(t *testing.T) {
	for name, make := range map[string]func(int64) (func(int64) []byte, func()){"region": wasm.Region, "slice": wasm.Fallback} {
		t.Run(name, func(t *testing.T) {
			const page = 64 << 10
			grow, free := make(8 * page)
			defer free()
			if b := grow(0); b == nil || len(b) != 0 {
				t.Errorf("nothing is %v", b)
			}
			size := 0
			for pages := range 8 {
				b := grow(int64(pages+1) * page)
				if len(b) != (pages+1)*page {
					t.Fatalf("%d pages are %d bytes", pages+1, len(b))
				}
				for p := range pages {
					if b[p*page] != byte(p+1) || b[(p+1)*page-1] != byte(p+1) {
						t.Errorf("page %d has changed when there were %d", p, pages+1)
					}
				}
				if !bytes.Equal(b[size:], bytes.Repeat([]byte{0}, page)) {
					t.Errorf("page %d is not empty", pages)
				}
				b[size], b[len(b)-1] = byte(pages+1), byte(pages+1)
				size = len(b)
			}
		})
	}
	grow, free := wasm.Region(1 << 20)
	if runtime.GOOS == "linux" && grow(2<<20) != nil {
		t.Error("it grows over its most")
	}
	free()
	free()
}

// TestIdle checks that at most MaxIdle instances are kept, and only for IdleTimeout.
func TestIdle(t *testing.T) {
	s := shared(t)
	var sessions []sources.Session
	for range wasm.DefaultMaxIdle + 1 {
		sessions = append(sessions, begin(t, s, small))
	}
	for _, n := range sessions {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := wasm.Idle(s); n != wasm.DefaultMaxIdle {
		t.Errorf("%d instances wait", n)
	}
	cold := options(t, "rows")
	cold.MaxIdle = -1
	if n := wasm.Idle(open(t, cold, sources.Config{})); n != 0 {
		t.Errorf("%d instances wait where none should", n)
	}
	o := options(t, "rows")
	o.IdleTimeout = time.Millisecond
	s = open(t, o, sources.Config{})
	for deadline := time.Now().Add(20 * time.Second); wasm.Idle(s) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("an instance waits for ever")
		}
	}
	session := begin(t, s, small)
	if rows, _, err := read(t.Context(), session, &sources.Query{Table: "people"}); err != nil || len(rows) != 5 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	o.IdleTimeout = -1
	if _, err := wasm.Open(t.Context(), o, sources.Config{}); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "IdleTimeout must not be negative (got -1ns)") {
		t.Errorf("a negative time: %v", err)
	}
}

// TestIsolateFigures checks the memory use that a session reports.
func TestIsolateFigures(t *testing.T) {
	o := options(t, "rows")
	o.Memory = 64 << 20
	session := begin(t, open(t, o, sources.Config{}), small)
	figures := session.(interface {
		SandboxMemory() (held, peak, limit int64)
	})
	if held, peak, limit := figures.SandboxMemory(); held < 1<<20 || peak < held || limit != o.Memory {
		t.Errorf("it has %d, at most %d, of %d bytes", held, peak, limit)
	}
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	if held, peak, limit := figures.SandboxMemory(); held != 0 || peak < 1<<20 || limit != o.Memory {
		t.Errorf("after its end it has %d, at most %d, of %d bytes", held, peak, limit)
	}
}
