package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

// WriteCSV writes the shop to a directory, which it creates if necessary: a file
// TABLE.csv with a header for each table, and a datapackage.json that declares types,
// primary keys and foreign keys. NULL is an empty unquoted field; "" is the empty
// string. Decimals have the additional properties "precision" and "scale".
//
// The files are renamed when all of them are complete. If an error occurs before, or
// the context is canceled, WriteCSV removes them, and an existing shop is unchanged.
func (s Shop) WriteCSV(ctx context.Context, dir string) (err error) {
	if err := s.check(); err != nil {
		return err
	}
	_, statErr := os.Stat(dir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	var partial []string
	defer func() {
		if err == nil {
			return
		}
		for _, name := range partial {
			err = errors.Join(err, removeIfThere(name))
		}
		if errors.Is(statErr, os.ErrNotExist) {
			err = errors.Join(err, removeIfThere(dir))
		}
	}()
	const suffix = ".partial"
	for i := range shopTables {
		name := filepath.Join(dir, shopTables[i].name+".csv"+suffix)
		partial = append(partial, name)
		if err := s.writeFile(ctx, i, name); err != nil {
			return fmt.Errorf("table %s: %w", shopTables[i].name, err)
		}
	}
	data, err := s.datapackage()
	if err != nil {
		return err
	}
	name := filepath.Join(dir, "datapackage.json"+suffix)
	partial = append(partial, name)
	if err := os.WriteFile(name, data, 0o666); err != nil {
		return err
	}
	for _, name := range partial {
		if err := os.Rename(name, strings.TrimSuffix(name, suffix)); err != nil {
			return err
		}
	}
	return nil
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (s Shop) writeFile(ctx context.Context, table int, name string) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	c := csvCells{textCells{separator: ','}}
	for i, column := range shopTables[table].columns {
		if i > 0 {
			c.buffer = append(c.buffer, ',')
		}
		c.buffer = append(c.buffer, column.name...)
	}
	c.buffer = append(c.buffer, '\n')
	return s.write(ctx, table, &c, &c.buffer, func(block []byte) error {
		_, err := f.Write(block)
		return err
	})
}

// textCells writes cells in the form that CSV and COPY have in common.
type textCells struct {
	buffer    []byte
	separator byte
	inRow     bool
}

func (c *textCells) next() {
	if c.inRow {
		c.buffer = append(c.buffer, c.separator)
	}
	c.inRow = true
}

func (c *textCells) int(v int64) {
	c.next()
	c.buffer = strconv.AppendInt(c.buffer, v, 10)
}

func (c *textCells) decimal(unscaled int64, scale int) {
	c.next()
	if unscaled < 0 {
		c.buffer = append(c.buffer, '-')
		unscaled = -unscaled
	}
	whole := int64(1)
	for range scale {
		whole *= 10
	}
	c.buffer = strconv.AppendInt(c.buffer, unscaled/whole, 10)
	c.digits('.', int(unscaled%whole), scale)
}

func (c *textCells) float(v float64) {
	c.next()
	c.buffer = strconv.AppendFloat(c.buffer, v, 'f', -1, 64)
}

func (c *textCells) bool(v bool) {
	c.next()
	c.buffer = strconv.AppendBool(c.buffer, v)
}

func (c *textCells) date(days int64) {
	c.next()
	c.day(time.Unix(days*86400, 0).UTC())
}

func (c *textCells) instant(micros int64) {
	c.next()
	t := time.UnixMicro(micros).UTC()
	c.day(t)
	hour, minute, second := t.Clock()
	c.digits('T', hour, 2)
	c.digits(':', minute, 2)
	c.digits(':', second, 2)
	c.digits('.', t.Nanosecond()/1000, 6)
	c.buffer = append(c.buffer, 'Z')
}

func (c *textCells) day(t time.Time) {
	year, month, day := t.Date()
	c.buffer = strconv.AppendInt(c.buffer, int64(year), 10) // the years of the shop have four digits
	c.digits('-', int(month), 2)
	c.digits('-', day, 2)
}

func (c *textCells) digits(before byte, n, width int) {
	c.buffer = append(c.buffer, before)
	from := len(c.buffer)
	c.buffer = append(c.buffer, "000000"[:width]...)
	for i := from + width - 1; i >= from; i-- {
		c.buffer[i] += byte(n % 10)
		n /= 10
	}
}

func (c *textCells) end() {
	c.buffer = append(c.buffer, '\n')
	c.inRow = false
}

type csvCells struct{ textCells }

func (c *csvCells) null() { c.next() }

func (c *csvCells) text(v string) {
	c.next()
	if v != "" && !strings.ContainsAny(v, "\",\r\n") {
		c.buffer = append(c.buffer, v...)
		return
	}
	c.buffer = append(c.buffer, '"')
	for i := range len(v) {
		if v[i] == '"' {
			c.buffer = append(c.buffer, '"')
		}
		c.buffer = append(c.buffer, v[i])
	}
	c.buffer = append(c.buffer, '"')
}

// The parts of a Frictionless Data Package that the shop declares.
type (
	dataPackage struct {
		Name      string         `json:"name"`
		Profile   string         `json:"profile"`
		Resources []dataResource `json:"resources"`
	}
	dataResource struct {
		Name      string     `json:"name"`
		Path      string     `json:"path"`
		Format    string     `json:"format"`
		MediaType string     `json:"mediatype"`
		Encoding  string     `json:"encoding"`
		Schema    dataSchema `json:"schema"`
	}
	dataSchema struct {
		Fields        []dataField   `json:"fields"`
		MissingValues []string      `json:"missingValues"`
		PrimaryKey    []string      `json:"primaryKey"`
		ForeignKeys   []dataForeign `json:"foreignKeys,omitempty"`
	}
	dataField struct {
		Name        string          `json:"name"`
		Type        string          `json:"type"`
		Format      string          `json:"format,omitempty"`
		Precision   int32           `json:"precision,omitempty"`
		Scale       int32           `json:"scale,omitempty"`
		Constraints map[string]bool `json:"constraints,omitempty"`
	}
	dataForeign struct {
		Fields    []string      `json:"fields"`
		Reference dataReference `json:"reference"`
	}
	dataReference struct {
		Resource string   `json:"resource"`
		Fields   []string `json:"fields"`
	}
)

func (s Shop) datapackage() ([]byte, error) {
	p := dataPackage{Name: "shop", Profile: "tabular-data-package"}
	for _, t := range shopTables {
		schema := dataSchema{MissingValues: []string{""}, PrimaryKey: t.key}
		for _, c := range t.columns {
			f := dataField{Name: c.name, Type: c.kind.frictionless, Format: c.format}
			if d, ok := c.kind.arrow.(arrow.DecimalType); ok {
				f.Precision, f.Scale = d.GetPrecision(), d.GetScale()
			}
			if !c.nullable || c.unique {
				f.Constraints = map[string]bool{}
			}
			if !c.nullable {
				f.Constraints["required"] = true
			}
			if c.unique {
				f.Constraints["unique"] = true
			}
			schema.Fields = append(schema.Fields, f)
			if target := t.foreign[c.name]; target != "" {
				schema.ForeignKeys = append(schema.ForeignKeys, dataForeign{Fields: []string{c.name}, Reference: dataReference{Resource: target, Fields: []string{"id"}}})
			}
		}
		p.Resources = append(p.Resources, dataResource{
			Name: t.name, Path: t.name + ".csv", Format: "csv", MediaType: "text/csv", Encoding: "utf-8", Schema: schema,
		})
	}
	data, err := json.MarshalIndent(p, "", "  ")
	return append(data, '\n'), err
}
