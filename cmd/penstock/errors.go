package main

import (
	"errors"
	"fmt"
)

// The exit codes, which --help documents.
const (
	exitSuccess     = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// usageError is an error in the command as it was typed. It leads to exit code 2.
type usageError struct {
	message string
	detail  string // further lines, such as a line with a caret; or empty
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

// errorIsUsage reports whether an error is a usage error.
func errorIsUsage(err error) bool {
	var u *usageError
	return errors.As(err, &u)
}
