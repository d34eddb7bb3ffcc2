package csv_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

// finish fails the test if f takes so long that its cost cannot be linear.
func finish(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("it did not end: is its cost quadratic in columns?")
	}
}

// wide returns files with 100,000 columns and a few rows, the last of which is not
// readable, and a package that declares the columns if declared is set.
func wide(columns int, declared bool) fstest.MapFS {
	var text, fields strings.Builder
	for row := range 4 {
		for c := range columns {
			switch {
			case row == 0:
				fmt.Fprintf(&text, "column_%d", c)
			case row == 3 && c == columns-1:
				text.WriteString("x")
			default:
				fmt.Fprint(&text, row*columns+c)
			}
			text.WriteByte(",\n"[boolToInt(c == columns-1)])
		}
	}
	files := fstest.MapFS{"t.csv": {Data: []byte(text.String()), ModTime: time.Unix(1e9, 0)}}
	if declared {
		for c := range columns {
			fmt.Fprintf(&fields, `,{"name": "column_%d", "type": "integer", "constraints": {"unique": true}}`, c)
		}
		files["datapackage.json"] = &fstest.MapFile{Data: []byte(`{"resources": [{"name": "t", "path": "t.csv", "schema": {"fields": [` + fields.String()[1:] + `]}}]}`)}
	}
	return files
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestWideTables reads as many columns as a table may have: all of them, selected,
// declared, and left out because a record is not readable.
func TestWideTables(t *testing.T) {
	const columns = 100_000
	var names []string
	for c := range columns {
		names = append(names, fmt.Sprintf("column_%d", columns-1-c))
	}
	for _, c := range []struct {
		name     string
		declared bool
		query    sources.Query
	}{
		{"all columns", false, sources.Query{Table: "t"}},
		{"all columns in another order", false, sources.Query{Table: "t", Columns: names}},
		{"declared columns", true, sources.Query{Table: "t"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			finish(t, func() error {
				source, err := csv.New(wide(columns, c.declared), csv.Options{SkipBad: true, Sample: 2})
				if err != nil {
					return err
				}
				mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
				defer mem.AssertSize(t, 0)
				session, err := source.Begin(t.Context(), sources.Env{Mem: mem})
				if err != nil {
					return err
				}
				rows, skipped := 0, int64(0)
				for batch, err := range session.Scan(t.Context(), &c.query) {
					if err != nil {
						return err
					}
					for i := range int(batch.Record.NumRows()) {
						rows++
						for _, at := range []int{0, columns / 3, columns - 1} {
							want := rows*columns + at
							if c.query.Columns != nil {
								want = rows*columns + columns - 1 - at
							}
							if got := sources.ValueAt(batch.Record.Column(at), i).String(); got != fmt.Sprint(want) {
								t.Errorf("row %d, column %d is %s, want %d", rows, at, got, want)
							}
						}
					}
					skipped += batch.Skipped.Records
				}
				if rows != 2 || skipped != 1 {
					t.Errorf("%d rows, and %d left out; want 2 and 1", rows, skipped)
				}
				return session.Close()
			})
		})
	}
}

// TestManyEqualNames tests that names=distinct numbers many equal names in linear time.
func TestManyEqualNames(t *testing.T) {
	const columns = 100_000
	files := fstest.MapFS{"t.csv": {Data: []byte(strings.Repeat("a,", columns-1) + "a\n" + strings.Repeat("1,", columns-1) + "1\n")}}
	finish(t, func() error {
		source, err := csv.New(files, csv.Options{Distinct: true})
		if err != nil {
			return err
		}
		catalog, err := source.Catalog(t.Context())
		if err != nil {
			return err
		}
		schema := catalog.Table("t").Schema
		if n := schema.NumFields(); n != columns || schema.Field(0).Name != "a" || schema.Field(columns-1).Name != fmt.Sprint("a_", columns) {
			t.Errorf("%d columns, the last is %s", n, schema.Field(n-1).Name)
		}
		return nil
	})
}
