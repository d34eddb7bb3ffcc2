package sources

import (
	"fmt"
	"runtime/debug"
)

// Guard makes a source's scan safe to range over: what panics in the source
// becomes the scan's error, what panics in the loop's own body passes through
// untouched, as does the goroutine's exit. Every error says op and table. A
// second range is refused. A panic with an [*Error], which is how [Env.Mem]
// refuses memory, keeps its kind; any other is [Internal] with its stack.
//
// Guard also holds the scan to its word: a batch after an error is dropped, and
// a scan that ends without a batch and without an error is [Internal].
//
// A goroutine that the source starts itself is beyond its reach: a panic there
// ends the process.
func Guard(op, table string, scan Batches) Batches {
	used := false
	return func(yield func(Batch, error) bool) {
		if used {
			yield(Batch{}, &Error{Op: op, Table: table, Kind: Invalid, Err: errRanged})
			return
		}
		used = true
		// A plain recover around an iterator would also catch the panics of the
		// loop's body, and the runtime would call that a fault of the loop. So
		// the guard knows whether it is inside the body.
		var inBody, ended, yielded bool
		fail := func(err error) {
			ended, inBody = true, true
			yield(Batch{}, WithOp(op, table, err))
			inBody = false
		}
		defer func() {
			if inBody {
				return
			}
			if r := recover(); r != nil && !ended {
				fail(PanicError(r))
			}
		}()
		scan(func(b Batch, err error) bool {
			if ended {
				return false
			}
			if err != nil {
				fail(err)
				return false
			}
			yielded, inBody = true, true
			more := yield(b, nil)
			inBody = false
			ended = !more
			return more
		})
		if !yielded && !ended {
			fail(&Error{Kind: Internal, Err: errSilent})
		}
	}
}

var (
	errRanged = fmt.Errorf("the scan was already ranged over; a scan is single use")
	errSilent = fmt.Errorf("the scan ended without a batch and without an error")
)

// Call runs one call into a source and turns its panic into an error, as
// [Guard] does for a scan.
func GuardCall[T any](op, table string, f func() (T, error)) (result T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = PanicError(r)
		}
		err = WithOp(op, table, err)
	}()
	return f()
}

// PanicError returns the error for what recover returned.
func PanicError(r any) error {
	if e, ok := r.(*Error); ok {
		return e
	}
	return &Error{Kind: Internal, Err: fmt.Errorf("panic: %v\n%s", r, debug.Stack())}
}
