//go:build !unix

package pgtest

import (
	"errors"
	"os/exec"
)

type user struct{}

// serverUser returns an error: the watchdog is a Unix shell.
func serverUser() (user, error) {
	return user{}, errors.New("pgtest runs PostgreSQL only on Unix systems")
}

func (user) own(string) error { return nil }

func (user) run(*exec.Cmd) {}
