// Package postgres is the PostgreSQL source: tables, views, materialised views
// and foreign tables of a database, streamed in binary from one snapshot for
// each session.
//
// # Order and resuming
//
// A table without an order comes as it lies on the disk, at the speed of COPY.
// Such a scan resumes within its snapshot: in the same session, or in another one
// that has joined it, or that sees the very same moment of the whole server. So
// does one with a condition that the server answers by going through the table.
// Where an index serves the condition, where rows are looked up by keys, and
// where an order is asked, rows come in an order that ends in the primary key, or
// in a unique key without NULLs, and resume in any session. A table without a key
// has the disk's order in its place. Views without a key, and foreign tables, do
// not resume.
//
// # The snapshot
//
// A session sees one moment of the database. While it lasts the server cannot
// clean up rows that were deleted or replaced since (VACUUM is held back), so a
// session should not last longer than it must; the option snapshot_limit ends one
// that does. Two connections hold the snapshot, so that the loss of one loses
// nothing. The option snapshot chooses what happens where both are lost: strict
// (the default) ends the session with an error, renew goes on with the order of
// the key in another snapshot, and none does without: each scan sees a moment of
// its own, and nothing is held back between them.
//
// TRUNCATE, CLUSTER and VACUUM FULL of others do not respect snapshots: a table
// that is truncated before a scan of it begins is empty to the scan.
//
// # What is shown
//
// Partitions of a partitioned table are not tables of their own here: the
// parent gives their rows. Children of plain inheritance are. A column that the
// role may not select is left out. A table without a column that it may select
// is shown without columns, and its comment says so.
package postgres

import (
	"context"
	"maps"
	"strconv"
	"sync"

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
	"quote_all_identifiers":               "off",
	"standard_conforming_strings":         "on",
	"row_security":                        "on",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
	"transaction_timeout":                 "0",
	"default_transaction_read_only":       "on",
	// The order of the disk is the same for every scan.
	"synchronize_seqscans":            "off",
	"max_parallel_workers_per_gather": "0",
	"enable_tidscan":                  "on",
	// A look-up of some thousand keys is not a reason to read the whole table.
	"random_page_cost": "1.1",
	// Compiling a statement takes longer than its first rows may.
	"jit": "off",
}

type source struct {
	pool    *pgxpool.Pool
	options options
	version int  // of the server, as in 150004
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

// Open opens the database of a postgres:// URI. What the URI leaves out comes
// from where libpq looks: the PG variables of the environment, a service file, a
// password file. TLS is as sslmode says, verify-full included, and
// target_session_attrs chooses among several hosts.
//
// The options may also stand in the URI's query:
//
//	schema             whose tables go by their bare names, those of others are
//	                   SCHEMA.TABLE; public by default
//	schemas            the only schemas whose tables are shown, as in "sales,hr"
//	connections        how many the source may hold at once; 8 by default
//	snapshot           strict, renew or none: see the package
//	snapshot_limit     how long a session may hold its snapshot, as in 30m; for
//	                   ever by default. A session that is beyond it is [sources.Exhausted]
//	special            what becomes of a value that its column's Arrow type cannot
//	                   hold, as an infinite date or a NaN among decimals: error (the
//	                   default), null, or text, which makes every column that
//	                   could have one a text column
//	numeric            "38,9" makes decimals of numerics that declare no digits; what
//	                   does not fit is an error, never rounded. text by default
//	version            how a cache sees that a table has changed: "snapshot", the
//	                   transactions that the session sees, which any write on the
//	                   server makes others of; or a statement that gives one value,
//	                   in which $1 is the table's name as the catalogue has it, as
//	                   in "SELECT max(at) FROM changes WHERE name = $1". None by
//	                   default: what is remembered is good until its time is over
//	application_name   penstock by default
//	statement_timeout  as in 30s; none by default
//	lock_timeout       as in 5s; none by default
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
		return nil, sources.WithOp("open", "", misconfigured(err))
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
	if err := s.greet(ctx); err != nil {
		s.pool.Close()
		return nil, sources.WithOp("open", "", fault(ctx, err))
	}
	return s, nil
}

// greet connects for the first time and asks who is there.
func (s *source) greet(ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	encoding := conn.Conn().PgConn().ParameterStatus("server_encoding")
	s.utf8, s.ascii = encoding == "UTF8", encoding == "SQL_ASCII"
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4").Scan(&s.version); err != nil {
		return err
	}
	if s.options.snapshot == none {
		return nil
	}
	return s.refusePooler(ctx, conn.Conn())
}

// settingsSQL sets what $1 and $2 list, where the server knows it, for the
// session or, where $3 is true, for the transaction.
const settingsSQL = `SELECT pg_catalog.set_config(s.name, v.value, $3)
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS v(name, value)
JOIN pg_catalog.pg_settings s ON s.name = v.name`

// prepare sets a new connection's settings.
func (s *source) prepare(ctx context.Context, conn *pgx.Conn) error {
	return s.set(ctx, conn, false)
}

func (s *source) set(ctx context.Context, conn *pgx.Conn, local bool) error {
	all := maps.Clone(settings)
	all["statement_timeout"] = strconv.FormatInt(s.options.statementTimeout.Milliseconds(), 10)
	all["lock_timeout"] = strconv.FormatInt(s.options.lockTimeout.Milliseconds(), 10)
	// The built-in names come first. The schema's own follow, for the functions
	// within views that rely on a path.
	all["search_path"] = "pg_catalog, " + quote(s.options.schema)
	var names, values []string
	for name, value := range all {
		names, values = append(names, name), append(values, value)
	}
	_, err := conn.Exec(ctx, settingsSQL, names, values, local)
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
