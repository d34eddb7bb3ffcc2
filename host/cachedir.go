package host

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/klauspost/compress/zstd"

	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// DefaultCacheDirBytes is how much a cache's directory holds when nobody says
// otherwise.
const DefaultCacheDirBytes = 1_000_000_000

// CacheDir keeps answers in a directory, for processes that come later: a file
// each, named by the fingerprint of its question. It is a [cache.Store].
//
// Several processes may have the same directory: a file appears whole or not at
// all, and nobody minds if one is gone. Which was not asked for the longest is
// seen by the files' times. A file that is not what its name says is removed, and
// told to the logger. Files with other names are left alone.
type CacheDir struct {
	dir    string
	bytes  int64
	logger *slog.Logger
}

// OpenCacheDir returns the cache of a directory, which is made where it does not
// exist, for its owner alone. It holds so many bytes at most; 0 is
// [DefaultCacheDirBytes]. The logger may be nil.
func OpenCacheDir(dir string, bytes int64, logger *slog.Logger) (*CacheDir, error) {
	if bytes == 0 {
		bytes = DefaultCacheDirBytes
	}
	if bytes < 0 {
		return nil, &sources.Error{Op: "cache", Kind: sources.Invalid, Err: fmt.Errorf("a directory of %d bytes", bytes)}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &sources.Error{Op: "cache", Kind: sources.KindOf(err), Err: err}
	}
	d, err := FindCacheDir(dir, logger)
	if err != nil {
		return nil, err
	}
	d.bytes = bytes
	d.prune()
	return d, nil
}

// FindCacheDir returns the cache of a directory that exists, to look at it or to
// empty it: nothing is removed that nobody asked for.
func FindCacheDir(dir string, logger *slog.Logger) (*CacheDir, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, &sources.Error{Op: "cache", Kind: sources.KindOf(err), Err: err}
	}
	return &CacheDir{dir: dir, bytes: math.MaxInt64, logger: logger}, nil
}

// Close does nothing: the directory stays.
func (d *CacheDir) Close() error { return nil }

// A file is the magic line, the SHA-256 of all that follows, the length of the
// label in four bytes, the label as JSON, and the pages: one Arrow IPC stream as
// a whole in zstd.
const (
	cacheMagic  = "penstock answer 1\n"
	cacheSuffix = ".penstock"
	// cacheTemp begins the names of files that are being written. One that is an
	// hour old was left by a process that is no more.
	cacheTemp    = ".writing-"
	cacheTempAge = time.Hour
	mostLabel    = 16 << 20
)

// label is what a file says of itself before its pages.
type label struct {
	Key     string      `json:"key"`
	Source  string      `json:"source"`
	Table   string      `json:"table"`
	Version string      `json:"version,omitempty"`
	Asked   time.Time   `json:"asked"`
	Expires time.Time   `json:"expires"`
	Pages   []pageLabel `json:"pages"`
}

type pageLabel struct {
	Cursor  []byte   `json:"cursor,omitempty"`
	Skipped int64    `json:"skipped,omitempty"`
	First   []string `json:"skipped_first,omitempty"`
}

func (d *CacheDir) path(q query.Key) string {
	return filepath.Join(d.dir, q.Digest.String()+cacheSuffix)
}

// Save writes an answer. What cannot be written is told to the logger.
func (d *CacheDir) Save(a *cache.Entry) {
	if err := d.save(a); err != nil {
		d.logger.Warn("an answer could not be kept in the cache's directory", "table", a.Table, "error", err)
		return
	}
	d.prune()
}

func (d *CacheDir) save(a *cache.Entry) (err error) {
	file, err := os.CreateTemp(d.dir, cacheTemp)
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
	if _, err := file.Write(append([]byte(cacheMagic), make([]byte, sha256.Size)...)); err != nil {
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
	if _, err := file.WriteAt(sum.Sum(nil), int64(len(cacheMagic))); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), d.path(a.Key))
}

// errExpired is no fault of a file.
var errExpired = errors.New("the answer has expired")

// Load reads an answer, and checks the whole file before it gives a page of it.
func (d *CacheDir) Load(q query.Key, schema *arrow.Schema, give func(sources.Batch) bool) *cache.Entry {
	path := d.path(q)
	a, err := d.load(path, q, schema, give)
	switch {
	case err == nil:
		now := time.Now()
		_ = os.Chtimes(path, now, now) // it may be gone: others tidy up too
		return a
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errEnough):
	case errors.Is(err, errExpired):
		d.remove(path)
	default:
		d.logger.Warn("a file of the cache's directory is damaged, and was removed", "file", path, "error", err)
		d.remove(path)
	}
	return nil
}

// errEnough says that no more pages were wanted.
var errEnough = errors.New("no more pages were wanted")

func (d *CacheDir) load(path string, q query.Key, schema *arrow.Schema, give func(sources.Batch) bool) (*cache.Entry, error) {
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
		return nil, errors.New("it answers another question than its name says")
	case !time.Now().Before(l.Expires):
		return nil, errExpired
	}
	unpacker, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	defer unpacker.Close()
	pages, err := ipc.NewReader(unpacker, ipc.WithAllocator(memory.DefaultAllocator), ipc.WithDelayReadSchema(false))
	if err != nil {
		return nil, err
	}
	defer pages.Release()
	if !pages.Schema().Equal(schema) {
		return nil, errors.New("its columns are others than the table's")
	}
	n := 0
	for ; pages.Next(); n++ {
		if n == len(l.Pages) {
			return nil, errors.New("it has more pages than it says")
		}
		p := l.Pages[n]
		page := sources.Batch{Record: pages.RecordBatch(), Cursor: p.Cursor, Skipped: sources.Skipped{Records: p.Skipped, Locations: p.First}}
		if !give(page) {
			return nil, errEnough
		}
	}
	if err := pages.Err(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n != len(l.Pages) {
		return nil, errors.New("it has fewer pages than it says")
	}
	return &cache.Entry{Key: q, Version: l.Version, At: l.Asked, Expires: l.Expires, Schema: schema}, nil
}

// verify checks the sum of all that follows it, and leaves the file there.
func verify(file *os.File) error {
	head := make([]byte, len(cacheMagic)+sha256.Size)
	if _, err := io.ReadFull(file, head); err != nil {
		return fmt.Errorf("its head: %w", err)
	}
	if string(head[:len(cacheMagic)]) != cacheMagic {
		return errors.New("it does not begin as an answer does")
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if string(sum.Sum(nil)) != string(head[len(cacheMagic):]) {
		return errors.New("its bytes have another sum than it says")
	}
	_, err := file.Seek(int64(len(head)), io.SeekStart)
	return err
}

// readLabel reads the label of a file that is open behind the sum.
func readLabel(file io.Reader) (l label, err error) {
	var size [4]byte
	if _, err := io.ReadFull(file, size[:]); err != nil {
		return l, fmt.Errorf("its label: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > mostLabel {
		return l, fmt.Errorf("its label has %d bytes", n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(file, text); err != nil {
		return l, fmt.Errorf("its label: %w", err)
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("its label: %w", err)
	}
	return l, nil
}

func (d *CacheDir) remove(path string) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.logger.Warn("a file of the cache's directory could not be removed", "error", err)
	}
}

// Invalidate removes the answers of a table of a source; of every table where
// the name is empty, of every source where the source is zero.
func (d *CacheDir) Invalidate(source query.Fingerprint, table string) {
	for _, f := range d.files() {
		if (source != query.Fingerprint{} || table != "") {
			l, err := d.peek(f.path)
			if err == nil && (source != query.Fingerprint{} && l.Source != source.String() || table != "" && l.Table != table) {
				continue
			}
		}
		d.remove(f.path)
	}
}

// peek reads the label of a file, unchecked.
func (d *CacheDir) peek(path string) (label, error) {
	file, err := os.Open(path)
	if err != nil {
		return label{}, err
	}
	defer file.Close()
	if _, err := file.Seek(int64(len(cacheMagic)+sha256.Size), io.SeekStart); err != nil {
		return label{}, err
	}
	return readLabel(file)
}

// cacheFile is a file of the directory.
type cacheFile struct {
	path  string
	bytes int64
	used  time.Time
}

// files are the answers, the one that was not used for the longest first.
func (d *CacheDir) files() []cacheFile {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		d.logger.Warn("the cache's directory could not be read", "error", err)
		return nil
	}
	var files []cacheFile
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		path := filepath.Join(d.dir, e.Name())
		if strings.HasPrefix(e.Name(), cacheTemp) && time.Since(info.ModTime()) > cacheTempAge {
			d.remove(path)
		}
		key, ours := strings.CutSuffix(e.Name(), cacheSuffix)
		if _, ok := query.ParseFingerprint(key); ok && ours {
			files = append(files, cacheFile{path: path, bytes: info.Size(), used: info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b cacheFile) int { return cmp.Or(a.used.Compare(b.used), strings.Compare(a.path, b.path)) })
	return files
}

// prune removes what was not used for the longest, until the rest fits.
func (d *CacheDir) prune() {
	files := d.files()
	total := int64(0)
	for _, f := range files {
		total += f.bytes
	}
	for _, f := range files {
		if total <= d.bytes {
			return
		}
		d.remove(f.path)
		total -= f.bytes
	}
}

// CacheDirStats is what a cache's directory holds. Its JSON names are stable.
type CacheDirStats struct {
	Dir     string `json:"dir"`
	Answers int    `json:"answers"`
	Expired int    `json:"expired"` // of those; they are removed when they are asked for, or when room is needed
	Damaged int    `json:"damaged"` // of those, too
	Bytes   int64  `json:"bytes"`
	// Tables has the answers that are good, by their tables' names.
	Tables map[string]int `json:"tables"`
}

// Stats looks at every file.
func (d *CacheDir) Stats() CacheDirStats {
	s := CacheDirStats{Dir: d.dir, Tables: map[string]int{}}
	for _, f := range d.files() {
		l, err := d.inspect(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		s.Answers++
		s.Bytes += f.bytes
		switch {
		case err != nil:
			s.Damaged++
		case !time.Now().Before(l.Expires):
			s.Expired++
		default:
			s.Tables[l.Table]++
		}
	}
	return s
}

func (d *CacheDir) inspect(path string) (label, error) {
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
