package retry

import (
	"slices"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// FaultKind is the kind of a [Fault].
type FaultKind string

// The kinds of faults.
const (
	FaultRetried FaultKind = "retried" // the source failed, and is retried after Wait
	FaultStalled FaultKind = "stalled" // the source has delivered nothing for Wait, and the stream still waits
)

// Fault is a problem with a source that did not end the stream. Its JSON names are
// stable.
type Fault struct {
	At   time.Duration `json:"at_ns"` // since the stream was opened; in JSON, in nanoseconds
	Kind FaultKind     `json:"kind"`
	// Err is the error of a failed attempt, or nil for a stall.
	Err error `json:"-"`
	// Text is the text of Err, or for a stall what the stream waits for.
	Text string `json:"text"`
	// Try is the number of attempts since the source last made progress, including the
	// failed one; 0 for a stall.
	Try int `json:"try,omitempty"`
	// Wait is the time until the next attempt, or for a stall the time waited so far.
	Wait time.Duration `json:"wait_ns"`
}

// maxFaults is how many faults a stream keeps; later ones are only counted.
const maxFaults = 64

// faultLog keeps the faults of a stream, and reports them to an observer. It is safe
// for concurrent use.
type faultLog struct {
	started time.Time
	notify  func(Fault) // or nil

	mu      sync.Mutex
	faults  []Fault
	retries int64
	stalls  int64
}

// add records a fault and reports it.
func (l *faultLog) add(f Fault) {
	f.At = time.Since(l.started)
	if f.Err != nil {
		f.Text = f.Err.Error()
	}
	l.mu.Lock()
	switch f.Kind {
	case FaultRetried:
		l.retries++
	case FaultStalled:
		l.stalls++
	}
	if len(l.faults) < maxFaults {
		l.faults = append(l.faults, f)
	}
	l.mu.Unlock()
	if l.notify != nil {
		l.notify(f)
	}
}

// report returns what [Source.Faults] does.
func (l *faultLog) report() (first []Fault, retries, stalls int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.faults), l.retries, l.stalls
}

// permanent is the cause of an error of kind [sources.Unavailable] that a retry cannot
// resolve.
type permanent struct{ cause error }

func (p permanent) Error() string { return p.cause.Error() }
func (p permanent) Unwrap() error { return p.cause }

// permanentError returns an error of kind [sources.Unavailable] that is not retried.
func permanentError(op, table string, cause error) error {
	return sources.NewError(sources.Unavailable, op, table, permanent{cause})
}
