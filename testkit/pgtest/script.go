package pgtest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Run runs a script in the database of the URI, like psql. The script may contain
// statements, and lines COPY ... FROM stdin followed by data and a line \. that ends it.
// The statements between two COPY blocks form one transaction, unless they control
// transactions themselves. The only supported command of psql is \c DATABASE, which
// changes the database. CREATE DATABASE and DROP DATABASE must be on lines of their own.
func Run(ctx context.Context, uri, script string) (err error) {
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for line, step := range steps(script) {
		if step.connect != "" {
			config := conn.Config()
			config.Database = step.connect
			other, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				return fmt.Errorf("pgtest: line %d: %w", line, err)
			}
			if err := conn.Close(ctx); err != nil {
				return errors.Join(err, other.Close(ctx))
			}
			conn = other
			continue
		}
		if step.copyIn {
			_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(step.data), step.sql)
		} else {
			_, err = conn.PgConn().Exec(ctx, step.sql).ReadAll()
		}
		if err != nil {
			return fmt.Errorf("pgtest: statements from line %d: %w", line, err)
		}
	}
	return nil
}

type step struct {
	sql    string
	copyIn bool
	data   string // the data of a COPY

	connect string // the database of \c
}

var (
	copyLine     = regexp.MustCompile(`(?i)^COPY\s.*\sFROM\s+stdin\b.*;\s*$`)
	databaseLine = regexp.MustCompile(`(?i)^(CREATE|DROP)\s+DATABASE\s.*;\s*$`)
	connectLine  = regexp.MustCompile(`^\\c(?:onnect)?\s+(\w+);?\s*$`)
)

// steps divides a script at its COPY, DATABASE and \c lines. It yields each step with the
// number of its first line.
func steps(script string) func(yield func(int, step) bool) {
	return func(yield func(int, step) bool) {
		var sql strings.Builder
		first, number := 1, 0
		flush := func() bool {
			s := sql.String()
			sql.Reset()
			return strings.TrimSpace(s) == "" || yield(first, step{sql: s})
		}
		rest := script
		next := func() (string, bool) {
			if rest == "" {
				return "", false
			}
			number++
			var line string
			line, rest, _ = strings.Cut(rest, "\n")
			return strings.TrimSuffix(line, "\r"), true
		}
		for line, ok := next(); ok; line, ok = next() {
			if m := connectLine.FindStringSubmatch(line); m != nil {
				if !flush() || !yield(number, step{connect: m[1]}) {
					return
				}
				first = number + 1
				continue
			}
			// These cannot run in a transaction with other statements.
			if databaseLine.MatchString(line) {
				if !flush() || !yield(number, step{sql: line}) {
					return
				}
				first = number + 1
				continue
			}
			if !copyLine.MatchString(line) {
				sql.WriteString(line)
				sql.WriteByte('\n')
				continue
			}
			if !flush() {
				return
			}
			command, start := line, number
			var data strings.Builder
			for line, ok = next(); ok && line != `\.`; line, ok = next() {
				data.WriteString(line)
				data.WriteByte('\n')
			}
			if !yield(start, step{sql: command, copyIn: true, data: data.String()}) {
				return
			}
			first = number + 1
		}
		flush()
	}
}
