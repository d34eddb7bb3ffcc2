package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/internal/display"
	"github.com/penstock-data/penstock/sources"
)

// The structure of the object that `penstock catalog --json` prints.
type (
	catalogJSON struct {
		Tables []tableJSON `json:"tables"`
	}
	tableJSON struct {
		Name      string         `json:"name"`
		Comment   string         `json:"comment,omitempty"`
		Rows      *int64         `json:"rows"` // an estimate; null if unknown
		Columns   []columnJSON   `json:"columns"`
		Key       []string       `json:"key"`
		Unique    [][]string     `json:"unique"`
		Relations []relationJSON `json:"relations"`
		Can       []string       `json:"can"`
		Pending   bool           `json:"pending,omitempty"` // only the name is known; name the table to see more
	}
	columnJSON struct {
		Name       string `json:"name"`
		Type       string `json:"type"`
		Extension  string `json:"extension,omitempty"` // Arrow's name of the logical type
		Nullable   bool   `json:"nullable"`
		SourceType string `json:"source_type,omitempty"`
		Default    string `json:"default,omitempty"`
		Generated  string `json:"generated,omitempty"`
		Comment    string `json:"comment,omitempty"`
	}
	relationJSON struct {
		Name      string       `json:"name"` // a short name that leads to the relation; if there is none, the qualified name
		Kind      string       `json:"kind"`
		Columns   []string     `json:"columns"`
		Table     string       `json:"table"`
		Target    []string     `json:"target"`
		Through   *throughJSON `json:"through,omitempty"`
		Qualified string       `json:"qualified"`
		Unusable  string       `json:"unusable,omitempty"` // why the relation cannot be loaded
	}
	throughJSON struct {
		Table string   `json:"table"`
		Near  []string `json:"near"`
		Far   []string `json:"far"`
	}
)

// findTable returns the table with a name. The error names the nearest.
func findTable(catalog *sources.Catalog, name string) (*sources.Table, error) {
	if t := catalog.Table(name); t != nil {
		return t, nil
	}
	if slices.ContainsFunc(catalog.Unreadable, func(t sources.TableError) bool { return t.Table == name }) {
		return nil, sources.WithOp("catalog", name, catalog.NoTable(name))
	}
	names := make([]string, len(catalog.Tables))
	for i, t := range catalog.Tables {
		names[i] = t.Name
	}
	return nil, sources.Errorf(sources.NotFound, "", "", "there is no table %q%s", name, sources.Suggest(name, names))
}

// writeCatalogJSON writes tables as one JSON object.
func writeCatalogJSON(w io.Writer, tables []sources.Table) error {
	out := catalogJSON{Tables: []tableJSON{}}
	for _, t := range tables {
		j := tableJSON{
			Name: t.Name, Comment: t.Comment, Columns: []columnJSON{}, Relations: []relationJSON{}, Can: []string{},
			Key: orEmpty(t.Key), Unique: orEmpty(t.Unique), Pending: t.Pending,
		}
		if t.Rows >= 0 {
			j.Rows = &t.Rows
		}
		if t.Capabilities != 0 {
			j.Can = strings.Split(t.Capabilities.String(), ", ")
		}
		for _, f := range t.Schema.Fields() {
			c := columnJSON{Name: f.Name, Type: f.Type.String(), Nullable: f.Nullable}
			c.Extension, _ = f.Metadata.GetValue(sources.MetaExtension)
			c.SourceType, _ = f.Metadata.GetValue(sources.MetaType)
			c.Comment, _ = f.Metadata.GetValue(sources.MetaComment)
			c.Default, _ = f.Metadata.GetValue(sources.MetaDefault)
			c.Generated, _ = f.Metadata.GetValue(sources.MetaGenerated)
			j.Columns = append(j.Columns, c)
		}
		names := t.RelationNames()
		for i, r := range t.Relations {
			relation := relationJSON{
				Name: names[i], Kind: r.Kind.String(), Columns: orEmpty(r.Columns), Table: r.TargetTable, Target: orEmpty(r.TargetColumns),
				Qualified: r.Name, Unusable: r.Unusable,
			}
			if r.Through != nil {
				relation.Through = &throughJSON{Table: r.Through.Table, Near: r.Through.Near, Far: r.Through.Far}
			}
			j.Relations = append(j.Relations, relation)
		}
		out.Tables = append(out.Tables, j)
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}

// orEmpty returns an empty list for nil, so that JSON has [] instead of null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// typeText returns the type of a column as conditions and rows have it.
func typeText(f arrow.Field) string {
	switch {
	case sources.IsUUID(f):
		return "uuid"
	case sources.IsJSON(f):
		return "json"
	case sources.FieldType(f) == sources.Number:
		return "number"
	}
	return f.Type.String()
}

// writeCatalogText writes tables as text, with a line for each column and relation. A
// relation has its short name, and after = its qualified name.
func writeCatalogText(w io.Writer, tables []sources.Table) error {
	var b strings.Builder
	for i, t := range tables {
		if i > 0 && (!t.Pending || !tables[i-1].Pending) {
			b.WriteByte('\n')
		}
		b.WriteString(display.Printable(t.Name))
		if t.Pending {
			b.WriteString("  (not read; to see its columns, name it or give --all)\n")
			continue
		}
		if t.Rows >= 0 {
			b.WriteString("  (about " + strconv.FormatInt(t.Rows, 10) + " rows)")
		}
		b.WriteByte('\n')
		if t.Comment != "" {
			b.WriteString("  " + display.Printable(t.Comment) + "\n")
		}
		var rows [][]string
		for _, f := range t.Schema.Fields() {
			var notes []string
			if at := slices.Index(t.Key, f.Name); at >= 0 {
				notes = append(notes, "key")
			}
			if !f.Nullable {
				notes = append(notes, "not null")
			}
			if own, ok := f.Metadata.GetValue(sources.MetaType); ok && !sources.MeaningOf(f).CanEqual() {
				notes = append(notes, "compared as "+display.Printable(own))
			}
			if generated, ok := f.Metadata.GetValue(sources.MetaGenerated); ok {
				notes = append(notes, "generated "+display.Printable(generated))
			}
			if value, ok := f.Metadata.GetValue(sources.MetaDefault); ok {
				notes = append(notes, "default "+display.Printable(value))
			}
			if comment, ok := f.Metadata.GetValue(sources.MetaComment); ok && comment != "" {
				notes = append(notes, display.Printable(comment))
			}
			rows = append(rows, []string{display.Printable(f.Name), display.Printable(typeText(f)), strings.Join(notes, ", ")})
		}
		align(&b, "  ", rows)
		for _, u := range t.Unique {
			b.WriteString("  unique (" + display.Printable(strings.Join(u, ", ")) + ")\n")
		}
		rows = nil
		names := t.RelationNames()
		for i, r := range t.Relations {
			target := fmt.Sprintf("%s (%s)", r.TargetTable, strings.Join(r.TargetColumns, ", "))
			if r.Through != nil {
				target += " through " + r.Through.Table
			}
			notes := ""
			if names[i] != r.Name {
				notes = "= " + display.Printable(r.Name)
			}
			if r.Unusable != "" {
				notes = strings.TrimPrefix(notes+", unusable: "+display.Printable(r.Unusable), ", ")
			}
			rows = append(rows, []string{"→ " + display.Printable(names[i]), r.Kind.String(), display.Printable(target), notes})
		}
		align(&b, "  ", rows)
		if t.Capabilities != 0 {
			b.WriteString("  capabilities: " + t.Capabilities.String() + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// align writes rows of cells, padded to the width of their columns.
func align(b *strings.Builder, indent string, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], display.Width(cell))
		}
	}
	for _, row := range rows {
		line := indent
		for i, cell := range row {
			line += cell + strings.Repeat(" ", widths[i]-display.Width(cell)+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}
