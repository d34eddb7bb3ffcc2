//go:build !unix

package pgtest

import (
	"errors"
	"os/exec"
)

type user struct{}

// serverUser fails: what ends the server with the test is a shell's doing.
func serverUser() (user, error) {
	return user{}, errors.New("pgtest starts PostgreSQL on Unix systems alone")
}

func (user) own(string) error { return nil }

func (user) run(*exec.Cmd) {}
