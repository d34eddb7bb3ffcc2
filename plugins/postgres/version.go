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

// bySnapshot is the version that names the transactions whose work the session
// sees. Where two snapshots of one server see the same ones, every table is the
// same. A restart, after which it may be another server at the address, is another
// version.
const bySnapshot = "snapshot"

const snapshotVersion = "SELECT pg_catalog.pg_postmaster_start_time()::pg_catalog.text || ' ' || pg_catalog.pg_current_snapshot()::pg_catalog.text"

// checkVersion returns what is wrong with the option.
func checkVersion(value string) error {
	if value == bySnapshot || len(value) > 7 && strings.EqualFold(value[:6], "select") {
		return nil
	}
	return errors.New(`want snapshot, or a statement such as "SELECT max(changed) FROM changes WHERE name = $1"`)
}

// unknowns counts the versions that nobody can tell.
var unknowns atomic.Uint64

// unknown is a version that no other is equal to.
func unknown() string {
	return fmt.Sprintf("unknown %d %d", time.Now().UnixNano(), unknowns.Add(1))
}

// version asks for the version of a table, in the session's moment.
func (m *member) version(ctx context.Context, option, table string) (string, error) {
	var values [][]byte
	statement := option
	switch {
	case option == "":
		return "", nil
	case option == bySnapshot:
		statement = snapshotVersion
	case strings.Contains(option, "$1"):
		values = [][]byte{[]byte(table)}
	}
	result := m.conn.Conn().PgConn().ExecParams(ctx, statement, values, nil, nil, nil).Read()
	if result.Err != nil {
		m.mend()
		return "", result.Err
	}
	if len(result.Rows) != 1 || len(result.Rows[0]) != 1 || result.Rows[0][0] == nil {
		return "", &sources.Error{Kind: sources.Invalid, Err: errors.New(`option "version": the statement must give one value that is not NULL`)}
	}
	return string(result.Rows[0][0]), nil
}
