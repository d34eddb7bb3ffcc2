// Package rows moves rows between Arrow records: it copies ranges of rows, takes
// single rows, and compares values. Results are allocated
// from the caller's allocator. If that refuses memory, the functions panic, after
// releasing what they had allocated.
package rows
