package main

import (
	"errors"
	"fmt"
)

// The exit codes, as --help documents them.
const (
	exitGood        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// usageError is a fault in what was typed; it ends the command with exit code 2.
type usageError struct {
	message string
	detail  string // further lines, as of a caret display; or empty
	hint    string // the command to type next, or empty
}

// Error returns the message with its detail.
func (e *usageError) Error() string {
	if e.detail != "" {
		return e.message + "\n" + e.detail
	}
	return e.message
}

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// errorIsUsage reports whether an error is a fault in what was typed.
func errorIsUsage(err error) bool {
	var u *usageError
	return errors.As(err, &u)
}
