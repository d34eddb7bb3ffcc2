package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// versionBySnapshot selects a version made of the transactions that the session sees. If two
// snapshots of a server see the same transactions, all tables are equal. The version also
// changes with a restart of the server.
const versionBySnapshot = "snapshot"

// stateSQL selects what tells that two sessions see the same rows of every table: the
// transactions that they see, on one run of the server, in one database, with one role.
const stateSQL = "SELECT pg_catalog.concat_ws(' ', pg_catalog.pg_postmaster_start_time(), pg_catalog.pg_current_snapshot(), " +
	"(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()), current_user)"

const snapshotVersionSQL = "SELECT pg_catalog.pg_postmaster_start_time()::pg_catalog.text || ' ' || pg_catalog.pg_current_snapshot()::pg_catalog.text"

// checkVersion returns an error if the value of the option is not valid.
func checkVersion(value string) error {
	if value == versionBySnapshot || len(value) > 7 && strings.EqualFold(value[:6], "select") {
		return nil
	}
	return errors.New(`want snapshot, or a statement such as "SELECT max(changed) FROM changes WHERE name = $1"`)
}

// uniqueVersions counts the results of uniqueVersion.
var uniqueVersions atomic.Uint64

// uniqueVersion returns a version that differs from all others.
func uniqueVersion() string {
	return fmt.Sprintf("unknown %d %d", time.Now().UnixNano(), uniqueVersions.Add(1))
}

// version returns the version of a table in the session's snapshot.
func (m *snapshotConn) version(ctx context.Context, option, table string) (string, error) {
	switch {
	case option == "":
		return "", nil
	case option == versionBySnapshot:
		return m.oneValue(ctx, snapshotVersionSQL, nil)
	case strings.Contains(option, "$1"):
		return m.oneValue(ctx, option, [][]byte{[]byte(table)})
	}
	return m.oneValue(ctx, option, nil)
}

// state returns the state of a table in the session's snapshot: the version that the user
// has chosen, or else the snapshot. That does not identify the rows of a view or a foreign
// table, which may come from elsewhere; they have a new state in every session.
func (m *snapshotConn) state(ctx context.Context, version string, t *table) (string, error) {
	switch {
	case version != "":
		return version, nil
	case !t.stored:
		return uniqueVersion(), nil
	}
	return m.oneValue(ctx, stateSQL, nil)
}

// oneValue returns the value of a statement that returns one.
func (m *snapshotConn) oneValue(ctx context.Context, statement string, values [][]byte) (string, error) {
	result := m.conn.Conn().PgConn().ExecParams(ctx, statement, values, nil, nil, nil).Read()
	if result.Err != nil {
		m.rollBack()
		return "", result.Err
	}
	if len(result.Rows) != 1 || len(result.Rows[0]) != 1 || result.Rows[0][0] == nil {
		return "", sources.Errorf(sources.Invalid, "", "", `option "version": the statement must return one value that is not NULL`)
	}
	return string(result.Rows[0][0]), nil
}
