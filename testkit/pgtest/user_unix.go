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

// user is who runs the server: PostgreSQL refuses to run as root. The zero user
// is the one who runs the test.
type user struct {
	credential *syscall.Credential
}

// serverUser chooses the user: postgres where root runs the test and there is
// such a user, else nobody.
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
	return user{}, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody: create one")
}

// own gives a file to the user.
func (u user) own(path string) error {
	if u.credential == nil {
		return nil
	}
	return os.Chown(path, int(u.credential.Uid), int(u.credential.Gid))
}

// run makes a command run as the user, in a process group of its own.
func (u user) run(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Credential: u.credential, Setpgid: true}
	c.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
}
