package core

// DefaultChunkRows is how many rows a chunk has when nobody says otherwise.
const DefaultChunkRows = 1000

// chunkSize says how large the next chunk may be. It is the place where a
// stream adapts to the memory there is; for now the size is fixed.
type chunkSize struct {
	rows  int64 // at most
	bytes int64 // at most, as sources.Size counts; a chunk of one page may be larger
}

// newChunkSize returns the size for a stream of that limit. Joining holds the
// pages and the chunk made of them at once, so an eighth of the limit is a
// quarter at the worst.
func newChunkSize(rows, limit int64) *chunkSize {
	if rows <= 0 {
		rows = DefaultChunkRows
	}
	return &chunkSize{rows: rows, bytes: max(limit/8, 1)}
}

func (c *chunkSize) next() (rows, bytes int64) { return c.rows, c.bytes }
