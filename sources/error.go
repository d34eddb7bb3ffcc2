package sources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Kind classifies an error by what can be done about it.
type Kind uint8

// The kinds of errors. They are wire constants: append only.
const (
	Internal    Kind = iota // a bug, or an unclassified error
	Invalid                 // the query or the data is not valid; retrying does not help
	NotFound                // a table, a column or a file does not exist
	Unavailable             // the source cannot be reached now; the only kind that is retried
	Exhausted               // a limit was reached, such as memory or connections
	Denied                  // permission denied
	Canceled                // the caller canceled the operation
)

var kindNames = [...]string{"internal", "invalid", "not found", "unavailable", "exhausted", "denied", "canceled"}

// String returns the kind's name as errors contain it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// Error is the error type of sources and of the engine. Its text has the form
// "scan shop.orders: unavailable: connection reset".
type Error struct {
	Op    string // the operation, such as open, catalog, begin, plan, scan or close
	Table string // the table, or empty
	Kind  Kind
	Err   error // the cause; it must not contain secrets
}

// NewError returns an [*Error] with the given kind, operation, table and cause. The
// operation and the table may be empty; [WithOp] sets them later.
func NewError(kind Kind, op, table string, err error) *Error {
	return &Error{Op: op, Table: table, Kind: kind, Err: err}
}

// Errorf returns an [*Error] as [NewError] does, with the cause
// fmt.Errorf(format, args...). The verb %w wraps an error.
func Errorf(kind Kind, op, table, format string, args ...any) *Error {
	return NewError(kind, op, table, fmt.Errorf(format, args...))
}

// Error returns "op table: kind: cause". Of a text that is longer than [MaxErrorText]
// bytes it returns the beginning.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(Clip(e.Op, shownName))
	if e.Table != "" {
		if e.Op != "" {
			b.WriteByte(' ')
		}
		b.WriteString(Clip(e.Table, shownName))
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Kind.String())
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return Clip(b.String(), MaxErrorText)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first [*Error] in err's chain. Without one, the kind
// is [Canceled] for an error of a context, [NotFound] for [fs.ErrNotExist], [Denied]
// for [fs.ErrPermission], and [Internal] otherwise.
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

// WithOp returns err as an [*Error] with the operation and the table. It does not
// replace an operation or a table that err, if it is an [*Error], already has. An
// [errors.Join] of a single error counts as that error. If err is nil, WithOp returns
// nil.
func WithOp(op, table string, err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if all := joined.Unwrap(); len(all) == 1 {
			err = all[0]
		}
	}
	e, ok := err.(*Error)
	if !ok {
		return NewError(KindOf(err), op, table, err)
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
