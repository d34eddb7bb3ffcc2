package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The metadata of an Arrow message is a flatbuffer, and Arrow's reader trusts every
// length and offset in it. For example, it allocates a vector of any declared length
// before it reads it. Therefore a message is checked here before Arrow sees it: all
// offsets and lengths must lie within its bytes.

// table is a flatbuffer table in b.
type table struct {
	b      []byte
	at     int
	vtable []byte // the offsets of the fields, without the vtable's header
}

var errFlatbuf = errors.New("the message's metadata does not hold together")

func u32(b []byte, at int) (int, bool) {
	if at < 0 || at > len(b)-4 {
		return 0, false
	}
	n := binary.LittleEndian.Uint32(b[at:])
	return int(n), n <= math.MaxInt32
}

// tableAt returns the table to which the offset at a position refers.
func tableAt(b []byte, at int) (table, error) {
	offset, ok := u32(b, at)
	if !ok || offset > len(b) {
		return table{}, errFlatbuf
	}
	at += offset
	if at > len(b)-4 {
		return table{}, errFlatbuf
	}
	v := at - int(int32(binary.LittleEndian.Uint32(b[at:])))
	if v < 0 || v > len(b)-4 {
		return table{}, errFlatbuf
	}
	size := int(binary.LittleEndian.Uint16(b[v:]))
	if size < 4 || size%2 != 0 || size > len(b)-v {
		return table{}, errFlatbuf
	}
	return table{b: b, at: at, vtable: b[v+4 : v+size]}, nil
}

// field returns the position of the value of field i, or 0 if it has none. The value's
// width bytes lie within the message.
func (t table) field(i, width int) (int, error) {
	if 2*i+2 > len(t.vtable) {
		return 0, nil
	}
	offset := int(binary.LittleEndian.Uint16(t.vtable[2*i:]))
	if offset == 0 {
		return 0, nil
	}
	if t.at+offset > len(t.b)-width {
		return 0, errFlatbuf
	}
	return t.at + offset, nil
}

func (t table) uint8(i int) (uint8, error) {
	at, err := t.field(i, 1)
	if err != nil || at == 0 {
		return 0, err
	}
	return t.b[at], nil
}

func (t table) int64(i int) (int64, error) {
	at, err := t.field(i, 8)
	if err != nil || at == 0 {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint64(t.b[at:])), nil
}

// table returns the table of a field. ok is false if the field has no value.
func (t table) table(i int) (sub table, ok bool, err error) {
	at, err := t.field(i, 4)
	if err != nil || at == 0 {
		return table{}, false, err
	}
	sub, err = tableAt(t.b, at)
	return sub, err == nil, err
}

// vector returns the position and the number of the elements of a field that is a
// vector. All elements, of width bytes each, lie within the message.
func (t table) vector(i, width int) (at, n int, err error) {
	at, err = t.field(i, 4)
	if err != nil || at == 0 {
		return 0, 0, err
	}
	offset, ok := u32(t.b, at)
	if !ok || offset > len(t.b) {
		return 0, 0, errFlatbuf
	}
	at += offset
	n, ok = u32(t.b, at)
	if !ok || n > (len(t.b)-at-4)/width {
		return 0, 0, errFlatbuf
	}
	return at + 4, n, nil
}

// The types of message headers.
const (
	schemaHeader     = 1
	dictionaryHeader = 2
	recordHeader     = 3
)

// message is what must be known of an Arrow message before its body is read.
type message struct {
	header     uint8
	body       int64 // its length in bytes
	dictionary int64 // the id in a dictionary message
	rows       int64 // the rows of a record message
}

// parseMessage checks the metadata of a message, whose body may have at most most
// bytes.
func parseMessage(meta []byte, most int64) (message, error) {
	var m message
	root, err := tableAt(meta, 0)
	if err != nil {
		return m, err
	}
	if m.header, err = root.uint8(1); err != nil {
		return m, err
	}
	if m.body, err = root.int64(3); err != nil {
		return m, err
	}
	if m.body < 0 || m.body > most {
		return m, fmt.Errorf("a message says that its body has %d bytes, where %d can be", m.body, most)
	}
	walk := walker{left: 16 * len(meta)}
	if err := walk.keyValues(root, 4); err != nil {
		return m, err
	}
	header, ok, err := root.table(2)
	if err != nil {
		return m, err
	}
	if !ok {
		return m, errors.New("a message has no header")
	}
	switch m.header {
	case schemaHeader:
		return m, walk.schema(header)
	case dictionaryHeader:
		if m.dictionary, err = header.int64(0); err != nil {
			return m, err
		}
		delta, err := header.uint8(2)
		if err != nil {
			return m, err
		}
		if delta != 0 {
			return m, errors.New("delta dictionaries are not supported; send the whole dictionary")
		}
		data, ok, err := header.table(1)
		if err != nil {
			return m, err
		}
		if !ok {
			return m, errors.New("a dictionary message has no dictionary")
		}
		_, err = recordBatch(data, m.body)
		return m, err
	case recordHeader:
		m.rows, err = recordBatch(header, m.body)
		return m, err
	}
	return m, fmt.Errorf("a message with header %d is not part of the stream format", m.header)
}

// recordBatch checks that all buffers lie within the body, and returns the number of
// rows.
func recordBatch(t table, body int64) (int64, error) {
	rows, err := t.int64(0)
	if err != nil {
		return 0, err
	}
	if rows < 0 {
		return 0, fmt.Errorf("a batch has %d rows", rows)
	}
	if _, compressed, err := t.table(3); err != nil {
		return 0, err
	} else if compressed {
		return 0, errors.New("the body is compressed, which is not supported")
	}
	at, n, err := t.vector(1, 16)
	if err != nil {
		return 0, err
	}
	for i := range n {
		length := int64(binary.LittleEndian.Uint64(t.b[at+16*i:]))
		nulls := int64(binary.LittleEndian.Uint64(t.b[at+16*i+8:]))
		if length < 0 || length > maxRows || nulls < 0 || nulls > length {
			return 0, fmt.Errorf("column node %d has %d values and %d nulls", i, length, nulls)
		}
	}
	at, n, err = t.vector(2, 16)
	if err != nil {
		return 0, err
	}
	for i := range n {
		offset := int64(binary.LittleEndian.Uint64(t.b[at+16*i:]))
		length := int64(binary.LittleEndian.Uint64(t.b[at+16*i+8:]))
		if offset < 0 || length < 0 || offset > body || length > body-offset {
			return 0, fmt.Errorf("buffer %d has %d bytes at offset %d, but the body has %d bytes", i, length, offset, body)
		}
	}
	buffers := int64(n)
	if at, n, err = t.vector(4, 8); err != nil {
		return 0, err
	}
	for i := range n {
		if c := int64(binary.LittleEndian.Uint64(t.b[at+8*i:])); c < 0 || c > buffers {
			return 0, fmt.Errorf("a view column declares %d of %d buffers", c, buffers)
		}
	}
	return rows, nil
}

// maxRows bounds the length of columns of type null, which occupy no bytes.
const maxRows = 1 << 31

// walker bounds the size of a decoded schema: a small flatbuffer may refer to the same
// table many times.
type walker struct {
	left int
	mask bool // mask the keys that name extension types; see extension.go
}

func (w *walker) take(n int) error {
	if w.left -= n; w.left < 0 {
		return errors.New("the message's metadata expands to many times its size")
	}
	return nil
}

const maxFields = 32 // the maximum nesting depth of a column type

func (w *walker) schema(t table) error {
	if big, err := t.uint8(0); err != nil {
		return err
	} else if big != 0 {
		return errors.New("big-endian data is not supported")
	}
	if err := w.fields(t, 1, 1); err != nil {
		return err
	}
	return w.keyValues(t, 2)
}

func (w *walker) fields(t table, field, depth int) error {
	at, n, err := t.vector(field, 4)
	if err != nil {
		return err
	}
	if n > 0 && depth > maxFields {
		return fmt.Errorf("a type is nested more than %d levels deep", maxFields)
	}
	for i := range n {
		f, err := tableAt(t.b, at+4*i)
		if err != nil {
			return err
		}
		if err := w.take(16); err != nil {
			return err
		}
		if err := w.text(f, 0); err != nil {
			return err
		}
		if err := w.kind(f); err != nil {
			return err
		}
		if err := w.fields(f, 5, depth+1); err != nil {
			return err
		}
		if err := w.keyValues(f, 6); err != nil {
			return err
		}
		if w.mask {
			maskKeys(f)
		}
	}
	return nil
}

// kind checks the tables that describe a field's type. Of these, only a union's type
// ids and a timestamp's zone have lengths.
func (w *walker) kind(f table) error {
	const timestamp, union = 10, 14
	id, err := f.uint8(2)
	if err != nil {
		return err
	}
	t, ok, err := f.table(3)
	if err != nil {
		return err
	}
	switch {
	case !ok:
	case id == timestamp:
		err = w.text(t, 1)
	case id == union:
		_, _, err = t.vector(1, 4)
	}
	if err != nil {
		return err
	}
	d, ok, err := f.table(4)
	if err == nil && ok {
		_, _, err = d.table(1)
	}
	return err
}

func (w *walker) keyValues(t table, field int) error {
	at, n, err := t.vector(field, 4)
	if err != nil {
		return err
	}
	for i := range n {
		kv, err := tableAt(t.b, at+4*i)
		if err != nil {
			return err
		}
		if err := w.take(8); err != nil {
			return err
		}
		if err := w.text(kv, 0); err != nil {
			return err
		}
		if err := w.text(kv, 1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) text(t table, field int) error {
	_, n, err := t.vector(field, 1)
	if err != nil {
		return err
	}
	return w.take(n)
}
