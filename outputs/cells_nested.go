package outputs

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

func structs(c *cells, a *array.Struct) *cells {
	inner := a.DataType().(*arrow.StructType).Fields()
	names := jsonNames(inner)
	fields := make([]*cells, a.NumField())
	for f := range fields {
		fields[f] = cellsOf(inner[f], a.Field(f))
	}
	c.form = nestedForm
	c.append = func(dst []byte, i int) []byte {
		dst = append(dst, '{')
		for f, field := range fields {
			if f > 0 {
				dst = append(dst, ',')
			}
			dst = field.json(append(dst, names[f]...), i)
		}
		return append(dst, '}')
	}
	return c
}

// maps writes a map as a list of entries, since a key may be of any type and the
// order of the entries may matter.
func maps(c *cells, a *array.Map) *cells {
	t := a.DataType().(*arrow.MapType)
	keys, items := cellsOf(t.KeyField(), a.Keys()), cellsOf(t.ItemField(), a.Items())
	c.form = nestedForm
	c.append = func(dst []byte, i int) []byte {
		dst = append(dst, '[')
		start, end := a.ValueOffsets(i)
		for j := start; j < end; j++ {
			if j > start {
				dst = append(dst, ',')
			}
			dst = keys.json(append(dst, `{"key":`...), int(j))
			dst = items.json(append(dst, `,"value":`...), int(j))
			dst = append(dst, '}')
		}
		return append(dst, ']')
	}
	return c
}

func unions(c *cells, a array.Union) *cells {
	children := make([]*cells, a.NumFields())
	for f := range children {
		children[f] = cellsOf(a.UnionType().Fields()[f], a.Field(f))
	}
	at := func(i int) int { return i }
	if dense, ok := a.(*array.DenseUnion); ok {
		at = func(i int) int { return int(dense.ValueOffset(i)) }
	}
	c.form = nestedForm
	c.null = func(i int) bool { return children[a.ChildID(i)].null(at(i)) }
	c.append = func(dst []byte, i int) []byte { return children[a.ChildID(i)].json(dst, at(i)) }
	return c
}
