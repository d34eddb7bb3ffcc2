package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	pgdriver "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/penstock-data/penstock/bench/shop"
	"github.com/penstock-data/penstock/bench/trial"
)

// where returns the condition on the orders, in SQL; empty for all orders.
func where() string {
	if *percent >= 100 {
		return ""
	}
	return fmt.Sprintf("freight < %d", 2**percent)
}

// dump discards the rows of the four tables, which it gets in the binary format: the
// least that a client can do.
func dump(ctx context.Context) (trial.Outcome, error) {
	return psql(ctx, "select * from orders"+and(" where ", where()), "select * from customers", "select * from order_lines", "select * from products")
}

// dumpOrdered is like dump, with the rows in the order that a merge would need.
func dumpOrdered(ctx context.Context) (trial.Outcome, error) {
	return psql(ctx, "select * from orders"+and(" where ", where())+" order by id", "select * from customers order by id",
		"select * from order_lines order by order_id, line", "select * from products order by id")
}

func and(word, condition string) string {
	if condition == "" {
		return ""
	}
	return word + condition
}

func psql(ctx context.Context, queries ...string) (out trial.Outcome, err error) {
	args := []string{"-X", shop.URI()}
	for _, q := range queries {
		args = append(args, "-c", `\copy (`+q+`) to '/dev/null' with (format binary)`)
	}
	c := exec.CommandContext(ctx, "psql", args...)
	started := time.Now()
	text, err := c.CombinedOutput()
	out.Wall = time.Since(started)
	if err != nil {
		return out, fmt.Errorf("%w: %s", err, text)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	out.Rows, err = strconv.ParseInt(strings.TrimPrefix(first, "COPY "), 10, 64)
	out.Extra = map[string]float64{"queries": float64(len(queries))}
	return out, err
}

func openDB(ctx context.Context) (*sql.DB, error) {
	config, err := pgx.ParseConfig(shop.URI())
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*config)
	return db, db.PingContext(ctx)
}

// batches calls next, which reads the next *chunk rows, until it returns fewer.
func batches(ctx context.Context, next func(db *sql.DB) (rows int, sum int64, err error)) (out trial.Outcome, err error) {
	db, err := openDB(ctx)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	started := time.Now()
	var all int64
	for {
		rows, sum, err := next(db)
		if err != nil {
			return out, err
		}
		if out.Rows == 0 {
			out.First = time.Since(started)
		}
		out.Rows += int64(rows)
		if all += sum; rows < *chunk {
			break
		}
	}
	out.Wall, out.Checksum = time.Since(started), fmt.Sprint(all)
	return out, nil
}

// counted counts the statements that an ORM sends.
type counted struct{ n float64 }

func (c *counted) with(out trial.Outcome) trial.Outcome {
	out.Extra = map[string]float64{"queries": c.n}
	return out
}

// gormFind reads batches with GORM, and preloads relations.
func gormFind[T any](ctx context.Context, condition string, key func(*T) int64, total func(*T) int64, preload ...string) (trial.Outcome, error) {
	var orm *gorm.DB
	var queries counted
	var last int64
	out, err := batches(ctx, func(db *sql.DB) (int, int64, error) {
		if orm == nil {
			var err error
			if orm, err = gorm.Open(pgdriver.New(pgdriver.Config{Conn: db}), &gorm.Config{Logger: logger.Discard}); err != nil {
				return 0, 0, err
			}
			if err := orm.Callback().Query().After("gorm:query").Register("count", func(*gorm.DB) { queries.n++ }); err != nil {
				return 0, 0, err
			}
		}
		q := orm.WithContext(ctx).Where("id > ?", last).Order("id").Limit(*chunk)
		if condition != "" {
			q = q.Where(condition)
		}
		for _, p := range preload {
			q = q.Preload(p)
		}
		var rows []*T
		if err := q.Find(&rows).Error; err != nil {
			return 0, 0, err
		}
		var sum int64
		for _, r := range rows {
			sum += total(r)
		}
		if len(rows) > 0 {
			last = key(rows[len(rows)-1])
		}
		return len(rows), sum, nil
	})
	return queries.with(out), err
}

func gormPreload(ctx context.Context) (trial.Outcome, error) {
	return gormFind(ctx, where(), func(o *order) int64 { return o.ID }, (*order).total, "Customer", "Lines.Product")
}

func gormSkewed(ctx context.Context) (trial.Outcome, error) {
	return gormFind(ctx, "", func(c *customer) int64 { return c.ID }, (*customer).total, "Orders.Lines")
}

// counting is a bun hook that counts queries.
type counting struct{ *counted }

func (c counting) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context {
	c.n++
	return ctx
}

func (counting) AfterQuery(context.Context, *bun.QueryEvent) {}

// bunFind reads batches with bun, and their relations.
func bunFind[T any](ctx context.Context, table, condition string, key func(*T) int64, total func(*T) int64, relations ...string) (trial.Outcome, error) {
	var orm *bun.DB
	var queries counted
	var last int64
	out, err := batches(ctx, func(db *sql.DB) (int, int64, error) {
		if orm == nil {
			orm = bun.NewDB(db, pgdialect.New())
			orm.AddQueryHook(counting{&queries})
		}
		var rows []*T
		q := orm.NewSelect().Model(&rows).Where(table+".id > ?", last).OrderExpr(table + ".id").Limit(int64(*chunk))
		if condition != "" {
			q = q.Where(condition)
		}
		for _, r := range relations {
			q = q.Relation(r)
		}
		if err := q.Scan(ctx); err != nil {
			return 0, 0, err
		}
		var sum int64
		for _, r := range rows {
			sum += total(r)
		}
		if len(rows) > 0 {
			last = key(rows[len(rows)-1])
		}
		return len(rows), sum, nil
	})
	return queries.with(out), err
}

func bunRelations(ctx context.Context) (trial.Outcome, error) {
	return bunFind(ctx, `"order"`, where(), func(o *order) int64 { return o.ID }, (*order).total, "Customer", "Lines", "Lines.Product")
}

func bunSkewed(ctx context.Context) (trial.Outcome, error) {
	return bunFind(ctx, `"customer"`, "", func(c *customer) int64 { return c.ID }, (*customer).total, "Orders", "Orders.Lines")
}

// The JSON documents. They have decimals as text, because JSON numbers may lose digits.
const (
	productJSON  = `to_jsonb(p) || jsonb_build_object('price', p.price::text)`
	lineJSON     = `to_jsonb(l) || jsonb_build_object('unit_price', l.unit_price::text, 'discount', l.discount::text, 'product', ` + productJSON + `)`
	customerJSON = `to_jsonb(c) || jsonb_build_object('balance', c.balance::text)`
	orderJSON    = `to_jsonb(o) || jsonb_build_object('freight', o.freight::text, 'customer', ` + customerJSON + `, 'lines',
		(select jsonb_agg(` + lineJSON + ` order by l.line) from order_lines l join products p on p.id = l.product_id where l.order_id = o.id))`
)

// jsonAgg reads each order as one JSON document that the server makes.
func jsonAgg(ctx context.Context) (out trial.Outcome, err error) {
	conn, err := pgx.Connect(ctx, shop.URI())
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	started := time.Now()
	rows, err := conn.Query(ctx, "select "+orderJSON+" from orders o join customers c on c.id = o.customer_id"+and(" where ", where()))
	if err != nil {
		return out, err
	}
	defer rows.Close()
	var sum int64
	for rows.Next() {
		var o order
		if err := json.Unmarshal(bytes.TrimPrefix(rows.RawValues()[0], []byte{1}), &o); err != nil {
			return out, err
		}
		if out.Rows++; out.Rows == 1 {
			out.First = time.Since(started)
		}
		sum += o.total()
	}
	out.Wall, out.Checksum = time.Since(started), fmt.Sprint(sum)
	out.Extra = map[string]float64{"queries": 1}
	return out, rows.Err()
}

// sampled is how many orders naive reads. Its time is extrapolated to all orders.
const sampled = 2000

func naive(ctx context.Context) (out trial.Outcome, err error) {
	db, err := openDB(ctx)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	queries := counted{}
	orm := bun.NewDB(db, pgdialect.New())
	orm.AddQueryHook(counting{&queries})
	var total int64
	if err := orm.NewRaw("select count(*) from orders"+and(" where ", where())).Scan(ctx, &total); err != nil {
		return out, err
	}
	started := time.Now()
	var found []*order
	q := orm.NewSelect().Model(&found).OrderExpr("id").Limit(sampled)
	if where() != "" {
		q = q.Where(where())
	}
	if err := q.Scan(ctx); err != nil {
		return out, err
	}
	var sum int64
	for _, o := range found {
		o.Customer = new(customer)
		if err := orm.NewSelect().Model(o.Customer).Where("id = ?", o.CustomerID).Scan(ctx); err != nil {
			return out, err
		}
		if err := orm.NewSelect().Model(&o.Lines).Where("order_id = ?", o.ID).OrderExpr("line").Scan(ctx); err != nil {
			return out, err
		}
		for _, l := range o.Lines {
			l.Product = new(product)
			if err := orm.NewSelect().Model(l.Product).Where("id = ?", l.ProductID).Scan(ctx); err != nil {
				return out, err
			}
		}
		sum += o.total()
	}
	scale := float64(total) / float64(max(len(found), 1))
	out.Rows, out.Checksum = total, fmt.Sprint(sum)
	out.Wall = time.Duration(float64(time.Since(started)) * scale)
	queries.n *= scale
	return queries.with(out), nil
}
