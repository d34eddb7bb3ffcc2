//go:build unix

package pgtest

import (
	"errors"
	"os"
	"os/exec"
	osuser "os/user"
	"strconv"
	"syscall"
)

// user is the user that runs the server, since PostgreSQL does not run as root. The zero
// user is the user that runs the test.
type user struct {
	credential *syscall.Credential
}

// serverUser returns the user of the test, or if that is root, postgres or nobody.
func serverUser() (user, error) {
	if os.Geteuid() != 0 {
		return user{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := osuser.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err, err2); err != nil {
			return user{}, err
		}
		return user{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: true}}, nil
	}
	return user{}, errors.New("PostgreSQL does not run as root, and neither the user postgres nor nobody exists: create one of them")
}

// own makes the user the owner of a file.
func (u user) own(path string) error {
	if u.credential == nil {
		return nil
	}
	return os.Chown(path, int(u.credential.Uid), int(u.credential.Gid))
}

// run configures a command to run as the user, in a process group of its own.
func (u user) run(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Credential: u.credential, Setpgid: true}
	c.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
}
