package csv

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/penstock-data/penstock/internal/fsync"
)

// errBadIndex is the error for a file that is not a complete index of this version, or
// that the disk has changed. The index is made again.
var errBadIndex = errors.New("the index is damaged")

// The first page of an index file has a magic string with a version, the key of the
// index, whether it is sparse, and the number of entries. The pages with the entries
// follow. Numbers are little endian.
const (
	indexMagic = "penstock csv index 2\n"
	keyAt      = len(indexMagic)
	sparseAt   = keyAt + len(indexKey{})
	entriesAt  = sparseAt + 1
)

// indexKey identifies what an index was made of: a hash of the files' state, of how
// they are read, and of the columns. It is zero for an index that is not stored.
type indexKey [32]byte

// seed returns the seed of the checksums in the file of the index.
func (k indexKey) seed() uint64 { return binary.LittleEndian.Uint64(k[:]) }

// indexFile is an index on disk. It is not safe for concurrent use.
type indexFile struct {
	file    *os.File
	remove  bool // remove the file when it is closed
	seed    uint64
	sparse  bool
	entries int64

	page   indexPage // the page read last
	number int64     // its number in the file; 0 if there is none
}

// openIndex opens a stored index. It returns errBadIndex if the file is not an index
// with that key, and a *[fs.PathError] if it cannot be opened.
func openIndex(name string, key indexKey) (*indexFile, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|openWithoutWaiting, 0)
	if err != nil {
		return nil, err
	}
	x := &indexFile{file: f, seed: key.seed()}
	if !x.readHead(key) {
		return nil, errors.Join(errBadIndex, f.Close())
	}
	return x, nil
}

// readHead reads the first page, and reports whether it is that of a complete index.
func (x *indexFile) readHead(key indexKey) bool {
	var head indexPage
	info, err := x.file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	if _, err := x.file.ReadAt(head[:], 0); err != nil || !head.isSealed(x.seed, 0) {
		return false
	}
	x.sparse, x.entries = head[sparseAt] == 1, int64(binary.LittleEndian.Uint64(head[entriesAt:]))
	return string(head[:keyAt]) == indexMagic && indexKey(head[keyAt:sparseAt]) == key &&
		x.entries >= 0 && x.entries < info.Size() && info.Size() == (1+pagesFor(x.entries))*int64(pageBytes)
}

func (x *indexFile) close() error {
	err := x.file.Close()
	if x.remove {
		err = errors.Join(err, os.Remove(x.file.Name()))
	}
	return err
}

// entry returns the entry at index i. The error is errBadIndex if it cannot be read as
// it was written.
func (x *indexFile) entry(i int64) (indexEntry, error) {
	if number := 1 + i/pageEntries; number != x.number {
		x.number = 0
		if _, err := x.file.ReadAt(x.page[:], number*int64(pageBytes)); err != nil {
			return indexEntry{}, fmt.Errorf("%w: %w", errBadIndex, err)
		}
		if !x.page.isSealed(x.seed, number) {
			return indexEntry{}, fmt.Errorf("%w: %s: page %d has another checksum", errBadIndex, x.file.Name(), number)
		}
		x.number = number
	}
	return x.page.entry(int(i % pageEntries)), nil
}

// indexWriter writes an index file under a temporary name until it is complete.
type indexWriter struct {
	file    *os.File
	out     *bufio.Writer
	key     indexKey
	sparse  bool
	entries int64
	page    indexPage
}

func newIndexFile(dir string, key indexKey, sparse bool) (*indexWriter, error) {
	f, err := os.CreateTemp(dir, "penstock-*.partial")
	if err != nil {
		return nil, err
	}
	w := &indexWriter{file: f, out: bufio.NewWriterSize(f, 64<<10), key: key, sparse: sparse}
	_, _ = w.out.Write(w.page[:]) // finish writes the first page, and checks the writer's error
	return w, nil
}

func (w *indexWriter) add(e indexEntry) {
	w.page.setEntry(int(w.entries%pageEntries), e)
	if w.entries++; w.entries%pageEntries == 0 {
		w.endPage()
	}
}

// endPage writes the page with the last entry.
func (w *indexWriter) endPage() {
	w.page.seal(w.key.seed(), pagesFor(w.entries))
	_, _ = w.out.Write(w.page[:]) // finish checks the writer's error
	w.page = indexPage{}
}

// finish completes the file and renames it. Both are on the disk then. Without a name,
// the file is removed when it is closed.
func (w *indexWriter) finish(name string) (*indexFile, error) {
	if w.entries%pageEntries > 0 {
		w.endPage()
	}
	head := &w.page
	*head = indexPage{}
	copy(head[:], indexMagic)
	copy(head[keyAt:], w.key[:])
	head[sparseAt] = byte(boolToInt(w.sparse))
	binary.LittleEndian.PutUint64(head[entriesAt:], uint64(w.entries))
	head.seal(w.key.seed(), 0)
	err := w.out.Flush()
	if err == nil {
		_, err = w.file.WriteAt(head[:], 0)
	}
	if err == nil && name != "" {
		err = w.publish(name)
	}
	if err != nil {
		return nil, errors.Join(err, w.discard())
	}
	return &indexFile{file: w.file, remove: name == "", seed: w.key.seed(), sparse: w.sparse, entries: w.entries}, nil
}

// publish renames the file once its contents are on the disk: after a crash, the name
// leads to a complete index, or to none.
func (w *indexWriter) publish(name string) error {
	if err := w.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(w.file.Name(), name); err != nil {
		return err
	}
	return fsync.Dir(filepath.Dir(name))
}

// discard closes and removes the unfinished file.
func (w *indexWriter) discard() error {
	err := os.Remove(w.file.Name())
	if errors.Is(err, os.ErrNotExist) { // it was renamed
		err = nil
	}
	return errors.Join(w.file.Close(), err)
}
