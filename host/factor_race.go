//go:build race

package host

// ownFactor is what the caps of children that are this program are multiplied
// with: the race detector makes a program hold five to ten times as much.
const ownFactor = 10
