package cachedir

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/klauspost/compress/zstd"

	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// A file consists of the magic line, the SHA-256 of everything after it, the length
// of the label in four bytes, the label as JSON, and the pages as one Arrow IPC
// stream compressed with zstd.
const (
	magic  = "penstock answer 1\n"
	suffix = ".penstock"
	// tempPrefix begins the names of files that are being written. A process that
	// was killed leaves its file behind; after tempAge it is removed.
	tempPrefix = ".writing-"
	tempAge    = time.Hour
	maxLabel   = 16 << 20
	maxPage    = 4 << 30
)

// label describes the answer in a file.
type label struct {
	Key     string      `json:"key"`
	Source  string      `json:"source"`
	Table   string      `json:"table"`
	Version string      `json:"version,omitempty"`
	Asked   time.Time   `json:"asked"`
	Expires time.Time   `json:"expires"`
	Pages   []pageLabel `json:"pages"`
}

// expired reports whether the answer is too old. It also is if it was asked for in
// the future: the clock was set back since, so that nobody knows how old it is.
func (l *label) expired(now time.Time) bool {
	return !now.Before(l.Expires) || now.Before(l.Asked)
}

type pageLabel struct {
	Cursor  []byte   `json:"cursor,omitempty"`
	Skipped int64    `json:"skipped,omitempty"`
	First   []string `json:"skipped_first,omitempty"`
}

func (d *Dir) save(a *cache.Entry) (err error) {
	file, err := os.CreateTemp(d.dir, tempPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(file.Name()))
		}
	}()
	l := label{Key: a.Digest.String(), Source: a.Source.String(), Table: a.Table, Version: a.Version, Asked: a.At, Expires: a.Expires}
	for _, p := range a.Pages {
		l.Pages = append(l.Pages, pageLabel{Cursor: p.Cursor, Skipped: p.Skipped.Records, First: p.Skipped.Locations})
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := file.Write(append([]byte(magic), make([]byte, sha256.Size)...)); err != nil {
		return err
	}
	sum := sha256.New()
	w := io.MultiWriter(file, sum)
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)); err != nil {
		return err
	}
	packer, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	pages := ipc.NewWriter(packer, ipc.WithSchema(a.Schema), ipc.WithAllocator(memory.DefaultAllocator))
	for _, p := range a.Pages {
		err = errors.Join(err, pages.Write(p.Record))
	}
	if err := errors.Join(err, pages.Close(), packer.Close()); err != nil {
		return err
	}
	if _, err := file.WriteAt(sum.Sum(nil), int64(len(magic))); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), d.path(a.Key))
}

// errExpired means that a file is as it should be, but too old.
var errExpired = errors.New("the answer has expired")

// errEnough means that the caller wanted no more pages.
var errEnough = errors.New("no more pages were wanted")

func (d *Dir) load(path string, q query.Key, schema *arrow.Schema, give func(sources.Batch) bool) (*cache.Entry, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := verify(file); err != nil {
		return nil, err
	}
	l, err := readLabel(file)
	if err != nil {
		return nil, err
	}
	switch {
	case l.Key != q.Digest.String() || l.Source != q.Source.String() || l.Table != q.Table:
		return nil, errors.New("the file answers another question than its name stands for")
	case l.expired(time.Now()):
		return nil, errExpired
	}
	unpacker, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	defer unpacker.Close()
	pages := wire.NewDecoder(memory.DefaultAllocator)
	defer pages.Release()
	n := 0
	for ; ; n++ {
		record, err := pages.ReadUnsized(unpacker, maxPage)
		if s := pages.Schema(); s != nil && !s.Equal(schema) {
			if err == nil {
				record.Release()
			}
			return nil, errors.New("the columns differ from those of the table")
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		enough, err := l.give(n, record, give)
		record.Release()
		switch {
		case err != nil:
			return nil, err
		case enough:
			return nil, errEnough
		}
	}
	if n != len(l.Pages) {
		return nil, errors.New("the file has fewer pages than its label")
	}
	return &cache.Entry{Key: q, Version: l.Version, At: l.Asked, Expires: l.Expires, Schema: schema}, nil
}

// give passes on the page with number n. enough tells that the caller wants no more.
func (l label) give(n int, record arrow.RecordBatch, to func(sources.Batch) bool) (enough bool, err error) {
	if n == len(l.Pages) {
		return false, errors.New("the file has more pages than its label")
	}
	p := l.Pages[n]
	page := sources.Batch{Record: record, Cursor: p.Cursor, Skipped: sources.Skipped{Records: p.Skipped, Locations: p.First}}
	return !to(page), nil
}

// verify checks the checksum of a file and leaves the file positioned after it.
func verify(file *os.File) error {
	head := make([]byte, len(magic)+sha256.Size)
	if _, err := io.ReadFull(file, head); err != nil {
		return fmt.Errorf("reading the checksum: %w", err)
	}
	if string(head[:len(magic)]) != magic {
		return errors.New("the file does not begin like an answer")
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if string(sum.Sum(nil)) != string(head[len(magic):]) {
		return errors.New("the checksum does not match")
	}
	_, err := file.Seek(int64(len(head)), io.SeekStart)
	return err
}

// readLabel reads the label of a file that is positioned after the checksum.
func readLabel(file io.Reader) (l label, err error) {
	var size [4]byte
	if _, err := io.ReadFull(file, size[:]); err != nil {
		return l, fmt.Errorf("reading the label: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxLabel {
		return l, fmt.Errorf("the label has %d bytes, more than any answer needs", n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(file, text); err != nil {
		return l, fmt.Errorf("reading the label: %w", err)
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("reading the label: %w", err)
	}
	return l, nil
}

// peek reads the label of a file without checking the file.
func peek(path string) (label, error) {
	file, err := os.Open(path)
	if err != nil {
		return label{}, err
	}
	defer file.Close()
	if _, err := file.Seek(int64(len(magic)+sha256.Size), io.SeekStart); err != nil {
		return label{}, err
	}
	return readLabel(file)
}

// inspect checks a file and reads its label.
func inspect(path string) (label, error) {
	file, err := os.Open(path)
	if err != nil {
		return label{}, err
	}
	defer file.Close()
	if err := verify(file); err != nil {
		return label{}, err
	}
	return readLabel(file)
}
