//go:build linux

package host_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/host"
)

// TestStoppedProcess checks that a process which hangs is killed after the stream's
// stall timeout, and that another one takes over.
func TestStoppedProcess(t *testing.T) {
	h := behind(t, host.Process, t.TempDir())
	source, err := h.Open(t.Context(), "csv:"+shop(t, 20_000))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := source.Stream(t.Context(), core.Query{Table: "orders"}, core.Options{
		Memory: 4 << 20, Retry: retry.Policy{InitialBackoff: time.Millisecond}, Timeouts: retry.Timeouts{Stall: 300 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	stopped := 0
	for _, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range source.Sandboxes() {
			if i.Sessions > 0 && stopped == 0 {
				stopped = i.Pid
				if err := syscall.Kill(i.Pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	r := stream.Receipt()
	// A busy machine may stall the stream at other times, too.
	stalled := func(f retry.Fault) bool { return strings.Contains(f.Text, "the source stalled") }
	if !r.Complete || r.Rows != 20_000 || r.Stalls == 0 || r.Retries == 0 || !slices.ContainsFunc(r.Faults, stalled) {
		t.Errorf("the receipt is %+v", r)
	}
	if _, err := os.Stat("/proc/" + strconv.Itoa(stopped)); err == nil {
		t.Errorf("process %d is still there", stopped)
	}
}
