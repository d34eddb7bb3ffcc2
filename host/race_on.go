//go:build race

package host

// raceMemoryFactor multiplies the memory caps of processes that are copies of
// this program: with the race detector a program uses five to ten times as much
// memory.
const raceMemoryFactor = 10
