package testkit

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// keyField returns the field of keys of a column, which may have a NULL.
func keyField(f arrow.Field) arrow.Field {
	key := arrow.Field{Name: f.Name, Type: sources.ValueType(f.Type), Nullable: true}
	if sources.FieldType(f) == sources.Number {
		key.Metadata = arrow.MetadataFrom(sources.MeaningOf(f).Metadata())
	}
	return key
}

// ordinals checks the lookups with ordinals.
func (t *table) ordinals() error {
	any := false
	for _, l := range t.Lookups {
		if !l.Ordinals {
			continue
		}
		if err := t.requireWhole(); err != nil {
			return err
		}
		any = true
		if err := t.ordinalLookup(l); err != nil {
			return fmt.Errorf("lookup by %q: %w", l.Columns, err)
		}
	}
	if !any {
		return skipped("the table has no lookups with ordinals")
	}
	return nil
}

// ordinalLookup looks up some keys one by one, and then all of them at once, with one
// that is listed twice and one with a NULL.
func (t *table) ordinalLookup(l sources.Lookup) error {
	fields := make([]arrow.Field, len(l.Columns))
	wide := make([]arrow.Field, len(l.Columns)) // another type of text
	for i, c := range l.Columns {
		fields[i] = keyField(t.Schema.Field(t.Column(c)))
		if !sources.Comparable(fields[i].Type, fields[i].Type) {
			return nil // the suite cannot make keys of this type
		}
		if wide[i] = fields[i]; fields[i].Type.ID() == arrow.STRING {
			wide[i].Type = arrow.BinaryTypes.LargeString
		}
	}
	nulls := make([]sources.Value, len(fields))
	for i, f := range fields {
		nulls[i] = sources.Null(f.Type)
	}
	keys := [][]sources.Value{nulls}
	for i := 0; i < len(t.rows); i += 1 + len(t.rows)/7 {
		key := make([]sources.Value, len(fields))
		for j, c := range l.Columns {
			key[j] = t.rows[i][t.Column(c)]
		}
		keys = append(keys, key)
	}
	keys = append(keys, keys[len(keys)-1]) // once more
	if l.MaxKeys > 0 {
		keys = keys[:min(len(keys), l.MaxKeys)]
	}
	for _, order := range t.someOrders() {
		var want [][]sources.Value
		var first [][]sources.Value // the first row of each key
		for k, key := range keys {
			rows, err := t.lookupKeys(l, fields, [][]sources.Value{key}, order, 0)
			if err != nil {
				return err
			}
			if err := t.holdsKey(l, key, rows); err != nil {
				return err
			}
			for i, row := range rows {
				row = slices.Clone(row)
				row[len(row)-1] = sources.Value{Type: arrow.PrimitiveTypes.Int32, V: int64(k)}
				if want = append(want, row); i == 0 {
					first = append(first, row)
				}
			}
		}
		stable := t.Capabilities.Has(sources.CapStable)
		for _, keyFields := range [][]arrow.Field{fields, wide} {
			got, err := t.lookupKeys(l, keyFields, keys, order, 0)
			if err == nil {
				err = differ(want, got, stable)
			}
			if err != nil {
				return fmt.Errorf("%d keys of type %s, order %+v: %w", len(keys), keyFields[0].Type, order, err)
			}
		}
		got, err := t.lookupKeys(l, fields, keys, order, 1)
		if err == nil && stable {
			err = differ(first, got, true)
		}
		if err == nil && len(got) != len(first) {
			err = fmt.Errorf("there are %d rows, want %d", len(got), len(first))
		}
		if err != nil {
			return fmt.Errorf("with LimitPerKey 1, order %+v: %w", order, err)
		}
	}
	return nil
}

// someOrders returns the order of the table, and if it sorts, another one.
func (t *table) someOrders() [][]sources.Sort {
	orders := [][]sources.Sort{nil}
	if t.Capabilities.Has(sources.CapSort) {
		var order []sources.Sort
		for _, f := range t.Schema.Fields() {
			if sources.Comparable(f.Type, f.Type) {
				order = append(order, sources.Sort{Column: f.Name, Desc: true})
			}
		}
		orders = append(orders, order)
	}
	return orders
}

// holdsKey checks the rows of one key by the source's own equality: they are the rows
// that the source selects by comparing each column with the key.
func (t *table) holdsKey(l sources.Lookup, key []sources.Value, got [][]sources.Value) error {
	terms := make(sources.And, len(key))
	for i, c := range l.Columns {
		if !t.Filters[c].Has(sources.OpEq) {
			return nil
		}
		terms[i] = sources.Comparison{Column: c, Op: sources.OpEq, Value: literal(t.Schema.Field(t.Column(c)), key[i])}
	}
	q := t.query()
	q.Where = terms
	want, err := t.ask(q, sources.Env{})
	if err != nil {
		return err
	}
	rows := make([][]sources.Value, len(got))
	for i, row := range got {
		rows[i] = row[:len(row)-1]
	}
	if err := differ(want, rows, false); err != nil {
		return fmt.Errorf("the rows of a key are not those that satisfy %s: %w", terms, err)
	}
	return nil
}

// lookupKeys returns the rows of keys, with their ordinals. It reads small pages, and
// if the table can resume, ends the scan after every page and begins another one.
func (t *table) lookupKeys(l sources.Lookup, fields []arrow.Field, keys [][]sources.Value, order []sources.Sort, perKey int) ([][]sources.Value, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for _, key := range keys {
		for i, v := range key {
			if v.IsNull() {
				b.Field(i).AppendNull()
			} else {
				sources.AppendValue(b.Field(i), v)
			}
		}
	}
	values := b.NewRecordBatch()
	defer values.Release()
	q := t.query()
	q.OrderBy = order
	q.Keys = &sources.Keys{Columns: l.Columns, Values: values, LimitPerKey: perKey}
	var rows [][]sources.Value
	last := int64(0)
	err := t.begin(sources.Env{Page: small}, func(session sources.Session) error {
		for {
			var cursor sources.Cursor
			for batch, err := range session.Scan(t.ctx, q) {
				if err != nil {
					return err
				}
				if err := conforms(batch.Record, t.QuerySchema(q)); err != nil {
					return err
				}
				for _, row := range rowsOf(batch.Record) {
					ordinal, ok := row[len(row)-1].V.(int64)
					if !ok || ordinal < last || ordinal >= int64(len(keys)) {
						return fmt.Errorf("the ordinal %v follows %d, and there are %d keys", row[len(row)-1], last, len(keys))
					}
					last = ordinal
					rows = append(rows, row)
				}
				if len(rows) > 10*most {
					return errors.New("the scan does not end")
				}
				if cursor = batch.Cursor; cursor != nil && batch.Record.NumRows() > 0 {
					cursor = slices.Clone(cursor)
					break
				}
				cursor = nil
			}
			if cursor == nil {
				return nil
			}
			q.After = cursor
		}
	})
	return rows, err
}
