package csv

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"unsafe"

	"github.com/penstock-data/penstock/sources"
)

// stream is what can be read once, as standard input: by the catalogue, which
// looks at its first records, and then by one scan, which gets these again.
type stream struct {
	in io.Reader

	mu    sync.Mutex
	head  bytes.Buffer // what was read for the catalogue
	known bool         // the catalogue is made
	taken bool         // a scan has begun
}

// newStream makes a source of one table, stdin.
func newStream(in io.Reader, o Options) (sources.Source, error) {
	s, d, err := bare(o)
	if err != nil {
		return nil, err
	}
	s.stdin = &stream{in: in}
	table := "stdin"
	if o.Table != "" {
		table = o.Table
	}
	s.files = []described{{table: table, names: []string{"stdin"}, dialect: d}}
	return s, nil
}

// open returns the stream from its beginning. What the first call's reader reads
// is kept for the second's, and then for nobody.
func (s *stream) open(ctx context.Context, d dialect) (*input, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.taken:
		return nil, &sources.Error{Kind: sources.Invalid, Err: errors.New("standard input can be read once: write it to a file to read it again")}
	case s.known:
		s.taken = true
		return newInput(ctx, streamFile{io.MultiReader(&s.head, s.in)}, "stdin", d)
	}
	s.known = true
	return newInput(ctx, streamFile{io.TeeReader(s.in, &s.head)}, "stdin", d)
}

// streamFile is a reader as a file that nobody closes.
type streamFile struct{ io.Reader }

func (streamFile) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }
func (streamFile) Close() error               { return nil }

// view is a text as a string, valid as long as its bytes are.
func view(text []byte) string { return unsafe.String(unsafe.SliceData(text), len(text)) }
