//go:build !race

package host

// ownFactor is what the caps of children that are this program are multiplied
// with.
const ownFactor = 1
