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

// onePassInput is an input that can be read once, such as standard input. The catalog
// reads its first records, and one scan reads all of it.
type onePassInput struct {
	in io.Reader

	mu    sync.Mutex
	head  bytes.Buffer // what the catalog has read
	known bool         // the catalog has begun to read
	taken bool         // a scan has begun
}

// newStdinSource returns a source with one table, which is named stdin by default.
func newStdinSource(in io.Reader, o Options) (sources.Source, error) {
	s, d, err := newBareSource(o)
	if err != nil {
		return nil, err
	}
	if o.Sample == AllRecords {
		return nil, sources.Errorf(sources.Invalid, "", "", `option "sample": standard input can be read only once: write it to a file, or set sample=N`)
	}
	s.stdin = &onePassInput{in: in}
	table := "stdin"
	if o.Table != "" {
		table = o.Table
	}
	s.specs = []tableSpec{{table: table, fileNames: []string{"stdin"}, dialect: d}}
	return s, nil
}

// open returns the input from its beginning. The first call is that of the catalog:
// what its reader reads is kept for the reader of the second call, a scan.
func (s *onePassInput) open(ctx context.Context, d dialect) (*input, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.taken:
		return nil, sources.Errorf(sources.Invalid, "", "", "standard input can be read only once: write it to a file to read it again")
	case s.known:
		s.taken = true
		return newInput(ctx, onePassFile{io.MultiReader(&s.head, s.in)}, "stdin", d)
	}
	s.known = true
	return newInput(ctx, onePassFile{io.TeeReader(s.in, &s.head)}, "stdin", d)
}

// onePassFile is a file whose Close does nothing.
type onePassFile struct{ io.Reader }

func (onePassFile) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }
func (onePassFile) Close() error               { return nil }

// unsafeString returns text as a string without copying. It is valid as long as text is not
// modified.
func unsafeString(text []byte) string { return unsafe.String(unsafe.SliceData(text), len(text)) }
