package sources

import "slices"

// MaxSkippedLocations is the maximum number of locations that a scan reports.
const MaxSkippedLocations = 10

// Skipped reports records that a source could not read and left out because its
// options allow that. Otherwise such a record is an error.
type Skipped struct {
	// Records is the number of records left out.
	Records int64
	// Locations has the place and the error of the first ones, such as
	// "orders.csv:17:4: the record has 3 fields, but the table has 4 columns". All
	// batches of a scan together have at most [MaxSkippedLocations], and what exceeds
	// [MaxLocation] bytes of one is cut.
	Locations []string
}

// Add adds the records that a later part of the same scan left out.
func (s *Skipped) Add(more Skipped) {
	s.Records += more.Records
	for _, location := range more.Locations {
		if len(s.Locations) < MaxSkippedLocations {
			s.Locations = append(s.Locations, Clip(location, MaxLocation))
		}
	}
}

// Check returns an error of kind [Invalid] if the count is negative, or if there are
// more locations than records or than [MaxSkippedLocations].
func (s Skipped) Check() error {
	if s.Records < 0 || int64(len(s.Locations)) > min(s.Records, MaxSkippedLocations) {
		return Errorf(Invalid, "", "", "%d records were skipped, but there are %d locations", s.Records, len(s.Locations))
	}
	return nil
}

// clipped returns s with at most [MaxLocation] bytes of each location.
func (s Skipped) clipped() Skipped {
	if !slices.ContainsFunc(s.Locations, func(location string) bool { return len(location) > MaxLocation }) {
		return s
	}
	s.Locations = slices.Clone(s.Locations)
	for i, location := range s.Locations {
		s.Locations[i] = Clip(location, MaxLocation)
	}
	return s
}
