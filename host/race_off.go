//go:build !race

package host

// raceMemoryFactor multiplies the memory caps of processes that are copies of
// this program.
const raceMemoryFactor = 1
