package outputs

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// flattener writes nested rows as flat ones: a struct's fields become columns
// with a dot in their names, and each element of a list of structs a row of its
// own beside what surrounds it. A row with an empty list is one row, with NULL
// for the list's columns. It copies no values: rows of the output are row numbers
// of the input.
type flattener struct {
	cellEncoder // of the flat rows
	leaves      []flatLeaf
	lists       [][]int // of each list within the one before: the fields that lead to it
}

// flatLeaf is a column of the output: the fields of structs that lead to it, from
// the record or from the elements of a list.
type flatLeaf struct {
	field arrow.Field
	depth int // number of lists around it
	path  []int
}

// flatBatch is the number of flat rows that are encoded at once.
const flatBatch = 1024

// flatten returns the flat columns of a schema, and the paths to them.
func flatten(schema *arrow.Schema) (*arrow.Schema, *flattener, error) {
	f := &flattener{}
	var fields []arrow.Field
	var names []string // of the lists
	var walk func(prefix string, inner []arrow.Field, depth int, path []int) error
	walk = func(prefix string, inner []arrow.Field, depth int, path []int) error {
		for i, field := range inner {
			name := prefix + field.Name
			here := append(path[:len(path):len(path)], i)
			if row, ok := field.Type.(*arrow.StructType); ok {
				if err := walk(name+".", row.Fields(), depth, here); err != nil {
					return err
				}
				continue
			}
			if row, ok := rowsOf(field.Type); ok {
				if len(f.lists) > depth {
					return &ColumnError{
						Column:  name,
						Problem: fmt.Sprintf("is a list beside the list %q, so that flattening would repeat each row of one for each row of the other", names[depth]),
						Remedy:  "leave one of them out",
					}
				}
				f.lists, names = append(f.lists, here), append(names, name)
				if err := walk(name+".", row.Fields(), depth+1, nil); err != nil {
					return err
				}
				continue
			}
			f.leaves = append(f.leaves, flatLeaf{field: field, depth: depth, path: here})
			fields = append(fields, arrow.Field{Name: name, Type: field.Type, Nullable: field.Nullable || depth > 0 || len(path) > 0, Metadata: field.Metadata})
		}
		return nil
	}
	if err := walk("", schema.Fields(), 0, nil); err != nil {
		return nil, nil, err
	}
	return arrow.NewSchema(fields, nil), f, nil
}

// rowsOf returns the type of the elements of a list of structs.
func rowsOf(t arrow.DataType) (*arrow.StructType, bool) {
	list, ok := t.(*arrow.ListType)
	if !ok {
		return nil, false
	}
	row, ok := list.Elem().(*arrow.StructType)
	return row, ok
}

func (f *flattener) write(record arrow.RecordBatch) error {
	w := flatWrite{flattener: f, at: make([][]int, len(f.lists)+1)}
	w.roots = append(w.roots, record.Columns())
	for d, path := range f.lists {
		list := reach(w.roots[d], path)
		w.lists = append(w.lists, list)
		rows := list.array.(*array.List).ListValues().(*array.Struct)
		inner := make([]arrow.Array, rows.NumField())
		for i := range inner {
			inner[i] = rows.Field(i)
		}
		w.roots = append(w.roots, inner)
	}
	for _, leaf := range f.leaves {
		w.columns = append(w.columns, w.column(leaf))
	}
	w.now = make([]int, len(w.at))
	for row := range int(record.NumRows()) {
		w.now[0] = row
		if err := w.expand(1); err != nil {
			return err
		}
	}
	return w.flushRows()
}

// flatWrite writes one record.
type flatWrite struct {
	*flattener
	roots   [][]arrow.Array // the columns of the record, and of each list's elements
	lists   []reached
	columns []*cells
	now     []int   // the current element of each list; -1 for none
	at      [][]int // the same for each row that is to be written
}

// reached is an array with the structs around it, any of which may be NULL in a row
// that has a value in the array.
type reached struct {
	array   arrow.Array
	structs []arrow.Array
}

func reach(columns []arrow.Array, path []int) reached {
	r := reached{array: columns[path[0]]}
	for _, i := range path[1:] {
		r.structs = append(r.structs, r.array)
		r.array = r.array.(*array.Struct).Field(i)
	}
	return r
}

func (r reached) null(i int) bool {
	for _, s := range r.structs {
		if s.IsNull(i) {
			return true
		}
	}
	return false
}

// column returns a leaf's values for the rows that are to be written.
func (w *flatWrite) column(leaf flatLeaf) *cells {
	r := reach(w.roots[leaf.depth], leaf.path)
	target := cellsOf(leaf.field, r.array)
	return indirect(&cells{}, target, func(i int) bool {
		at := w.at[leaf.depth][i]
		return at < 0 || r.null(at) || target.null(at)
	}, func(i int) int { return max(w.at[leaf.depth][i], 0) })
}

// expand adds a row for every element of the lists from a depth on.
func (w *flatWrite) expand(depth int) error {
	if depth == len(w.at) {
		for d, at := range w.now {
			w.at[d] = append(w.at[d], at)
		}
		if len(w.at[0]) < flatBatch {
			return nil
		}
		return w.flushRows()
	}
	list, parent := w.lists[depth-1], w.now[depth-1]
	var from, to int64
	if parent >= 0 && !list.null(parent) && list.array.IsValid(parent) {
		from, to = list.array.(*array.List).ValueOffsets(parent)
	}
	if from == to {
		w.now[depth] = -1
		return w.expand(depth + 1)
	}
	for at := from; at < to; at++ {
		w.now[depth] = int(at)
		if err := w.expand(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

func (w *flatWrite) flushRows() error {
	rows := len(w.at[0])
	if rows == 0 {
		return nil
	}
	err := w.writeCells(w.columns, rows)
	for d := range w.at {
		w.at[d] = w.at[d][:0]
	}
	return err
}
