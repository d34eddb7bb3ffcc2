package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// binaries returns the directory of initdb and postgres: that of PATH, else the
// newest one where Debian and Homebrew put them, else one downloaded.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			if dir := filepath.Dir(real); complete(dir) {
				return dir, nil
			}
		}
	}
	var found []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin", "/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		found = append(found, slices.DeleteFunc(dirs, func(dir string) bool { return !complete(dir) })...)
	}
	if len(found) > 0 {
		return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) }), nil
	}
	return download()
}

var digits = regexp.MustCompile(`\d+`)

// version is the major version that a path names, or 0.
func version(path string) int {
	n, err := strconv.Atoi(digits.FindString(path))
	if err != nil {
		return 0
	}
	return n
}

func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

// download has the embedded-postgres module fetch its binaries, which it does
// as it starts a server of its own. That server is stopped again: as root it
// does not even come up, but the binaries are there by then.
func download() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "penstock-pgtest", string(embeddedpostgres.V16))
	bin := filepath.Join(dir, "bin")
	if complete(bin) {
		return bin, nil
	}
	runtime, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(runtime) }()
	server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(embeddedpostgres.V16).BinariesPath(dir).RuntimePath(runtime).Port(0).Logger(io.Discard))
	err = server.Start()
	if err == nil {
		err = server.Stop()
	}
	if complete(bin) {
		return bin, nil
	}
	return "", errors.Join(errors.New("there is no PostgreSQL here: install it (Debian: apt-get install postgresql; macOS: brew install postgresql), or let initdb be in PATH"), fmt.Errorf("downloading it failed: %w", err))
}
