package csv

import (
	"errors"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// dueTime tells a scanner when the page of its scan is due. A read of a file cannot be
// interrupted, so the scanner looks at the clock before and after each read. The nil
// pointer is never due.
type dueTime struct {
	env   sources.Env
	at    time.Time   // zero means never
	holds func() bool // reports whether the page has something to hand on
}

// errDue is the result of a scanner that would have to read more bytes, but has to hand
// on the page first. The next call goes on.
var errDue = errors.New("the page is due")

// restart begins the time of the next page.
func (d *dueTime) restart() { d.at = d.env.DueAt(time.Now()) }

// passed reports whether the time has come.
func (d *dueTime) passed() bool { return d != nil && !d.at.IsZero() && time.Until(d.at) <= 0 }

// mustHandOn reports whether the page is to be handed on now.
func (d *dueTime) mustHandOn() bool { return d.passed() && d.holds() }

// endOfRead returns when a read that begins now should return what it has, although it
// wants more. If the page is due already, because the next record is still incomplete,
// that is some time from now: dividing it after every few bytes would take too long.
func (d *dueTime) endOfRead() time.Time {
	switch {
	case d == nil:
		return time.Time{}
	case d.passed():
		return d.env.DueAt(time.Now())
	}
	return d.at
}
