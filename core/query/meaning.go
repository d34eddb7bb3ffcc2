package query

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// onlySource returns a column of p on which p depends in a way that only the source can
// evaluate, or an empty string.
func onlySource(table *sources.Table, p sources.Predicate) (column string) {
	sources.Leaves(p, func(q sources.Predicate) {
		name, op, _ := sources.Leaf(q)
		i := table.Column(name)
		if i < 0 || column != "" {
			return
		}
		m := sources.MeaningOf(table.Schema.Field(i))
		switch op {
		case sources.OpEq, sources.OpNe, sources.OpIn:
			if !m.CanEqual() {
				column = name
			}
		case sources.OpLt, sources.OpLe, sources.OpGt, sources.OpGe:
			if !m.CanOrder() {
				column = name
			}
		}
	})
	return column
}

// OrderNeedsSource returns the first column of an order that only the source can put in
// order, or an empty string.
func OrderNeedsSource(table *sources.Table, order []sources.Sort) string {
	for _, s := range order {
		if i := table.Column(s.Column); i >= 0 && !sources.MeaningOf(table.Schema.Field(i)).CanOrder() {
			return s.Column
		}
	}
	return ""
}

// ShownType returns a column with its type in the source's own terms, as in
// "name" (citext).
func ShownType(f arrow.Field) string {
	shown := f.Type.String()
	if own, ok := f.Metadata.GetValue(sources.MetaType); ok {
		shown = own
	}
	return strconv.Quote(f.Name) + " (" + shown + ")"
}

func refuseCondition(table *sources.Table, column string, p sources.Predicate) error {
	remedy := "leave the condition out, and compare the rows yourself"
	if _, _, leaf := sources.Leaf(p); !leaf {
		remedy = "make the part about this column a condition of its own, joined with && to the rest"
	}
	return fmt.Errorf("where: only the source can compare values of column %s, and it does not accept the condition %s: %s", ShownType(table.Schema.Field(table.Column(column))), p, remedy)
}

// RefuseOrder returns the error for an order by a column that only the source can put in
// order, if the source does not sort.
func RefuseOrder(table *sources.Table, column string) error {
	return fmt.Errorf("order: only the source knows the order of column %s, and it does not sort here: order by another column", ShownType(table.Schema.Field(table.Column(column))))
}

// checkLabels checks that what is compared with a column by the order of its labels is
// one of them.
func checkLabels(table *sources.Table, where sources.Predicate) error {
	var faults []error
	sources.Leaves(where, func(p sources.Predicate) {
		c, ok := p.(sources.Comparison)
		if !ok || c.Op == sources.OpEq || c.Op == sources.OpNe {
			return
		}
		m := sources.MeaningOf(table.Schema.Field(table.Column(c.Column)))
		if label, ok := c.Value.V.(string); ok && m.Order == sources.ByLabels && !slices.Contains(m.Labels, label) {
			faults = append(faults, fmt.Errorf("where: column %q has no label %s%s", c.Column, c.Value, sources.Suggest(label, m.Labels)))
		}
	})
	if len(faults) == 0 {
		return nil
	}
	return sources.NewError(sources.Invalid, "", table.Name, errors.Join(faults...))
}
