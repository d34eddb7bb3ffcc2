package main

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInterruptedIs130(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"demo", filepath.Join(t.TempDir(), "shop")}, strings.NewReader(""), &stdout, &stderr)
	if code != exitInterrupted || stdout.Len()+stderr.Len() > 0 {
		t.Errorf("code %d, output %q, errors %q", code, stdout.String(), stderr.String())
	}
}

// A usage error is reported even if Ctrl-C was pressed as well.
func TestUsageWinsOverInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	if code := run(ctx, []string{"demo"}, strings.NewReader(""), &stdout, &stderr); code != exitUsage {
		t.Errorf("code %d", code)
	}
}

func TestErrorsAreOneLine(t *testing.T) {
	var stderr bytes.Buffer
	if code := exit(t.Context(), newRoot(), errors.New("first\nsecond"), &stderr); code != exitFailure {
		t.Errorf("code %d", code)
	}
	if diff := cmp.Diff("penstock: first; second\n", stderr.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
