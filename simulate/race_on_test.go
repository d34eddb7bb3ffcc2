//go:build race

package simulate

// defaultSeeds is how many worlds a test runs; the race detector makes each much slower.
const defaultSeeds = 200
