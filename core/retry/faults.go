package retry

import (
	"slices"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// FaultKind says what happened to a stream whose source is in trouble.
type FaultKind string

// The kinds of faults.
const (
	FaultRetried FaultKind = "retried" // it failed, and is tried again after Wait
	FaultStalled FaultKind = "stalled" // it has given nothing for Wait, and is still waited for
)

// Fault is something that went wrong between a stream and its source, and did
// not end the stream. Its JSON names are stable.
type Fault struct {
	At   time.Duration `json:"at_ns"` // since the stream was opened, in nanoseconds
	Kind FaultKind     `json:"kind"`
	// Err is what went wrong; of a stall it is nil.
	Err error `json:"-"`
	// Text is Err's, or what is waited for.
	Text string `json:"text"`
	// Try counts the tries since the source last gave something, from 1.
	Try  int           `json:"try,omitempty"`
	Wait time.Duration `json:"wait_ns"` // nanoseconds
}

// maxFaults is how many faults a receipt tells; what comes later is counted.
const maxFaults = 64

// faultLog keeps what a receipt tells of faults, and passes them on. It is safe
// for concurrent use.
type faultLog struct {
	started time.Time
	notify  func(Fault) // or nil

	mu      sync.Mutex
	faults  []Fault
	retries int64
	stalls  int64
}

// add notes a fault and tells of it.
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

func (l *faultLog) report() (first []Fault, retries, stalls int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.faults), l.retries, l.stalls
}

// permanent is the cause of an error of kind [sources.Unavailable] that no retry
// can mend.
type permanent struct{ cause error }

func (h permanent) Error() string { return h.cause.Error() }
func (h permanent) Unwrap() error { return h.cause }

// permanentError marks an error as one that is not worth another try, and says why.
func permanentError(op, table string, cause error) error {
	return &sources.Error{Op: op, Table: table, Kind: sources.Unavailable, Err: permanent{cause}}
}
