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

	"github.com/penstock-data/penstock/core"
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

var linked = map[string]sources.Open{"csv": csv.Open, "postgres": postgres.Open}

var walls = []wall.Wall{process.Wall(), wasm.Wall()}

// world has what all runs share: the data, and the programs that serve it.
type world struct {
	dir      string // the directory of all files of the world
	shop     string // the directory of CSV files
	plugins  string
	penstock string // the command line; empty if it is not tested
	module   bool
	server   *pgtest.Server // nil without PostgreSQL
	uri      string         // the address of the database
	truth    map[string]core.Receipt
}

// build returns a new world. The caller closes it.
func build(ctx context.Context, o options) (w *world, err error) {
	w = &world{module: o.modules, truth: map[string]core.Receipt{}}
	if w.dir, err = os.MkdirTemp("", "chaos"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
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
		if err := compile(ctx, filepath.Join(w.plugins, "csv.wasm"), "plugins/csv/plugin", "GOOS=wasip1", "GOARCH=wasm"); err != nil {
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

// question is the query of a run.
type question struct {
	source string // csv or postgres
	query  core.Query
	text   string
}

// answer returns the receipt of an undisturbed, in-process stream of a question.
func (w *world) answer(ctx context.Context, q question) (core.Receipt, error) {
	key := q.source + " " + q.text
	if r, ok := w.truth[key]; ok {
		return r, nil
	}
	h, err := host.New(host.Options{Sources: linked, Isolation: host.InProcess})
	if err != nil {
		return core.Receipt{}, err
	}
	defer h.Close()
	uri := w.uri
	if q.source == "csv" {
		uri = "csv:" + w.shop
	}
	s, err := h.Open(ctx, uri)
	if err != nil {
		return core.Receipt{}, err
	}
	stream, err := s.Stream(ctx, q.query, core.Options{Memory: memory})
	if err != nil {
		return core.Receipt{}, err
	}
	for _, err := range stream.Chunks() {
		if err != nil {
			return core.Receipt{}, err
		}
	}
	w.truth[key] = stream.Receipt()
	return w.truth[key], nil
}
