// Package rows moves rows between Arrow records: it copies ranges, takes single
// rows, compares values and sums up checksums. What it allocates comes from the
// caller's allocator, and is released again where that refuses memory.
package rows
