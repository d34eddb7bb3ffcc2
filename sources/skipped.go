package sources

import "fmt"

// MaxSkipped is how many places of skipped records are kept.
const MaxSkippedLocations = 10

// Skipped counts the records that a source could not read and was told to leave
// out. It is beside the data and no error: the scan goes on. A source that was
// not told so ends in an error instead.
type Skipped struct {
	// Records is how many there were.
	Records int64
	// First are the places and faults of the first ones of the scan, at most
	// [MaxSkippedLocations] of all its batches together, as in "orders.csv:17:4: the record has 3 fields, the table 4 columns".
	Locations []string
}

// Add counts what another part of the same scan left out after this one.
func (s *Skipped) Add(more Skipped) {
	s.Records += more.Records
	for _, place := range more.Locations {
		if len(s.Locations) < MaxSkippedLocations {
			s.Locations = append(s.Locations, place)
		}
	}
}

// Check returns what is wrong with s, an error of kind [Invalid]: a negative
// count, or more places than there are records or than [MaxSkippedLocations].
func (s Skipped) Check() error {
	if s.Records < 0 || int64(len(s.Locations)) > min(s.Records, MaxSkippedLocations) {
		return &Error{Kind: Invalid, Err: fmt.Errorf("%d records were skipped, and there are the places of %d", s.Records, len(s.Locations))}
	}
	return nil
}
