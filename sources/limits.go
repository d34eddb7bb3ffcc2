package sources

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
)

// The limits of what a source says about its data, in bytes. A longer name is an error,
// and a longer text is cut, because nothing depends on its end.
const (
	// MaxName limits the names of tables, columns and relations, and what identifies
	// a state: [Catalog.Identity], [Plan.Version], [Plan.State], [Plan.Snapshot] and each [Part].
	MaxName = 64 << 10
	// MaxComment limits comments, the texts of [MetaType], [MetaDefault] and
	// [MetaGenerated], [Table.Denied], [Relation.Unusable] and [Plan.Detail].
	MaxComment = 64 << 10
	// MaxErrorText limits the text of an [Error].
	MaxErrorText = 16 << 10
	// MaxLocation limits each of [Skipped.Locations].
	MaxLocation = 1 << 10
	// MaxLabels limits [MetaLabels].
	MaxLabels = 1 << 20
)

// MaxParts limits how many partitions a plan has.
const MaxParts = 64 << 10

// Clip returns s if it has at most most bytes, and otherwise its beginning, with an
// ellipsis, in most bytes. It does not cut within a character.
func Clip(s string, most int) string {
	const ellipsis = "..."
	if len(s) <= most {
		return s
	}
	end := max(most-len(ellipsis), 0)
	for back := 0; back < utf8.UTFMax && end > 0 && !utf8.RuneStart(s[end]); back++ {
		end--
	}
	return s[:end] + ellipsis
}

// CheckCatalog returns an error of kind [Invalid] if a name in the catalog exceeds its
// limit, or if there is no catalog. It names the table or the column by its beginning.
func CheckCatalog(c *Catalog) error {
	if c == nil {
		return Errorf(Internal, "catalog", "", "the source returned no catalog")
	}
	if len(c.Identity) > MaxName {
		return Errorf(Invalid, "catalog", "", "the catalog's identity has %d bytes, but the limit is %d", len(c.Identity), MaxName)
	}
	for _, t := range c.Unreadable {
		if err := checkName("the name of the table", t.Table); err != nil {
			return NewError(Invalid, "catalog", Clip(t.Table, shownName), err)
		}
	}
	for i := range c.Tables {
		if err := checkNames(&c.Tables[i]); err != nil {
			return NewError(Invalid, "catalog", Clip(c.Tables[i].Name, shownName), err)
		}
	}
	return nil
}

// shownName is how much of a name an error shows, in bytes.
const shownName = 256

// checkNames returns an error for the first name of a table that is too long.
func checkNames(t *Table) error {
	if err := checkName("the name of the table", t.Name); err != nil {
		return err
	}
	if t.Schema != nil {
		if err := checkFields(t.Schema.Fields()); err != nil {
			return err
		}
	}
	for name := range t.Denied {
		if err := checkName("the name of a column", name); err != nil {
			return err
		}
	}
	for i := range t.Relations {
		r := &t.Relations[i]
		names := append(slices.Concat(r.Aliases, r.Columns, r.TargetColumns), r.Name, r.TargetTable)
		if r.Through != nil {
			names = append(slices.Concat(names, r.Through.Near, r.Through.Far), r.Through.Table)
		}
		for _, name := range names {
			if err := checkName("a name of a relation", name); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkFields checks the names and the labels of fields and of those inside them.
func checkFields(fields []arrow.Field) error {
	for _, f := range fields {
		if err := checkName("the name of a column", f.Name); err != nil {
			return err
		}
		if f.Metadata.Len() > 0 {
			if labels, ok := f.Metadata.GetValue(MetaLabels); ok && len(labels) > MaxLabels {
				return fmt.Errorf("the labels of column %q have %d bytes, but the limit is %d", Clip(f.Name, shownName), len(labels), MaxLabels)
			}
		}
		if nested, ok := f.Type.(arrow.NestedType); ok {
			if err := checkFields(nested.Fields()); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkName returns an error if a name is too long.
func checkName(what, name string) error {
	if len(name) <= MaxName {
		return nil
	}
	return fmt.Errorf("%s has %d bytes, but the limit is %d: %q", what, len(name), MaxName, Clip(name, shownName))
}

// CheckPlan returns an error of kind [Invalid] if a part of the plan exceeds its limit,
// or if there is no plan. Otherwise it cuts [Plan.Detail] to its limit.
func CheckPlan(p *Plan) error {
	if p == nil {
		return Errorf(Internal, "", "", "the source returned no plan")
	}
	var faults []error
	for what, n := range map[string]int{"version": len(p.Version), "state": len(p.State), "snapshot": len(p.Snapshot)} {
		if n > MaxName {
			faults = append(faults, fmt.Errorf("the %s of the plan has %d bytes, but the limit is %d", what, n, MaxName))
		}
	}
	if len(p.Parts) > MaxParts {
		faults = append(faults, fmt.Errorf("the plan has %d partitions, but the limit is %d", len(p.Parts), MaxParts))
	}
	if i := slices.IndexFunc(p.Parts, func(part Part) bool { return len(part) > MaxName }); i >= 0 {
		faults = append(faults, fmt.Errorf("partition %d of the plan has %d bytes, but the limit is %d", i, len(p.Parts[i]), MaxName))
	}
	if len(faults) > 0 {
		return NewError(Invalid, "", "", errors.Join(faults...))
	}
	p.Detail = Clip(p.Detail, MaxComment)
	return nil
}

// clippedComments are the metadata keys of a field whose values are cut.
var clippedComments = []string{MetaComment, MetaType, MetaDefault, MetaGenerated}

// clipField cuts the texts about a column to their limit, and reports whether one was
// longer.
func clipField(f arrow.Field) (_ arrow.Field, changed bool) {
	if f.Metadata.Len() == 0 {
		return f, false
	}
	for _, key := range clippedComments {
		text, ok := f.Metadata.GetValue(key)
		if !ok || len(text) <= MaxComment {
			continue
		}
		meta := f.Metadata.ToMap()
		meta[key] = Clip(text, MaxComment)
		f.Metadata, changed = arrow.MetadataFrom(meta), true
	}
	return f, changed
}

// clipTable returns the table with its comments cut to their limit, and reports whether
// one was longer. It does not modify t.
func clipTable(t Table) (_ Table, changed bool) {
	if len(t.Comment) > MaxComment {
		t.Comment, changed = Clip(t.Comment, MaxComment), true
	}
	for name, reason := range t.Denied {
		if len(reason) > MaxComment {
			t.Denied = maps.Clone(t.Denied)
			t.Denied[name], changed = Clip(reason, MaxComment), true
		}
	}
	for i := range t.Relations {
		if len(t.Relations[i].Unusable) > MaxComment {
			t.Relations = slices.Clone(t.Relations)
			t.Relations[i].Unusable, changed = Clip(t.Relations[i].Unusable, MaxComment), true
		}
	}
	if t.Schema == nil {
		return t, changed
	}
	if fields, cut := mapFields(t.Schema.Fields(), clipField); cut {
		meta := t.Schema.Metadata()
		t.Schema, changed = arrow.NewSchemaWithEndian(fields, &meta, t.Schema.Endianness()), true
	}
	return t, changed
}
