package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// MarshalSchema returns the schema as an Arrow IPC message in stream format, including
// its metadata. Extension types are sent as [sources.NormalizeSchema] returns them.
func MarshalSchema(s *arrow.Schema) ([]byte, error) {
	var b bytes.Buffer
	p := ipc.GetSchemaPayload(sources.NormalizeSchema(s), memory.DefaultAllocator)
	defer p.Release()
	if _, err := p.WritePayload(&b); err != nil {
		return nil, invalid("schema cannot be sent: %w", err)
	}
	return b.Bytes(), nil
}

// UnmarshalSchema decodes the result of [MarshalSchema]. An extension type is its storage
// type with the metadata of the field, whether or not it is registered with Arrow.
func UnmarshalSchema(b []byte) (*arrow.Schema, error) {
	d := NewDecoder(memory.DefaultAllocator)
	defer d.Release()
	in := bytes.NewReader(b)
	if err := d.schemaOnly(in, int64(len(b))); err != nil {
		return nil, err
	}
	if in.Len() > 0 {
		return nil, invalid("malformed schema: %d bytes of extra data", in.Len())
	}
	return d.schema, nil
}

// MarshalRecord returns the [sources.NormalizeRecord] of one record as an Arrow IPC
// stream, uncompressed.
func MarshalRecord(r arrow.RecordBatch) ([]byte, error) {
	var b bytes.Buffer
	r = sources.NormalizeRecord(r)
	defer r.Release()
	w := ipc.NewWriter(&b, ipc.WithSchema(r.Schema()))
	err := w.Write(r)
	if e := w.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, invalid("record cannot be sent: %w", err)
	}
	return b.Bytes(), nil
}

// UnmarshalRecord decodes the result of [MarshalRecord], with memory from mem. The
// caller must release the record.
func UnmarshalRecord(b []byte, mem memory.Allocator) (arrow.RecordBatch, error) {
	d := NewDecoder(mem)
	defer d.Release()
	in := bytes.NewReader(b)
	r, err := d.Read(in, int64(len(b)))
	if err != nil {
		if err == io.EOF {
			err = invalid("malformed record: the stream contains no record")
		}
		return nil, err
	}
	if again, err := d.Read(in, int64(in.Len())); err != io.EOF || in.Len() > 0 {
		if err == nil {
			again.Release()
		}
		r.Release()
		return nil, invalid("malformed record: extra data after it")
	}
	return r, nil
}

// Decoder decodes the records of one Arrow IPC stream from an untrusted source. It
// checks the metadata before it allocates memory, allocates the whole body of a
// message before it reads it, and validates the arrays before it returns them. The
// schema and the records are normalized; see [sources.NormalizeSchema]. A Decoder is not
// safe for concurrent use.
//
// The error for an invalid stream is of kind [sources.Invalid]. If the allocator
// panics with an error, that error is returned. After an error, only memory that
// [Decoder.Release] frees remains allocated.
type Decoder struct {
	mem    memory.Allocator
	schema *arrow.Schema
	prefix packet           // the schema's message
	dicts  map[int64]packet // the latest version of each dictionary
	order  []int64          // the ids of the dictionaries in order of arrival
	buf    bytes.Buffer     // buffers metadata
}

// packet is an IPC message and its body.
type packet struct {
	meta []byte
	body *memory.Buffer
}

// NewDecoder returns a decoder that allocates records from mem.
func NewDecoder(mem memory.Allocator) *Decoder {
	return &Decoder{mem: mem, dicts: make(map[int64]packet)}
}

// Schema returns the stream's schema, or nil if it has not arrived yet.
func (d *Decoder) Schema() *arrow.Schema { return d.schema }

// Release frees the dictionaries. Records that were returned remain valid.
func (d *Decoder) Release() {
	for _, p := range d.dicts {
		p.body.Release()
	}
	clear(d.dicts)
	d.order = nil
}

// Read returns the next record of in, which has size more bytes. The error is io.EOF
// if in or the stream ends before a record. The caller must release the record. After
// any other error, the decoder must not be used except for Release.
func (d *Decoder) Read(in io.Reader, size int64) (arrow.RecordBatch, error) {
	return d.read(&io.LimitedReader{R: in, N: size}, true)
}

// ReadUnsized is Read for an input whose size is not known, such as a compressed file,
// and that may go on after the end of the stream. The next record may take up to most
// bytes of it, with its dictionaries.
func (d *Decoder) ReadUnsized(in io.Reader, most int64) (arrow.RecordBatch, error) {
	return d.read(&io.LimitedReader{R: in, N: most}, false)
}

// read is Read; sized tells whether in ends with the stream.
func (d *Decoder) read(in *io.LimitedReader, sized bool) (arrow.RecordBatch, error) {
	for {
		m, p, err := d.message(in, sized)
		if err != nil {
			return nil, err
		}
		if r, err := d.add(m, p); r != nil || err != nil {
			return r, err
		}
	}
}

// ReadMessage decodes one message, for carriers that separate its metadata from its
// body of size bytes. It calls fill to read the body into memory from the decoder's
// allocator, unless the metadata is invalid or the allocation fails. The error is
// io.EOF if the message is a schema or a dictionary. ReadMessage does not retain
// meta.
func (d *Decoder) ReadMessage(meta []byte, size int64, fill func(body []byte) error) (arrow.RecordBatch, error) {
	m, err := parseMessage(meta, size)
	if err != nil {
		return nil, invalid("%w", err)
	}
	if m.body != size {
		return nil, invalid("a message says that its body has %d bytes, and it has %d", m.body, size)
	}
	body, err := allocate(d.mem, m.body)
	if err != nil {
		return nil, err
	}
	if err := fill(body.Bytes()); err != nil {
		body.Release()
		return nil, cut(err)
	}
	r, err := d.add(m, packet{meta: meta, body: body})
	if r == nil && err == nil {
		err = io.EOF
	}
	return r, err
}

// add processes one message and takes ownership of its body. The record is nil for
// messages that are not records.
func (d *Decoder) add(m message, p packet) (arrow.RecordBatch, error) {
	switch {
	case m.header == schemaHeader && d.schema != nil:
		p.body.Release()
		return nil, invalid("a second schema in one stream")
	case m.header == schemaHeader:
		return nil, d.setSchema(p)
	case m.header == dictionaryHeader && d.schema == nil:
		p.body.Release()
		return nil, invalid("a dictionary before the schema")
	case m.header == dictionaryHeader:
		return nil, d.addDictionary(m.dictionary, p)
	case d.schema == nil:
		p.body.Release()
		return nil, invalid("a record before the schema")
	}
	return d.record(p)
}

func (d *Decoder) schemaOnly(in io.Reader, size int64) error {
	m, p, err := d.message(&io.LimitedReader{R: in, N: size}, true)
	if err == io.EOF {
		return invalid("malformed schema: it is empty")
	}
	if err != nil {
		return err
	}
	if m.header != schemaHeader {
		p.body.Release()
		return invalid("malformed schema: the message is of another kind")
	}
	return d.setSchema(p)
}

// maxMetadata bounds the metadata of one message. It suffices for about 100,000
// columns.
const maxMetadata = 16 << 20

// message reads one message. The caller must release its body.
func (d *Decoder) message(in *io.LimitedReader, sized bool) (message, packet, error) {
	if in.N == 0 && sized {
		return message{}, packet{}, io.EOF
	}
	var head [8]byte
	if in.N < int64(len(head)) {
		return message{}, packet{}, invalid("%d bytes at the end of the stream are not a message", in.N)
	}
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return message{}, packet{}, cut(err)
	}
	n := int64(binary.LittleEndian.Uint32(head[4:]))
	if binary.LittleEndian.Uint32(head[:]) != 0xFFFFFFFF {
		return message{}, packet{}, invalid("no Arrow message begins here")
	}
	if n == 0 {
		if in.N > 0 && sized {
			return message{}, packet{}, invalid("%d bytes of data after the end of the stream", in.N)
		}
		return message{}, packet{}, io.EOF
	}
	if n > in.N || n > maxMetadata {
		return message{}, packet{}, invalid("a message declares metadata of %d bytes, but the limit is %d", n, min(in.N, maxMetadata))
	}
	// The buffer grows with the bytes that arrive, not with the declared length.
	d.buf.Reset()
	if _, err := io.CopyN(&d.buf, in, n); err != nil {
		return message{}, packet{}, cut(err)
	}
	meta := d.buf.Bytes()
	m, err := parseMessage(meta, in.N)
	if err != nil {
		return message{}, packet{}, invalid("%w", err)
	}
	body, err := allocate(d.mem, m.body)
	if err != nil {
		return message{}, packet{}, err
	}
	if _, err := io.ReadFull(in, body.Bytes()); err != nil {
		body.Release()
		return message{}, packet{}, cut(err)
	}
	return m, packet{meta: meta, body: body}, nil
}

// cut returns the error for a stream that ended early. Other errors of the carrier,
// such as a deadline or a crash, are returned unchanged.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return sources.Errorf(sources.Unavailable, "", "", "the stream was truncated inside a message")
	}
	return err
}

// allocate allocates memory for a body. A panic of the allocator becomes an error.
func allocate(mem memory.Allocator, n int64) (b *memory.Buffer, err error) {
	if n == 0 {
		return memory.NewBufferBytes(nil), nil
	}
	defer func() {
		if r := recover(); r != nil {
			b, err = nil, sources.PanicError(r)
		}
	}()
	return memory.NewBufferWithAllocator(mem.Allocate(int(n)), mem), nil
}

func (d *Decoder) setSchema(p packet) error {
	defer p.body.Release()
	if p.body.Len() > 0 {
		return invalid("a schema message has a body")
	}
	p.meta = bytes.Clone(p.meta)
	if err := mask(p.meta); err != nil {
		return invalid("malformed schema: %w", err)
	}
	r, err := ipc.NewReaderFromMessageReader(&feed{packets: []packet{p}}, ipc.WithEnsureNativeEndian(false))
	if err != nil {
		return invalid("malformed schema: %w", err)
	}
	defer r.Release()
	for _, f := range r.Schema().Fields() {
		if err := checkType(f.Type); err != nil {
			return invalid("malformed schema: column %q: %w", f.Name, err)
		}
	}
	d.prefix, d.schema = packet{meta: p.meta, body: memory.NewBufferBytes(nil)}, unmaskSchema(r.Schema())
	return nil
}

// checkType rejects decimals of an absurd scale, whose powers of ten would be too
// large to compute.
func checkType(t arrow.DataType) error {
	switch t := t.(type) {
	case *arrow.DictionaryType:
		return checkType(t.ValueType)
	case arrow.NestedType:
		for _, f := range t.Fields() {
			if err := checkType(f.Type); err != nil {
				return err
			}
		}
	case arrow.DecimalType:
		if s := t.GetScale(); s < -maxScale || s > maxScale {
			return fmt.Errorf("decimal scale %d out of range", s)
		}
	}
	return nil
}

func (d *Decoder) addDictionary(id int64, p packet) error {
	old, ok := d.dicts[id]
	switch {
	case ok:
		old.body.Release()
	case len(d.dicts) >= maxDictionaries:
		p.body.Release()
		return invalid("more than %d dictionaries", maxDictionaries)
	default:
		d.order = append(d.order, id)
	}
	p.meta = bytes.Clone(p.meta)
	d.dicts[id] = p
	return nil
}

const maxDictionaries = 1 << 12

// record makes the record of a message. Its arrays refer to the message's body without
// copying.
//
// Arrow's stream reader retains its last record until the next one is read, and leaks
// references if it fails. Therefore each record gets its own reader, and buffers whose
// memory can be reclaimed if the reader fails.
func (d *Decoder) record(p packet) (rec arrow.RecordBatch, err error) {
	var leases []*lease
	f := &feed{packets: []packet{d.prefix}}
	add := func(p packet) {
		l := &lease{body: p.body}
		leases = append(leases, l)
		p.body.Retain()
		f.packets = append(f.packets, packet{meta: p.meta, body: memory.NewBufferWithAllocator(p.body.Bytes(), l)})
	}
	for _, id := range d.order {
		add(d.dicts[id])
	}
	add(p)
	p.body.Release()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
		for i := range f.packets[1:] {
			f.packets[i+1].body.Release()
		}
		if err != nil {
			rec = nil
			err = invalid("malformed record: %w", err)
			for _, l := range leases {
				l.Free(nil)
			}
		}
	}()
	r, err := ipc.NewReaderFromMessageReader(f, ipc.WithEnsureNativeEndian(false))
	if err != nil {
		return nil, err
	}
	defer r.Release()
	if !r.Next() {
		if err = r.Err(); err == nil {
			err = errors.New("a dictionary is missing")
		}
		return nil, err
	}
	got := r.RecordBatch()
	for i, c := range got.Columns() {
		if err := validate(c); err != nil {
			return nil, fmt.Errorf("column %q: %w", d.schema.Field(i).Name, err)
		}
		if int64(c.Len()) != got.NumRows() {
			return nil, fmt.Errorf("column %q has %d values, but the record has %d rows", d.schema.Field(i).Name, c.Len(), got.NumRows())
		}
		if !d.schema.Field(i).Nullable && c.NullN() > 0 {
			return nil, fmt.Errorf("column %q is not nullable but has %d NULLs", d.schema.Field(i).Name, c.NullN())
		}
	}
	return sources.WithSchema(got, d.schema), nil
}

// validate checks all offsets, indexes and counts of an array. Arrow's own check
// requires a buffer slot in arrays of type null, which Arrow's reader does not create;
// withSlot adds it.
func validate(a arrow.Array) error {
	if !hasNull(a.DataType()) {
		return array.ValidateFull(a)
	}
	data := withSlot(a.Data())
	defer data.Release()
	b := array.MakeFromData(data)
	defer b.Release()
	return array.ValidateFull(b)
}

func hasNull(t arrow.DataType) bool {
	switch t := t.(type) {
	case *arrow.NullType:
		return true
	case *arrow.DictionaryType:
		return hasNull(t.ValueType)
	case arrow.NestedType:
		return slices.ContainsFunc(t.Fields(), func(f arrow.Field) bool { return hasNull(f.Type) })
	}
	return false
}

// withSlot returns a copy of the data with the slots. The caller must release it.
func withSlot(d arrow.ArrayData) arrow.ArrayData {
	if sources.ValueType(d.DataType()).ID() == arrow.NULL {
		return array.NewData(d.DataType(), d.Len(), []*memory.Buffer{nil}, nil, d.NullN(), d.Offset())
	}
	children := make([]arrow.ArrayData, len(d.Children()))
	for i, c := range d.Children() {
		children[i] = withSlot(c)
		defer children[i].Release()
	}
	if dict, ok := d.Dictionary().(*array.Data); ok && dict != nil {
		return array.NewDataWithDictionary(d.DataType(), d.Len(), d.Buffers(), d.NullN(), d.Offset(), dict)
	}
	return array.NewData(d.DataType(), d.Len(), d.Buffers(), children, d.NullN(), d.Offset())
}

// lease is a reference of a record to a body. As the allocator of a buffer, it learns
// when the buffer is freed. It can also be ended early.
type lease struct {
	body *memory.Buffer
	once sync.Once
}

func (l *lease) Allocate(int) []byte           { panic("a lease allocates nothing") }
func (l *lease) Reallocate(int, []byte) []byte { panic("a lease allocates nothing") }
func (l *lease) Free([]byte)                   { l.once.Do(l.body.Release) }

// feed passes prepared messages to Arrow's reader.
type feed struct {
	packets []packet
	next    int
	last    *ipc.Message
}

func (f *feed) Message() (*ipc.Message, error) {
	f.Release()
	if f.next == len(f.packets) {
		return nil, io.EOF
	}
	p := f.packets[f.next]
	f.next++
	f.last = ipc.NewMessage(memory.NewBufferBytes(p.meta), p.body)
	return f.last, nil
}

func (f *feed) Retain() {}

func (f *feed) Release() {
	if f.last != nil {
		f.last.Release()
		f.last = nil
	}
}
