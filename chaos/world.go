//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/chaos/unruly"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/testkit/pgtest"
	"github.com/penstock-data/penstock/wasm"
)

var linked = map[string]sources.Open{"csv": csv.Open, "postgres": postgres.Open, "unruly": unruly.Open}

var walls = []wall.Wall{process.Wall(), wasm.Wall()}

// world has what all runs share: the data, and the programs that serve it.
type world struct {
	dir      string // the directory of all files of the world
	shop     string // the directory of CSV files
	plugins  string
	penstock string // the command line; empty if it is not tested
	module   bool
	mounts   bool           // whether a child of this process may mount a file system
	server   *pgtest.Server // nil without PostgreSQL
	uri      string         // the address of the database
	truths   map[string]*truth
	exports  map[string][]byte // right outputs of the command line, by its arguments
}

// build returns a new world. The caller closes it.
func build(ctx context.Context, o options) (w *world, err error) {
	w = &world{module: o.modules, truths: map[string]*truth{}, exports: map[string][]byte{}}
	if w.dir, err = os.MkdirTemp("", "chaos"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	w.mounts = exec.CommandContext(ctx, "unshare", "-rm", "true").Run() == nil
	w.shop, w.plugins = filepath.Join(w.dir, "shop"), filepath.Join(w.dir, "plugins")
	shop := testkit.Shop{Seed: 11, Orders: o.orders}
	if err := os.Mkdir(w.shop, 0o777); err != nil {
		return nil, err
	}
	if err := shop.WriteCSV(ctx, w.shop); err != nil {
		return nil, err
	}
	if err := compile(ctx, filepath.Join(w.plugins, "penstock-source-csv"), "plugins/csv/plugin"); err != nil {
		return nil, err
	}
	if o.modules {
		for name, pkg := range map[string]string{"csv": "plugins/csv/plugin", "unruly": "chaos/unruly/plugin", "liar": "chaos/unruly/liar"} {
			if err := compile(ctx, filepath.Join(w.plugins, name+".wasm"), pkg, "GOOS=wasip1", "GOARCH=wasm"); err != nil {
				return nil, err
			}
		}
		if err := w.prime(ctx); err != nil {
			return nil, err
		}
	}
	if o.cli {
		w.penstock = filepath.Join(w.dir, "penstock")
		if err := compile(ctx, w.penstock, "cmd/penstock"); err != nil {
			return nil, err
		}
	}
	if !o.postgres {
		return w, nil
	}
	if err := compile(ctx, filepath.Join(w.plugins, "penstock-source-postgres"), "plugins/postgres/plugin"); err != nil {
		return nil, err
	}
	if w.server, err = pgtest.Launch(ctx); err != nil {
		return nil, err
	}
	w.uri = w.server.URI("postgres")
	script := &bytes.Buffer{}
	if err := shop.WriteSQL(ctx, script); err != nil {
		return nil, err
	}
	return w, pgtest.Run(ctx, w.uri, script.String())
}

// prime opens each module once, so that it is in the cache of compiled modules and no run
// has to compile it.
func (w *world) prime(ctx context.Context) (err error) {
	h, err := host.New(host.Options{Walls: walls, Isolation: host.Module, PluginPath: []string{w.plugins}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	for _, uri := range []string{"csv:" + w.shop, "unruly:" + w.shop + "?fault=estimates&after=0", "liar:" + w.shop} {
		s, err := h.Open(ctx, uri)
		if err != nil {
			return err
		}
		if _, err := s.Catalog(ctx); err != nil {
			return err
		}
	}
	return nil
}

// compile builds a package of this module.
func compile(ctx context.Context, to, pkg string, env ...string) error {
	c := exec.CommandContext(ctx, "go", "build", "-o", to, "github.com/penstock-data/penstock/"+pkg)
	c.Env = append(append(c.Environ(), "CGO_ENABLED=0"), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build %s: %w: %s", pkg, err, out)
	}
	return nil
}

func (w *world) close() error {
	var err error
	if w.server != nil {
		err = w.server.Stop()
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// backends returns how many clients the database has besides the caller.
func (w *world) backends(ctx context.Context) (n int, err error) {
	conn, err := pgx.Connect(ctx, w.uri)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&n)
	return n, err
}

// terminate terminates one of the server's backends that streams read from, and reports
// whether there was one.
func (w *world) terminate(ctx context.Context) (bool, error) {
	conn, err := pgx.Connect(ctx, w.uri)
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	var ended bool
	err = conn.QueryRow(ctx, `SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM (SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) AS one`).Scan(&ended)
	return ended, err
}

// proxied starts a proxy in front of the database, and returns the database's address
// through it. The caller closes the proxy.
func (w *world) proxied(plan func(int) testkit.Damage) (*testkit.Proxy, string, error) {
	u, err := url.Parse(w.uri)
	if err != nil {
		return nil, "", err
	}
	p, err := testkit.NewProxy("tcp", "127.0.0.1:0", "tcp", u.Host, plan)
	if err != nil {
		return nil, "", err
	}
	u.Host = net.JoinHostPort("127.0.0.1", fmt.Sprint(p.Addr().(*net.TCPAddr).Port))
	return p, u.String(), nil
}
