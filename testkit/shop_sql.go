package testkit

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// WriteSQL writes the shop as a script for psql: one transaction that creates the tables,
// copies the rows, and then adds the keys, an index for each foreign key, and the
// planner's statistics. The rows are those of [Shop.WriteCSV].
func (s Shop) WriteSQL(ctx context.Context, w io.Writer) error {
	create, finish := s.SQL()
	if err := s.check(); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "set client_encoding = 'UTF8';\nbegin;\n"+create); err != nil {
		return err
	}
	for _, name := range s.Tables() {
		if _, err := fmt.Fprintf(w, "copy %s from stdin;\n", name); err != nil {
			return err
		}
		if err := s.WriteCopy(ctx, w, name); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\\.\n"); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, finish+"commit;\n")
	return err
}

// SQL returns the statements that create the tables, and those that add keys, indexes
// and statistics after the rows. With them and [Shop.WriteCopy], a program can load the
// shop without psql.
func (s Shop) SQL() (create, finish string) {
	var tables, keys, foreign strings.Builder
	for _, t := range shopTables {
		var columns []string
		for _, c := range t.columns {
			column := c.name + " " + c.kind.sql
			if !c.nullable {
				column += " not null"
			}
			columns = append(columns, "  "+column)
		}
		fmt.Fprintf(&tables, "create table %s (\n%s\n);\n", t.name, strings.Join(columns, ",\n"))
		fmt.Fprintf(&keys, "alter table %s add primary key (%s);\n", t.name, strings.Join(t.key, ", "))
		for _, c := range t.columns {
			if c.unique {
				fmt.Fprintf(&keys, "alter table %s add unique (%s);\n", t.name, c.name)
			}
			target := t.foreign[c.name]
			if target == "" {
				continue
			}
			fmt.Fprintf(&foreign, "alter table %s add foreign key (%s) references %s (id);\n", t.name, c.name, target)
			if slices.Index(t.key, c.name) != 0 { // otherwise the index of the primary key suffices
				fmt.Fprintf(&foreign, "create index on %s (%s);\n", t.name, c.name)
			}
		}
		fmt.Fprintf(&foreign, "analyze %s;\n", t.name)
	}
	return tables.String(), keys.String() + foreign.String()
}

// WriteCopy writes the rows of one table in the text format of PostgreSQL's COPY,
// without the end marker. It checks the context between blocks of about 256 KiB.
func (s Shop) WriteCopy(ctx context.Context, w io.Writer, table string) error {
	if err := s.check(); err != nil {
		return err
	}
	i := slices.Index(s.Tables(), table)
	if i < 0 {
		return fmt.Errorf("the shop has no table %q; it has %s", table, strings.Join(s.Tables(), ", "))
	}
	c := copyCells{textCells{separator: '\t'}}
	return s.write(ctx, i, &c, &c.buffer, func(block []byte) error {
		_, err := w.Write(block)
		return err
	})
}

type copyCells struct{ textCells }

func (c *copyCells) null() {
	c.next()
	c.buffer = append(c.buffer, `\N`...)
}

func (c *copyCells) text(v string) {
	c.next()
	for i := range len(v) {
		switch v[i] {
		case '\\':
			c.buffer = append(c.buffer, `\\`...)
		case '\n':
			c.buffer = append(c.buffer, `\n`...)
		case '\r':
			c.buffer = append(c.buffer, `\r`...)
		case '\t':
			c.buffer = append(c.buffer, `\t`...)
		default:
			c.buffer = append(c.buffer, v[i])
		}
	}
}
