package budget

import "time"

// Level is how a stream reacts to the memory that it has left. [Pressure] configures
// when it changes.
type Level uint8

// The levels.
const (
	Normal   Level = iota // enough memory
	Degraded              // short of memory: chunks are small, and nothing is read ahead
	Paused                // out of memory: nothing is fetched until memory is released
)

// String returns the level's name, such as "degraded".
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

// MarshalText returns the level's name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Event is a change of a stream's level. Its JSON names are stable.
type Event struct {
	At    time.Duration `json:"at_ns"` // since the stream was opened; in JSON, in nanoseconds
	From  Level         `json:"from"`
	To    Level         `json:"to"`
	Why   string        `json:"why"`         // the reason, for people
	Rows  int64         `json:"chunk_rows"`  // the maximum of rows per chunk from now on
	Held  Breakdown     `json:"held"`        // memory in use when the level changed
	Limit int64         `json:"limit_bytes"` // the stream's memory limit, in bytes
}

// maxEvents is how many events a stream keeps; later ones are only counted.
const maxEvents = 64
