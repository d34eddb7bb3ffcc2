//go:build !unix

package csv

// openWithoutWaiting is zero where opening a file does not wait, or cannot be told not
// to.
const openWithoutWaiting = 0
