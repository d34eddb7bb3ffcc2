//go:build linux && race

package main

// raced reports whether this program has the race detector.
const raced = true
