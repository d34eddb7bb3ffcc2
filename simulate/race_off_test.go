//go:build !race

package simulate

// defaultSeeds is how many worlds a test runs.
const defaultSeeds = 2000
