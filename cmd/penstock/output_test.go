package main

import "testing"

func TestOutputRefusesADirectory(t *testing.T) {
	if _, err := createOutput(t.TempDir()); !errorIsUsage(err) {
		t.Errorf("got %v, want a usage error", err)
	}
}
