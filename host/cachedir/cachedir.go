// Package cachedir keeps the answers of a cache in a directory, for processes that
// come later. [Open] returns the store for host.Cache.Store or
// core.CacheOptions.Store:
//
//	store, err := cachedir.Open("/var/cache/app", cachedir.Options{Logger: logger})
//	...
//	h, err := host.New(host.Options{Cache: &host.Cache{Store: store}, ...})
package cachedir

import (
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// DefaultBytes is the default of [Options.Bytes].
const DefaultBytes = 1_000_000_000

// Options configures a directory. The zero value is ready to use.
type Options struct {
	// Bytes is the most that the directory holds, in bytes; 0 means [DefaultBytes].
	// Above that, the answers that were not used for longest are removed.
	Bytes int64
	// Logger receives what cannot be read or written; nil discards it.
	Logger *slog.Logger
}

// Dir is a directory of answers: a [cache.Store] with one file for each answer,
// named by the fingerprint of its question. The files hold rows of the tables, so
// the directory should be readable by its owner alone.
//
// A Dir is safe for concurrent use, and several processes may share a directory: a
// file appears as a whole, and a missing one is only a miss. Files carry a
// checksum; a damaged one is removed and logged. The times of the files tell which
// were used last. Files with other names are left alone.
type Dir struct {
	dir    string
	bytes  int64
	logger *slog.Logger
}

// Open returns the answers in a directory, and creates it for its owner alone if
// it does not exist.
func Open(dir string, o Options) (*Dir, error) {
	if o.Bytes == 0 {
		o.Bytes = DefaultBytes
	}
	if o.Bytes < 0 {
		return nil, sources.Errorf(sources.Invalid, "cache", "", "the size of the directory must not be negative (got Bytes %d)", o.Bytes)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, sources.NewError(sources.KindOf(err), "cache", "", err)
	}
	d, err := Find(dir, o.Logger)
	if err != nil {
		return nil, err
	}
	d.bytes = o.Bytes
	d.prune()
	return d, nil
}

// Find returns the answers in a directory that exists, to inspect or to remove
// them. It sets no limit, so that nothing is removed for its size.
func Find(dir string, logger *slog.Logger) (*Dir, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, sources.NewError(sources.KindOf(err), "cache", "", err)
	}
	return &Dir{dir: dir, bytes: math.MaxInt64, logger: logger}, nil
}

// Close does nothing: the directory keeps its files.
func (d *Dir) Close() error { return nil }

func (d *Dir) path(q query.Key) string {
	return filepath.Join(d.dir, q.Digest.String()+suffix)
}

// Save writes an answer. It logs what it cannot write.
func (d *Dir) Save(a *cache.Entry) {
	if err := d.save(a); err != nil {
		d.logger.Warn("could not save an answer in the cache directory", "table", a.Table, "error", err)
		return
	}
	d.prune()
}

// Load reads an answer. It checks the whole file before it gives the first page.
func (d *Dir) Load(q query.Key, schema *arrow.Schema, give func(sources.Batch) bool) *cache.Entry {
	path := d.path(q)
	a, err := d.load(path, q, schema, give)
	switch {
	case err == nil:
		now := time.Now()
		_ = os.Chtimes(path, now, now) // another process may have removed it
		return a
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errEnough):
	case errors.Is(err, errExpired):
		d.remove(path)
	default:
		d.logger.Warn("removed a damaged file from the cache directory", "file", path, "error", err)
		d.remove(path)
	}
	return nil
}

func (d *Dir) remove(path string) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.logger.Warn("could not remove a file from the cache directory", "error", err)
	}
}

// Invalidate removes the answers of a table of a source: of every table if the
// name is empty, and of every source if the source is zero.
func (d *Dir) Invalidate(source query.Fingerprint, table string) {
	for _, f := range d.files() {
		if (source != query.Fingerprint{} || table != "") {
			l, err := peek(f.path)
			if err == nil && (source != query.Fingerprint{} && l.Source != source.String() || table != "" && l.Table != table) {
				continue
			}
		}
		d.remove(f.path)
	}
}

// answerFile is a file of the directory.
type answerFile struct {
	path  string
	bytes int64
	used  time.Time
}

// files returns the files of answers, the least recently used first. It also
// removes temporary files that were left behind.
func (d *Dir) files() []answerFile {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		d.logger.Warn("could not read the cache directory", "error", err)
		return nil
	}
	var files []answerFile
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		path := filepath.Join(d.dir, e.Name())
		if strings.HasPrefix(e.Name(), tempPrefix) && time.Since(info.ModTime()) > tempAge {
			d.remove(path)
		}
		key, ours := strings.CutSuffix(e.Name(), suffix)
		if _, ok := query.ParseFingerprint(key); ok && ours {
			files = append(files, answerFile{path: path, bytes: info.Size(), used: info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b answerFile) int { return cmp.Or(a.used.Compare(b.used), strings.Compare(a.path, b.path)) })
	return files
}

// prune removes the least recently used answers until the rest fits.
func (d *Dir) prune() {
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

// Stats reports what a directory holds. Its JSON names are stable.
type Stats struct {
	Dir     string `json:"dir"`
	Answers int    `json:"answers"`
	Expired int    `json:"expired"` // of Answers; removed when asked for or when room is needed
	Damaged int    `json:"damaged"` // of Answers; removed when asked for or when room is needed
	Bytes   int64  `json:"bytes"`
	// Tables counts the answers that are neither, by table name.
	Tables map[string]int `json:"tables"`
}

// Stats reads every file and reports what the directory holds.
func (d *Dir) Stats() Stats {
	s := Stats{Dir: d.dir, Tables: map[string]int{}}
	for _, f := range d.files() {
		l, err := inspect(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		s.Answers++
		s.Bytes += f.bytes
		switch {
		case err != nil:
			s.Damaged++
		case l.expired(time.Now()):
			s.Expired++
		default:
			s.Tables[l.Table]++
		}
	}
	return s
}
