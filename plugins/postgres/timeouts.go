package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/penstock-data/penstock/sources"
)

// The setting by which a server notices during a statement that its client is gone. Without
// it, a slow statement goes on after the host was killed, until it sends rows.
const (
	clientCheck       = "client_connection_check_interval"
	clientCheckMillis = "2000"
)

// setClientCheck makes the server check its clients, unless it does so already. Servers
// before PostgreSQL 14 and some systems cannot.
func (s *source) setClientCheck(ctx context.Context, conn *pgx.Conn) error {
	tag, err := conn.Exec(ctx, "SELECT pg_catalog.set_config(s.name, $1, false) FROM pg_catalog.pg_settings s WHERE s.name = $2 AND s.setting = '0'", clientCheckMillis, clientCheck)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && !conn.IsClosed():
		return nil
	case err != nil:
		return err
	}
	s.checkClient = s.checkClient || tag.RowsAffected() > 0 // an earlier attempt may have set it
	return nil
}

// statementTimeout is the server's limit for statements.
type statementTimeout struct {
	limit  time.Duration // 0 means none
	source string        // who sets it
}

// timeoutSources has the words for pg_settings.source.
var timeoutSources = map[string]string{
	"configuration file": "the configuration of the server", "command line": "the command line of the server", "database": "ALTER DATABASE",
	"user": "ALTER ROLE", "database user": "ALTER ROLE IN DATABASE", "client": "the address or the environment", "session": "the option statement_timeout",
}

// read reads the limit that applies to a connection.
func (t *statementTimeout) read(ctx context.Context, conn *pgx.Conn) error {
	var millis int64
	err := conn.QueryRow(ctx, "SELECT s.setting::pg_catalog.int8, s.source FROM pg_catalog.pg_settings s WHERE s.name = 'statement_timeout'").Scan(&millis, &t.source)
	t.limit = time.Duration(millis) * time.Millisecond
	if words, ok := timeoutSources[t.source]; ok {
		t.source = words
	}
	return err
}

// translateError is like the function, and explains why a statement was canceled that we did
// not cancel.
func (s *source) translateError(ctx context.Context, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "57014" || ctx.Err() != nil {
		return translateError(ctx, err)
	}
	reason := "an administrator or a function has canceled it"
	if t := s.timeout; t.limit > 0 {
		reason = fmt.Sprintf("statement_timeout is %s, set by %s, and the time that a slow consumer takes counts in it: read less or consume faster, or set the option statement_timeout, as in statement_timeout=0 for none", t.limit, t.source)
	}
	return sources.Errorf(sources.Exhausted, "", "", "%s (SQLSTATE %s); %s", oneLine(pg.Message), pg.Code, reason)
}
