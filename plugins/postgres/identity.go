package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sessionIdentity is what the answers of a connection depend on besides the data and its
// definitions: the database, the role with the roles that it belongs to, and settings. A
// connection keeps the settings that its role had when it was opened, so the connections of one
// source may differ.
type sessionIdentity struct {
	mu    sync.Mutex
	first string // of the first connection; empty if it could not be determined
	known bool   // first has been determined
	mixed bool   // another connection has another one, or it could not be determined
}

// sessionIdentitySQL returns a connection's identity. $1 names the settings that are the same in
// every connection. Settings that a role or database defines may have names that the server
// lists nowhere else, such as app.tenant.
const sessionIdentitySQL = `
WITH RECURSIVE member(role) AS (
  SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname IN (session_user, current_user)
  UNION SELECT m.roleid FROM member JOIN pg_catalog.pg_auth_members m ON m.member = member.role
), defined AS (
  SELECT s.setdatabase, s.setrole, c.text FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS c(text)
  WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
    AND s.setrole IN (0, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = session_user))
)
SELECT pg_catalog.jsonb_build_array(
  (SELECT d.oid::pg_catalog.int8 FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()), pg_catalog.current_database(), session_user, current_user,
  (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(r.oid::pg_catalog.int8, r.rolname, r.rolsuper, r.rolbypassrls, r.rolinherit) ORDER BY r.oid)
    FROM pg_catalog.pg_roles r JOIN member ON member.role = r.oid),
  (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(s.name, s.setting) ORDER BY s.name) FROM pg_catalog.pg_settings s
    WHERE s.source NOT IN ('default', 'override') AND s.name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable') AND s.name <> ALL($1::pg_catalog.text[])),
  (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(d.text,
      CASE WHEN pg_catalog.strpos(pg_catalog.split_part(d.text, '=', 1), '.') > 0 THEN pg_catalog.current_setting(pg_catalog.split_part(d.text, '=', 1), true) END)
    ORDER BY d.setdatabase, d.setrole, d.text) FROM defined d)
)::pg_catalog.text`

// note adds a connection. Its error is one of the connection itself.
func (i *sessionIdentity) note(ctx context.Context, conn *pgx.Conn) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.mixed {
		return nil
	}
	names := slices.Sorted(maps.Keys(sessionSettings))
	names = append(names, "search_path", "statement_timeout", "lock_timeout", clientCheck)
	var text string
	err := conn.QueryRow(ctx, sessionIdentitySQL, names).Scan(&text)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == "42501": // a setting that the role may not see
		i.mixed = true
		return nil
	case err != nil:
		return err
	case !i.known:
		i.first, i.known = text, true
	}
	i.mixed = text != i.first
	return nil
}

// isMixed reports whether the rows of different connections may differ, so that no cache may keep
// them.
func (i *sessionIdentity) isMixed() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.mixed
}

// definitionsSQL returns what tells that the answers of views, policies and functions may have
// changed, without their texts: the transactions that defined them. The time of the
// server's configuration stands for settings with names that the server lists nowhere. Objects of
// the system have OIDs below 16384.
const definitionsSQL = `
SELECT pg_catalog.jsonb_build_array(
  pg_catalog.current_setting('server_version'), pg_catalog.pg_conf_load_time(),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws(' ', p.oid, p.xmin), ',' ORDER BY p.oid)) FROM pg_catalog.pg_policy p),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws(' ', r.oid, r.xmin), ',' ORDER BY r.oid)) FROM pg_catalog.pg_rewrite r
    WHERE r.oid >= 16384),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws(' ', p.oid, p.xmin), ',' ORDER BY p.oid)) FROM pg_catalog.pg_proc p
    WHERE p.oid >= 16384 AND p.pronamespace IN (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_temp')),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.oid, c.relowner, c.relforcerowsecurity, c.reloptions), ',' ORDER BY c.oid))
    FROM pg_catalog.pg_class c WHERE c.oid >= 16384 AND (c.relrowsecurity OR c.relkind = 'v') AND c.relpersistence <> 't'),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws(' ', f.oid, f.xmin), ',' ORDER BY f.oid)) FROM pg_catalog.pg_foreign_server f),
  (SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws(' ', f.ftrelid, f.xmin), ',' ORDER BY f.ftrelid)) FROM pg_catalog.pg_foreign_table f)
)::pg_catalog.text`

// identity returns the identity of the catalog. It is a hash, since settings may be secret.
func (s *source) identity(ctx context.Context, tx pgx.Tx) (string, error) {
	var definitions, server string
	if err := tx.QueryRow(ctx, definitionsSQL).Scan(&definitions); err != nil {
		return "", fmt.Errorf("definitions: %w", err)
	}
	// Some services do not let a role see which server it is.
	var may bool
	err := tx.QueryRow(ctx, "SELECT coalesce(pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pg_catalog.pg_control_system()')::pg_catalog.oid, 'EXECUTE'), false)").Scan(&may)
	if err == nil && may {
		err = tx.QueryRow(ctx, "SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()").Scan(&server)
	}
	if err != nil {
		return "", fmt.Errorf("server: %w", err)
	}
	s.session.mu.Lock()
	defer s.session.mu.Unlock()
	if !s.session.known {
		return "", nil
	}
	// The environment, a service file and the URI have become this configuration.
	c := s.pool.Config().ConnConfig
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%q %q %d %q %q\n", server, c.Host, c.Port, c.Database, c.User)
	for _, f := range c.Fallbacks {
		_, _ = fmt.Fprintf(sum, "%q %d\n", f.Host, f.Port)
	}
	for _, name := range slices.Sorted(maps.Keys(c.RuntimeParams)) {
		_, _ = fmt.Fprintf(sum, "%q %q\n", name, c.RuntimeParams[name])
	}
	_, _ = fmt.Fprintf(sum, "%q %q\n", s.session.first, definitions)
	return fmt.Sprintf("postgres %x", sum.Sum(nil)), nil
}
