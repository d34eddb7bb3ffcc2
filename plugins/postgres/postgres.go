// Package postgres implements a source of PostgreSQL databases. It streams tables,
// views, materialized views and foreign tables in binary format, with one snapshot for
// each session.
//
// # Order and resuming
//
// A scan without an order reads the table in physical order, at the speed of COPY. So
// does a scan with a condition for which the server reads the whole table. Such a scan
// can resume only within its snapshot: in the same session, in a session that uses the
// same snapshot, or in one that sees exactly the same state of the whole server.
//
// Scans with an order, lookups by keys, and scans with a condition that uses an index
// return rows in an order that ends with the primary key or a unique key without NULLs.
// They can resume in any session. Tables without such a key use the physical order
// instead. Views without a key and foreign tables cannot resume.
//
// # Snapshots
//
// A session sees one snapshot of the database. While it lasts, VACUUM cannot remove
// rows that were deleted or replaced since, so keep sessions short; the option
// snapshot_limit ends sessions that are too long. Two connections hold the snapshot, so
// that it survives the loss of one. The option snapshot determines what happens if both
// are lost: with strict, the default, the session fails; with renew, it continues in a
// new snapshot, and all scans are in the order of a key. With none there is no snapshot:
// each scan sees its own, and nothing holds back VACUUM between scans.
//
// TRUNCATE, CLUSTER and VACUUM FULL do not respect snapshots. For example, a table that
// is truncated before a scan begins is empty for that scan.
//
// # Slow statements
//
// A page is handed on when it is due ([sources.Env.FlushAfter]), also while the scan waits
// for the server. The server itself sends rows when it has collected 8 KiB of them, or
// at the end of the statement.
//
// # Tables and columns
//
// The partitions of a partitioned table are not tables of the catalog; the partitioned
// table has their rows. Tables that inherit from another one are tables of the catalog.
// Columns that the role may not select are left out. A table of which the role may not
// select any column has no columns, and its comment says so.
//
// # Comparisons
//
// Text is ordered by its bytes, whatever its collation. Numerics without a declared
// precision are text, and compared as numbers. All other types with an operator class are
// compared by the server with the operators of that class, and keys with those of the
// foreign key. Columns say so in their [sources.Meaning].
package postgres

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/penstock-data/penstock/sources"
)

// sessionSettings make results independent of the configuration of the server, the
// database and the role. Settings that the server does not know are not set.
var sessionSettings = map[string]string{
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
	// The physical order must be the same in every scan.
	"synchronize_seqscans":            "off",
	"max_parallel_workers_per_gather": "0",
	"enable_tidscan":                  "on",
	// Prevent a lookup of some thousand keys from reading the whole table.
	"random_page_cost": "1.1",
	// Compiling a statement delays its first rows.
	"jit": "off",
}

type source struct {
	pool    *pgxpool.Pool
	options options
	version int  // server_version_num, as in 150004
	utf8    bool // the server stores text in UTF-8, so byte order is the same on both sides
	ascii   bool // the server does not know the encoding of its text (SQL_ASCII)
	// reserving and free reserve connections of the pool. A session reserves all
	// connections that it may need at once, and sessions take turns, so that they cannot
	// deadlock.
	reserving chan struct{}
	freeConns chan struct{}

	session sessionIdentity // of the connections

	// checkClient tells that the server checks during statements whether its client is there.
	checkClient bool
	timeout     statementTimeout

	mu     sync.Mutex
	loaded *catalog
}

// Open opens the database of a postgres:// URI. As in libpq, what the URI omits comes
// from PG environment variables, a service file and a password file; sslmode,
// verify-full included, selects TLS, and target_session_attrs selects among several
// hosts.
//
// The options may also be parameters of the URI:
//
//	schema             the schema whose tables have unqualified names, by default
//	                   public; others are named SCHEMA.TABLE
//	schemas            the schemas whose tables are in the catalog, as in "sales,hr";
//	                   all by default
//	connections        the maximum number of connections; 8 by default
//	snapshot           strict, renew or none; see the documentation of the package
//	snapshot_limit     the maximum duration of a session's snapshot, as in 30m, after
//	                   which the session fails as [sources.Exhausted]; unlimited by
//	                   default
//	special            what happens to values that the Arrow type of a column cannot
//	                   represent, such as infinite dates or NaN in decimals: error, the
//	                   default; null; or text, which makes text columns of all columns
//	                   that could have such values
//	numeric            PRECISION,SCALE, as in "38,9": reads numeric columns without a
//	                   declared precision as decimals; values that do not fit are
//	                   errors. By default they are read as text, and compared as numbers.
//	numeric.TABLE.COLUMN
//	                   the same for one column, with the names of the catalog, as in
//	                   numeric.orders.total=20,2; or text
//	relation           a foreign key that the database does not have, as in
//	                   payment.rental_id->rental.rental_id; may be repeated in the URI,
//	                   otherwise separated by newlines; see [sources.ParseForeignKeys]
//	version            how a cache detects that a table has changed: "snapshot", by the
//	                   transactions that the session sees, so that any write on the
//	                   server is a change; or a statement that returns one value, in
//	                   which $1 is the table's name in the catalog, as in "SELECT
//	                   max(at) FROM changes WHERE name = $1". By default changes are not
//	                   detected, and cached results are valid until they expire.
//	application_name   penstock by default
//	statement_timeout  the maximum duration of a statement, as in 30s, or 0 for none; by
//	                   default that of the role, the database or the server. The time that
//	                   a consumer of the rows takes counts in it.
//	lock_timeout       the maximum wait for a lock, as in 5s, or 0 for none; by default that
//	                   of the role, the database or the server
func Open(ctx context.Context, c sources.Config) (sources.Source, error) {
	c, err := fromQuery(c)
	if err != nil {
		return nil, sources.NewError(sources.Invalid, "open", "", err)
	}
	o, err := parseOptions(c.Options)
	if err != nil {
		return nil, sources.NewError(sources.Invalid, "open", "", err)
	}
	config, err := pgxpool.ParseConfig(c.URI)
	if err != nil {
		return nil, sources.WithOp("open", "", invalidAddress(err))
	}
	s := &source{options: o, reserving: make(chan struct{}, 1), freeConns: make(chan struct{}, o.connections)}
	for range o.connections {
		s.freeConns <- struct{}{}
	}
	config.MaxConns, config.MinConns, config.MinIdleConns = int32(o.connections), 0, 0
	config.ConnConfig.RuntimeParams["application_name"] = o.application
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.ConnConfig.DialFunc = dialDue(config.ConnConfig.DialFunc)
	config.AfterConnect = s.configureConn
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, sources.WithOp("open", "", translateError(ctx, err))
	}
	if err := s.connect(ctx); err != nil {
		s.pool.Close()
		return nil, sources.WithOp("open", "", err)
	}
	return s, nil
}

// connect opens the first connection. If the server has no room for one now, or is starting,
// it tries again, as the engine does with sessions and scans.
func (s *source) connect(ctx context.Context) error {
	wait := time.Second
	for try := 1; ; try++ {
		err := s.checkServer(ctx)
		var pg *pgconn.PgError
		again := errors.As(err, &pg) && (pg.Code == "53300" || pg.Code == "57P03")
		err = s.translateError(ctx, err)
		var own *sources.Error
		switch {
		case !again:
			return err
		case try == 4 && errors.As(err, &own):
			return sources.Errorf(own.Kind, "", "", "%w (tried %d times)", own.Err, try)
		}
		select {
		case <-time.After(wait + rand.N(wait/5)):
		case <-ctx.Done():
			return translateError(ctx, ctx.Err())
		}
		wait *= 2
	}
}

// checkServer opens the first connection and queries the properties of the server.
func (s *source) checkServer(ctx context.Context) error {
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
	if err := s.setClientCheck(ctx, conn.Conn()); err != nil {
		return err
	}
	if err := s.timeout.read(ctx, conn.Conn()); err != nil {
		return err
	}
	if s.options.snapshot == snapshotNone {
		return nil
	}
	return s.rejectPooler(ctx, conn.Conn())
}

// settingsSQL applies the settings with names $1 and values $2 that the server knows, to
// the connection or, if $3 is true, to the transaction.
const settingsSQL = `SELECT pg_catalog.set_config(s.name, v.value, $3)
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS v(name, value)
JOIN pg_catalog.pg_settings s ON s.name = v.name`

// configureConn applies the settings to a new connection.
func (s *source) configureConn(ctx context.Context, conn *pgx.Conn) error {
	if err := s.applySettings(ctx, conn, false); err != nil {
		return err
	}
	return s.session.note(ctx, conn)
}

func (s *source) applySettings(ctx context.Context, conn *pgx.Conn, local bool) error {
	all := maps.Clone(sessionSettings)
	all["client_encoding"] = clientEncoding(conn.PgConn())
	for name, timeout := range map[string]*time.Duration{"statement_timeout": s.options.statementTimeout, "lock_timeout": s.options.lockTimeout} {
		if timeout != nil {
			all[name] = strconv.FormatInt(timeout.Milliseconds(), 10)
		}
	}
	if s.checkClient {
		all[clientCheck] = clientCheckMillis
	}
	// Built-in names come first. Functions in views may rely on the schema.
	all["search_path"] = "pg_catalog, " + quote(s.options.schema)
	var names, values []string
	for name, value := range all {
		names, values = append(names, name), append(values, value)
	}
	_, err := conn.Exec(ctx, settingsSQL, names, values, local)
	return err
}

// clientEncoding returns the encoding in which the server sends text. If it does not know
// what it stores, it sends the bytes as they are, and the scan checks them: the server could
// not tell in which column the text is that is not valid UTF-8.
func clientEncoding(conn *pgconn.PgConn) string {
	if conn.ParameterStatus("server_encoding") == "SQL_ASCII" {
		return "SQL_ASCII"
	}
	return "UTF8"
}

// reserveConns reserves n connections of the pool, and waits until they are free.
func (s *source) reserveConns(ctx context.Context, n int) error {
	select {
	case s.reserving <- struct{}{}:
	case <-ctx.Done():
		return translateError(ctx, ctx.Err())
	}
	defer func() { <-s.reserving }()
	for i := range n {
		select {
		case <-s.freeConns:
		case <-ctx.Done():
			s.returnConns(i)
			return translateError(ctx, ctx.Err())
		}
	}
	return nil
}

func (s *source) returnConns(n int) {
	for range n {
		s.freeConns <- struct{}{}
	}
}

// Catalog returns the catalog, which the first call reads.
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
	if err := s.reserveConns(ctx, 1); err != nil {
		return nil, err
	}
	defer s.returnConns(1)
	var c *catalog
	err := s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
			c, err = s.load(ctx, tx)
			return err
		})
	})
	if err != nil {
		return nil, s.translateError(ctx, err)
	}
	s.loaded = c
	return c, nil
}

// Close closes all connections.
func (s *source) Close() error {
	s.pool.Close()
	return nil
}

func quote(name ...string) string { return pgx.Identifier(name).Sanitize() }
