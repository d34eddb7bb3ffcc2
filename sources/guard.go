package sources

import (
	"fmt"
	"runtime/debug"
)

// Guard returns a sequence that enforces the rules of [Batches] on scan:
//
//   - A panic in scan becomes an error. If its value is an [*Error], such as that of
//     [Env.Mem], that is the error; otherwise the error is of kind [Internal] and
//     contains the stack. A panic in the body of the consumer's range loop passes
//     through, as does runtime.Goexit.
//   - Errors get op and table by [WithOp].
//   - Batches after an error are dropped.
//   - What exceeds [MaxLocation] in [Skipped.Locations] is cut.
//   - A scan without any batch or error yields an error of kind [Internal].
//   - Ranging again yields an error of kind [Invalid].
//
// Guard does not recover panics in goroutines that scan starts.
func Guard(op, table string, scan Batches) Batches {
	used := false
	return func(yield func(Batch, error) bool) {
		if used {
			yield(Batch{}, NewError(Invalid, op, table, errRangedTwice))
			return
		}
		used = true
		// Recovering a panic of the loop body would be reported by the runtime as a
		// misbehaving loop, so keep track of whether the body is running.
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
			b.Skipped = b.Skipped.clipped()
			yielded, inBody = true, true
			more := yield(b, nil)
			inBody = false
			ended = !more
			return more
		})
		if !yielded && !ended {
			fail(NewError(Internal, "", "", errSilent))
		}
	}
}

var (
	errRangedTwice = fmt.Errorf("the scan was already ranged over; a scan is single-use")
	errSilent      = fmt.Errorf("the scan ended without a batch and without an error")
)

// GuardCall calls f and returns its results. As in [Guard], a panic becomes an error,
// and the error gets op and table.
func GuardCall[T any](op, table string, f func() (T, error)) (result T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = PanicError(r)
		}
		err = WithOp(op, table, err)
	}()
	return f()
}

// PanicError returns the error for r, a value that recover returned: r itself if it is
// an [*Error], such as the refusal of a memory budget, and otherwise an error of kind
// [Internal] with the stack.
func PanicError(r any) error {
	if e, ok := r.(*Error); ok {
		return e
	}
	return Errorf(Internal, "", "", "panic: %v\n%s", r, debug.Stack())
}
