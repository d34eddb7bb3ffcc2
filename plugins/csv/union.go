package csv

import (
	"errors"
	"slices"
)

// unites reports whether the files of the table may have different columns.
func (s *source) unites(t *table) bool { return s.options.Union && t.inferred }

// addColumns makes columns of the names in a file's header. Unless columns are united, the
// error is that of a file whose columns differ from those that are declared or in the
// first file.
func (s *source) addColumns(t *table, file int, names []string) error {
	switch {
	case t.columns == nil:
		t.columns = s.undeclared(names)
	case !s.unites(t):
		err := t.checkHeader(t.files[file].name, names)
		var e *ParseError
		if errors.As(err, &e) && t.inferred {
			_ = e.with("set union=names to read files with different columns as one table")
		}
		return err
	default:
		known := t.columnIndex()
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, ok := known[name]; return ok })
		t.columns = append(t.columns, s.undeclared(names)...)
	}
	return nil
}

// mapFields notes where a file has the table's columns.
func (t *table) mapFields(file int, names []string) {
	f := &t.files[file]
	if f.width = t.width; slices.EqualFunc(names, t.columns, func(name string, c column) bool { return name == c.name }) {
		return
	}
	f.width, f.fields = len(names), make([]int32, t.width)
	for i := range f.fields {
		f.fields[i] = -1
	}
	at := t.columnIndex()
	for field, name := range names {
		f.fields[at[name]] = int32(field)
	}
}

// arrange puts the cells of the current record into the order of the table's columns. A
// column that the file lacks has an empty cell, which is NULL. spare holds the cells that
// the scanner does not use.
func (s *scanner) arrange(fields []int32, spare []cell) (unused []cell) {
	arranged := spare[:0]
	for _, field := range fields {
		if field < 0 {
			arranged = append(arranged, cell{})
		} else {
			arranged = append(arranged, s.cells[field])
		}
	}
	unused, s.cells = s.cells, arranged
	return unused
}
