package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	pgdriver "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/penstock-data/penstock/bench/shop"
	"github.com/penstock-data/penstock/bench/trial"
)

// psql discards the rows, which it gets in the binary format: the least that a client
// can do.
func psql(ctx context.Context) (trial.Outcome, error) {
	c := exec.CommandContext(ctx, "psql", "-X", shop.URI(), "-c", `\copy `+*table+` to '/dev/null' with (format binary)`)
	started := time.Now()
	out, err := c.CombinedOutput()
	wall := time.Since(started)
	if err != nil {
		return trial.Outcome{}, fmt.Errorf("%w: %s", err, out)
	}
	rows, err := strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(string(out), "COPY ")), 10, 64)
	return trial.Outcome{Rows: rows, Wall: wall}, err
}

func pgxValues(ctx context.Context) (out trial.Outcome, err error) {
	conn, err := pgx.Connect(ctx, shop.URI())
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	started := time.Now()
	rows, err := conn.Query(ctx, "SELECT * FROM "+*table)
	if err != nil {
		return out, err
	}
	defer rows.Close()
	var sum int64
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return out, err
		}
		if out.Rows++; out.Rows == 1 {
			out.First = time.Since(started)
		}
		for _, v := range values {
			sum += totalOf(v)
		}
	}
	out.Wall, out.Checksum = time.Since(started), fmt.Sprint(sum)
	return out, rows.Err()
}

func totalOf(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case bool:
		if v {
			return 1
		}
	case string:
		return int64(len(v))
	case time.Time:
		if v.Equal(v.Truncate(24*time.Hour)) && v.Location() == time.UTC {
			return v.Unix() / 86400 // a date
		}
		return v.UnixMicro()
	case pgtype.Numeric:
		// The server sends the scale of the column.
		return v.Int.Int64()
	}
	return 0
}

// line is a row of order_lines as a struct.
type line struct {
	bun.BaseModel `bun:"table:order_lines" gorm:"-"`

	OrderID   int64 `bun:"order_id" gorm:"primaryKey"`
	Line      int64 `bun:"line" gorm:"primaryKey"`
	ProductID int64
	Quantity  int64
	UnitPrice string
	Discount  sql.NullString
	Gift      bool
}

func (line) TableName() string { return "order_lines" }

func (l *line) total() int64 {
	return l.OrderID + l.Line + l.ProductID + l.Quantity + unscaled(l.UnitPrice) + unscaled(l.Discount.String) + totalOf(l.Gift)
}

// unscaled returns the digits of a decimal as an integer, without the decimal point.
func unscaled(s string) int64 {
	var n int64
	for i := range len(s) {
		if s[i] != '.' {
			n = 10*n + int64(s[i]-'0')
		}
	}
	return n
}

const linesSQL = "SELECT order_id, line, product_id, quantity, unit_price, discount, gift FROM order_lines"

func openDB() (*sql.DB, error) {
	config, err := pgx.ParseConfig(shop.URI())
	if err != nil {
		return nil, err
	}
	return stdlib.OpenDB(*config), nil
}

func sqlStructs(ctx context.Context) (out trial.Outcome, err error) {
	db, err := openDB()
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.PingContext(ctx); err != nil {
		return out, err
	}
	started := time.Now()
	var sum int64
	out.Rows, sum, out.First, err = scanLines(ctx, db, started, linesSQL)
	out.Wall, out.Checksum = time.Since(started), fmt.Sprint(sum)
	return out, err
}

func scanLines(ctx context.Context, db *sql.DB, started time.Time, query string, args ...any) (n, sum int64, first time.Duration, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var l line
		if err := rows.Scan(&l.OrderID, &l.Line, &l.ProductID, &l.Quantity, &l.UnitPrice, &l.Discount, &l.Gift); err != nil {
			return n, sum, first, err
		}
		if n++; n == 1 {
			first = time.Since(started)
		}
		sum += l.total()
	}
	return n, sum, first, rows.Err()
}

// batch is how many rows the ORMs read at once. GORM's documentation uses 100, which is
// slower.
const batch = 1000

func gormBatches(ctx context.Context) (out trial.Outcome, err error) {
	db, err := openDB()
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	orm, err := gorm.Open(pgdriver.New(pgdriver.Config{Conn: db}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return out, err
	}
	started := time.Now()
	var sum int64
	var lines []line
	// FindInBatches resumes after the first column of the key alone. That column is not
	// unique in order_lines, so FindInBatches would lose rows. This loop reads the same
	// batches by the whole key.
	var last line
	for {
		q := orm.WithContext(ctx).Order("order_id, line").Limit(batch)
		if out.Rows > 0 {
			q = q.Where("(order_id, line) > (?, ?)", last.OrderID, last.Line)
		}
		lines = lines[:0]
		if err := q.Find(&lines).Error; err != nil {
			return out, err
		}
		if out.Rows == 0 {
			out.First = time.Since(started)
		}
		for i := range lines {
			sum += lines[i].total()
		}
		out.Rows += int64(len(lines))
		if len(lines) < batch {
			break
		}
		last = lines[len(lines)-1]
	}
	out.Wall, out.Checksum = time.Since(started), fmt.Sprint(sum)
	return out, nil
}

func bunRows(ctx context.Context) (out trial.Outcome, err error) {
	db, err := openDB()
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	orm := bun.NewDB(db, pgdialect.New())
	started := time.Now()
	rows, err := orm.NewSelect().Model((*line)(nil)).Rows(ctx)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var sum int64
	for rows.Next() {
		var l line
		if err := orm.ScanRow(ctx, rows, &l); err != nil {
			return out, err
		}
		if out.Rows++; out.Rows == 1 {
			out.First = time.Since(started)
		}
		sum += l.total()
	}
	out.Wall, out.Checksum = time.Since(started), fmt.Sprint(sum)
	return out, rows.Err()
}

// offsetPages reads the first 100,000 rows in pages of 1000 by OFFSET. For each page, the
// server skips all rows before it.
func offsetPages(ctx context.Context) (out trial.Outcome, err error) {
	db, err := openDB()
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	started := time.Now()
	for out.Rows < 100_000 {
		n, _, first, err := scanLines(ctx, db, started, linesSQL+" ORDER BY order_id, line LIMIT 1000 OFFSET $1", out.Rows)
		if err != nil {
			return out, err
		}
		if out.First == 0 {
			out.First = first
		}
		if out.Rows += n; n < 1000 {
			break
		}
	}
	out.Wall = time.Since(started)
	return out, nil
}
