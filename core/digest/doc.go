// Package digest states which rows a stream delivered, in a few words that add up: the
// digest of a whole follows from the digests of its parts, such as the runs of a resumed
// export, the partitions of a table, or the tasks of a larger job.
package digest
