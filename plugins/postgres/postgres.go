// Package postgres is the PostgreSQL source: tables, views and materialised
// views of a database, streamed in binary from one snapshot for each session.
//
// Partitions of a partitioned table are not tables of their own here: the
// parent gives their rows. A column that the role may not select is left out,
// and so is a table without a column that it may.
//
// A scan of a table with a primary key, or with a unique key without NULLs,
// comes in the order of that key where no order is asked, so that it can resume
// in any session. Other scans come as the server likes and cannot resume.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/penstock-data/penstock/sources"
)

// settings are what makes the server's answers independent of how it, the
// database or the role is configured. A server too old for one goes without.
var settings = map[string]string{
	"TimeZone":                            "UTC",
	"DateStyle":                           "ISO, YMD",
	"IntervalStyle":                       "postgres",
	"bytea_output":                        "hex",
	"extra_float_digits":                  "1",
	"lc_monetary":                         "C",
	"xmloption":                           "content",
	"client_min_messages":                 "error",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
	"transaction_timeout":                 "0",
}

// options are the settings of a source.
type options struct {
	schema           string // whose tables go by their bare names
	application      string
	statementTimeout time.Duration // 0 is none
	connections      int
}

var optionNames = []string{"application_name", "connections", "schema", "statement_timeout"}

// fromQuery moves those of our options that stand in the query of the URI to the
// others, since the server would not know them.
func fromQuery(c sources.Config) (sources.Config, error) {
	base, query, _ := strings.Cut(c.URI, "?")
	given, err := url.ParseQuery(query)
	if err != nil || !strings.Contains(base, "://") {
		return c, nil // ParseConfig says what a good one looks like
	}
	options := maps.Clone(c.Options)
	for _, key := range optionNames {
		if !given.Has(key) {
			continue
		}
		if _, twice := options[key]; twice || len(given[key]) > 1 {
			return c, fmt.Errorf("option %q: is there twice", key)
		}
		if options == nil {
			options = map[string]string{}
		}
		options[key] = given.Get(key)
		given.Del(key)
	}
	if len(given) > 0 {
		base += "?" + given.Encode()
	}
	return sources.Config{URI: base, Options: options}, nil
}

func parseOptions(given map[string]string) (options, error) {
	o := options{schema: "public", application: "penstock", connections: 8}
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(given)) {
		value, err := given[key], error(nil)
		switch key {
		case "schema":
			if o.schema = value; value == "" {
				err = errors.New("want the name of a schema")
			}
		case "application_name":
			o.application = value
		case "statement_timeout":
			if o.statementTimeout, err = time.ParseDuration(value); err != nil || o.statementTimeout < 0 {
				err = errors.New(`want a duration such as "30s"`)
			}
		case "connections":
			if o.connections, err = strconv.Atoi(value); err != nil || o.connections < 1 || o.connections > 1000 {
				err = errors.New("want a number from 1 to 1000")
			}
		default:
			err = errors.New("there is no such option" + sources.Nearest(key, optionNames))
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("option %q: %w", key, err))
		}
	}
	return o, errors.Join(faults...)
}

type source struct {
	pool    *pgxpool.Pool
	options options
	utf8    bool // the server keeps text in UTF-8, so that its bytes are ours
	ascii   bool // the server does not know what its text is encoded in
	// turn and free hand out the pool's connections: a session takes all that it
	// may need at once, one session after the other, so that two cannot each
	// hold what the other waits for.
	turn chan struct{}
	free chan struct{}

	mu     sync.Mutex
	loaded *catalog
}

// Open opens the database of a postgres:// URI. The options are schema (whose
// tables go by their bare names; those of others are SCHEMA.TABLE; public by
// default), application_name, statement_timeout (a duration such as 30s) and
// connections (how many the source may hold at once; 8 by default). They may
// also stand in the URI's query.
func Open(ctx context.Context, c sources.Config) (sources.Source, error) {
	c, err := fromQuery(c)
	if err != nil {
		return nil, &sources.Error{Op: "open", Kind: sources.Invalid, Err: err}
	}
	o, err := parseOptions(c.Options)
	if err != nil {
		return nil, &sources.Error{Op: "open", Kind: sources.Invalid, Err: err}
	}
	config, err := pgxpool.ParseConfig(c.URI)
	if err != nil {
		// The parser's own words quote the URI, and with it the password.
		return nil, &sources.Error{Op: "open", Kind: sources.Invalid, Err: errors.New("the address cannot be read; it is postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE, with special characters in percent form")}
	}
	s := &source{options: o, turn: make(chan struct{}, 1), free: make(chan struct{}, o.connections)}
	for range o.connections {
		s.free <- struct{}{}
	}
	config.MaxConns, config.MinConns, config.MinIdleConns = int32(o.connections), 0, 0
	config.ConnConfig.RuntimeParams["application_name"] = o.application
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.AfterConnect = s.prepare
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, sources.WithOp("open", "", fault(ctx, err))
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		s.pool.Close()
		return nil, sources.WithOp("open", "", fault(ctx, err))
	}
	encoding := conn.Conn().PgConn().ParameterStatus("server_encoding")
	s.utf8, s.ascii = encoding == "UTF8", encoding == "SQL_ASCII"
	conn.Release()
	return s, nil
}

// prepare sets a new connection's settings.
func (s *source) prepare(ctx context.Context, conn *pgx.Conn) error {
	all := maps.Clone(settings)
	all["statement_timeout"] = strconv.FormatInt(s.options.statementTimeout.Milliseconds(), 10)
	// The built-in names come first. The schema's own follow, for the functions
	// within views that rely on a path.
	all["search_path"] = "pg_catalog, " + quote(s.options.schema)
	var names, values []string
	for name, value := range all {
		names, values = append(names, name), append(values, value)
	}
	_, err := conn.Exec(ctx, `SELECT pg_catalog.set_config(s.name, v.value, false)
		FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS v(name, value)
		JOIN pg_catalog.pg_settings s ON s.name = v.name`, names, values)
	return err
}

// take waits for n of the pool's connections to be free, and reserves them.
func (s *source) take(ctx context.Context, n int) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return fault(ctx, ctx.Err())
	}
	defer func() { <-s.turn }()
	for i := range n {
		select {
		case <-s.free:
		case <-ctx.Done():
			s.give(i)
			return fault(ctx, ctx.Err())
		}
	}
	return nil
}

func (s *source) give(n int) {
	for range n {
		s.free <- struct{}{}
	}
}

// members is how many connections a session has, and so scans at once.
func (s *source) members() int { return min(2, s.options.connections) }

// Catalog reads the catalogue once and keeps it.
func (s *source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	c, err := s.catalog(ctx)
	if err != nil {
		return nil, sources.WithOp("catalog", "", err)
	}
	return c.Catalog, nil
}

func (s *source) catalog(ctx context.Context) (*catalog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded != nil {
		return s.loaded, nil
	}
	if err := s.take(ctx, 1); err != nil {
		return nil, err
	}
	defer s.give(1)
	var c *catalog
	err := s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
			c, err = s.load(ctx, tx)
			return err
		})
	})
	if err != nil {
		return nil, fault(ctx, err)
	}
	s.loaded = c
	return c, nil
}

// Close closes every connection.
func (s *source) Close() error {
	s.pool.Close()
	return nil
}

func quote(name ...string) string { return pgx.Identifier(name).Sanitize() }
