package budget

import "time"

// Level is how a stream goes about memory.
type Level uint8

// The levels.
const (
	Normal   Level = iota
	Degraded       // short of memory: small chunks, nothing ahead of time
	Paused         // out of memory: nothing is fetched until somebody gives some back
)

// String is the level's name, as in "degraded".
func (l Level) String() string {
	switch l {
	case Normal:
		return "normal"
	case Degraded:
		return "degraded"
	case Paused:
		return "paused"
	}
	return "level?"
}

// MarshalText writes the level's name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Event is a change of a stream's level. Its JSON names are stable.
type Event struct {
	At    time.Duration `json:"at_ns"` // since the stream was opened, in nanoseconds
	From  Level         `json:"from"`
	To    Level         `json:"to"`
	Why   string        `json:"why"`
	Rows  int64         `json:"chunk_rows"` // how many rows a chunk has from now on
	Held  Breakdown     `json:"held"`
	Limit int64         `json:"limit_bytes"`
}

// maxEvents is how many changes of level a receipt tells; what comes later is
// counted.
const maxEvents = 64
