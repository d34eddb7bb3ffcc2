package main

import (
	"bytes"
	"context"
	"database/sql"
	stdcsv "encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowcsv "github.com/apache/arrow-go/v18/arrow/csv"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	_ "github.com/duckdb/duckdb-go/v2" // the driver

	"github.com/penstock-data/penstock/bench/trial"
)

func file() string { return filepath.Join(os.Getenv(dirVariable), "sales.csv") }

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "customer_id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "price", Type: &arrow.Decimal128Type{Precision: 18, Scale: 2}, Nullable: true},
	{Name: "quantity", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
	{Name: "status", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "rate", Type: &arrow.Decimal128Type{Precision: 18, Scale: 4}, Nullable: true},
	{Name: "note", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// newlines counts the file's lines. It measures the cost of reading alone.
func newlines(context.Context) (out trial.Outcome, err error) {
	f, err := os.Open(file())
	if err != nil {
		return out, err
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := f.Read(buf)
		out.Rows += int64(bytes.Count(buf[:n], []byte{'\n'}))
		if err == io.EOF {
			return out, f.Close()
		}
		if err != nil {
			return out, err
		}
	}
}

// builders reads with encoding/csv and appends to Arrow builders, as a program that
// needs the same batches would: it reuses records, and parses values with strconv and
// time.
func builders(context.Context) (out trial.Outcome, err error) {
	runtime.GOMAXPROCS(1)
	f, err := os.Open(file())
	if err != nil {
		return out, err
	}
	r := stdcsv.NewReader(f)
	r.ReuseRecord = true
	if _, err := r.Read(); err != nil {
		return out, err
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	rows, sum := 0, int64(0)
	flush := func() {
		batch := b.NewRecordBatch()
		out.Rows += batch.NumRows()
		sum += record(batch)
		batch.Release()
		rows = 0
	}
	for {
		fields, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return out, err
		}
		for i, text := range fields {
			if text == "" {
				b.Field(i).AppendNull()
				continue
			}
			if err := appendText(b.Field(i), text); err != nil {
				return out, err
			}
		}
		if rows++; rows == 8<<10 {
			flush()
		}
	}
	flush()
	out.Checksum = fmt.Sprint(sum)
	return out, f.Close()
}

func appendText(b array.Builder, text string) error {
	switch b := b.(type) {
	case *array.Int64Builder:
		n, err := strconv.ParseInt(text, 10, 64)
		b.Append(n)
		return err
	case *array.Decimal128Builder:
		t := b.Type().(*arrow.Decimal128Type)
		n, err := decimal128.FromString(text, t.Precision, t.Scale)
		b.Append(n)
		return err
	case *array.Date32Builder:
		t, err := time.Parse(time.DateOnly, text)
		b.Append(arrow.Date32FromTime(t))
		return err
	case *array.TimestampBuilder:
		t, err := time.Parse("2006-01-02T15:04:05", text)
		b.Append(arrow.Timestamp(t.UnixMicro()))
		return err
	case *array.StringBuilder:
		b.Append(text)
	}
	return nil
}

func arrowReader(context.Context) (out trial.Outcome, err error) {
	runtime.GOMAXPROCS(1)
	f, err := os.Open(file())
	if err != nil {
		return out, err
	}
	r := arrowcsv.NewReader(f, schema, arrowcsv.WithHeader(true), arrowcsv.WithChunk(8<<10), arrowcsv.WithNullReader(true, ""))
	defer r.Release()
	sum := int64(0)
	for r.Next() {
		out.Rows += r.RecordBatch().NumRows()
		sum += record(r.RecordBatch())
	}
	out.Checksum = fmt.Sprint(sum)
	return out, errors.Join(r.Err(), f.Close())
}

// duckdb reads the file into a table in memory, with the types and the dialect given.
// The checksum is computed after the clock has stopped.
func duckdb(threads int) func(ctx context.Context) (trial.Outcome, error) {
	return func(ctx context.Context) (out trial.Outcome, err error) {
		db, err := sql.Open("duckdb", "")
		if err != nil {
			return out, err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		db.SetMaxOpenConns(1)
		if _, err := db.ExecContext(ctx, fmt.Sprintf("set threads = %d; set preserve_insertion_order = true", threads)); err != nil {
			return out, err
		}
		started := time.Now()
		_, err = db.ExecContext(ctx, fmt.Sprintf(`create table sales as from read_csv('%s', header = true, delim = ',', quote = '"', auto_detect = false,
			columns = {'id': 'bigint', 'customer_id': 'bigint', 'price': 'decimal(18,2)', 'quantity': 'bigint', 'day': 'date',
			'at': 'timestamp', 'status': 'varchar', 'name': 'varchar', 'rate': 'decimal(18,4)', 'note': 'varchar'})`, file()))
		if err != nil {
			return out, err
		}
		out.Wall = time.Since(started)
		var sum int64
		err = db.QueryRowContext(ctx, `select count(*), (sum(id) + sum(customer_id) + sum(price) * 100 + sum(quantity) + sum(day - date '1970-01-01') + sum(epoch_us("at"))
			+ sum(strlen(status)) + sum(strlen(name)) + sum(rate) * 10000 + sum(strlen(note)))::hugeint % 18446744073709551616::hugeint from sales`).Scan(&out.Rows, wrapped{&sum})
		out.Checksum = fmt.Sprint(sum)
		return out, err
	}
}

// wrapped scans an integer of any size modulo 2^64, like the sums of the other readers.
type wrapped struct{ to *int64 }

// Scan parses the text of a number.
func (w wrapped) Scan(v any) error {
	n, err := strconv.ParseUint(fmt.Sprint(v), 10, 64)
	*w.to = int64(n)
	return err
}
