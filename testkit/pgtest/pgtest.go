// Package pgtest runs a PostgreSQL server for tests.
//
// A test binary has one server, in which each test can create its own databases. The
// server listens on a free loopback port and on a socket in a private directory. It
// stops when the test process exits, for whatever reason: a watchdog process waits until
// a pipe that only the test process holds open is closed, and then stops the server and
// removes its directory.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a running PostgreSQL. It is safe for concurrent use.
type Server struct {
	dir      string // the watchdog removes it
	port     int
	password string
	life     *os.File // the watchdog reads the other end
	watchdog *exec.Cmd

	mu   sync.Mutex
	made int // the number of created databases, for their names
	once sync.Once
	err  error // of Stop
}

var shared = sync.OnceValues(func() (*Server, error) { return Launch(context.Background()) })

// Start returns the server of this test binary. The first call starts it. If PostgreSQL
// is not installed, Start fails the test and names what to install. The server stops
// when the test process exits.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Launch starts a separate server, for a TestMain or a test that stops its server. The
// context applies to the start only. The server stops when [Server.Stop] is called or
// the process exits.
func Launch(ctx context.Context) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s := &Server{dir: dir, password: rand.Text()}
	if err := s.launch(ctx, bin); err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: %w", err), s.Stop(), os.RemoveAll(dir))
	}
	return s, nil
}

func (s *Server) launch(ctx context.Context, bin string) error {
	owner, err := serverUser()
	if err != nil {
		return err
	}
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(s.password), 0o600); err != nil {
		return err
	}
	for _, path := range []string{s.dir, secret} {
		if err := owner.own(path); err != nil {
			return err
		}
	}
	data := filepath.Join(s.dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "scram-sha-256",
		"--pwfile", secret, "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	owner.run(initdb)
	initdb.Dir = s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, strings.TrimSpace(string(out)))
	}
	// Another process may take the port before the server does. Therefore a server that
	// does not start gets a second port.
	for range 3 {
		if err = s.serve(ctx, bin, data, owner); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// The watchdog stops the server at the end of its input, and waits for the server to
// exit before it does itself.
const watchdog = `"$1/postgres" -D "$2" -p "$3" -k "$2" -c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=100 -c shared_buffers=64MB -c autovacuum=off &
server=$!
(while kill -0 $server 2>/dev/null; do sleep 1; done; kill $$ 2>/dev/null) &
look=$!
trap 'exit 1' TERM
read -r _
kill $look 2>/dev/null
kill -QUIT $server 2>/dev/null
wait $server
rm -rf "$4"`

func (s *Server) serve(ctx context.Context, bin, data string, owner user) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return errors.Join(err, read.Close(), write.Close())
	}
	c := exec.Command("/bin/sh", "-c", watchdog, "pgtest", bin, data, fmt.Sprint(s.port), s.dir)
	c.Dir, c.Stdin, c.Stdout, c.Stderr = "/", read, log, log
	owner.run(c)
	err = c.Start()
	err = errors.Join(err, read.Close(), log.Close())
	if err != nil {
		return errors.Join(err, write.Close())
	}
	s.life, s.watchdog = write, c
	for {
		conn, err := pgx.Connect(ctx, s.URI("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		text, _ := os.ReadFile(log.Name())
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server does not respond: %w\n%s", ctx.Err(), text)
		case <-time.After(20 * time.Millisecond):
		}
		if strings.Contains(string(text), "FATAL:  could not create any TCP/IP sockets") || strings.Contains(string(text), "database system is shut down") {
			return fmt.Errorf("the server exited:\n%s", text)
		}
	}
}

// Stop stops the server and removes its directory. A second Stop does nothing.
func (s *Server) Stop() error {
	s.once.Do(func() {
		if s.life == nil {
			return
		}
		s.err = s.life.Close()
		if err := s.watchdog.Wait(); err != nil {
			s.err = errors.Join(s.err, fmt.Errorf("pgtest: the watchdog: %w", err))
		}
	})
	return s.err
}

// URI returns the URI of a database for the superuser.
func (s *Server) URI(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", s.password),
		Host: fmt.Sprintf("127.0.0.1:%d", s.port), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Database creates a database, runs the scripts in it by [Run], and returns its URI. The
// database is dropped at the end of the test.
func (s *Server) Database(t testing.TB, scripts ...string) string {
	t.Helper()
	s.mu.Lock()
	s.made++
	name := fmt.Sprintf("test_%d", s.made)
	s.mu.Unlock()
	uri := s.URI(name)
	ctx := context.Background()
	if err := Run(ctx, s.URI("postgres"), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Run(ctx, s.URI("postgres"), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	for _, script := range scripts {
		if err := Run(ctx, uri, script); err != nil {
			t.Fatal(err)
		}
	}
	return uri
}
