package sources

import (
	"context"
	"errors"
	"io/fs"
	"strings"
)

// Kind says what sort of fault an error is, and so what can be done about it.
type Kind uint8

// The kinds of errors. They are wire constants: append only.
const (
	Internal    Kind = iota // a fault of the program; also what nobody classified
	Invalid                 // the question or the data is wrong: asking again will not help
	NotFound                // a table, a column or a file is not there
	Unavailable             // the source cannot be reached now; the only kind that is retried
	Exhausted               // a limit was reached: memory, a field's size, a number of connections
	Denied                  // the permission is missing
	Canceled                // the caller gave up
)

var kindNames = [...]string{"internal", "invalid", "not found", "unavailable", "exhausted", "denied", "canceled"}

// String returns the kind's name, as it stands in errors.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// Error is what every function of the contract returns for a fault. It reads
// "scan shop.orders: unavailable: connection reset".
type Error struct {
	Op    string // what was attempted: open, catalog, begin, plan, scan, close
	Table string // the table it was about, or empty
	Kind  Kind
	Err   error // the cause; it names file, line, column or field where there is one, and holds no secret
}

// Error returns "op table: kind: cause".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Table != "" {
		if e.Op != "" {
			b.WriteByte(' ')
		}
		b.WriteString(e.Table)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Kind.String())
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first [*Error] in err's chain. For an error
// without one it knows the standard library's: a cancelled context, a missing
// file, a missing permission. All else is [Internal].
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Canceled
	case errors.Is(err, fs.ErrNotExist):
		return NotFound
	case errors.Is(err, fs.ErrPermission):
		return Denied
	}
	return Internal
}

// WithOp returns err as an [*Error] that says op and table. An error that has
// both already is returned as it is, so that the innermost words stand and no
// line says them twice; nil stays nil.
func WithOp(op, table string, err error) error {
	if err == nil {
		return nil
	}
	e, ok := err.(*Error)
	if !ok {
		return &Error{Op: op, Table: table, Kind: KindOf(err), Err: err}
	}
	if e.Op != "" && (e.Table != "" || table == "") {
		return err
	}
	full := *e
	if full.Op == "" {
		full.Op = op
	}
	if full.Table == "" {
		full.Table = table
	}
	return &full
}
