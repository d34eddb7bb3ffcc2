package csv

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// errBadIndex is the error for a file that is not a complete index of this version.
var errBadIndex = errors.New("not an index file")

// The header of an index file: a magic string with a version, whether the index is
// sparse, and the number of entries. The entries follow, as rank and position. All
// numbers are little endian.
const (
	indexMagic = "penstock csv index 1\n"
	indexHead  = len(indexMagic) + 1 + 8
)

// indexFile is an index on disk. It is not safe for concurrent use.
type indexFile struct {
	file    *os.File
	remove  bool // remove the file when it is closed
	sparse  bool
	entries int64

	block [4096]byte // the entries read last
	from  int64      // the index of the first of them
	read  int64
}

// openIndex opens a stored index.
func openIndex(name string) (*indexFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	head := make([]byte, indexHead)
	info, err := f.Stat()
	if err == nil {
		_, err = f.ReadAt(head, 0)
	}
	if err == nil && string(head[:len(indexMagic)]) != indexMagic {
		err = errBadIndex
	}
	x := &indexFile{file: f, sparse: head[len(indexMagic)] == 1, entries: int64(binary.LittleEndian.Uint64(head[len(indexMagic)+1:]))}
	if err == nil && (x.entries < 0 || info.Size() != int64(indexHead)+x.entries*indexEntryBytes) {
		err = errBadIndex
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errBadIndex
		}
		return nil, errors.Join(err, f.Close())
	}
	return x, nil
}

func (x *indexFile) close() error {
	err := x.file.Close()
	if x.remove {
		err = errors.Join(err, os.Remove(x.file.Name()))
	}
	return err
}

// entry returns the entry at index i.
func (x *indexFile) entry(i int64) (indexEntry, error) {
	if i < x.from || i >= x.from+x.read {
		most := int64(len(x.block)) / indexEntryBytes
		from := i / most * most
		n := min(most, x.entries-from)
		if _, err := x.file.ReadAt(x.block[:n*indexEntryBytes], int64(indexHead)+from*indexEntryBytes); err != nil {
			x.read = 0
			return indexEntry{}, fmt.Errorf("index %s: %w", x.file.Name(), err)
		}
		x.from, x.read = from, n
	}
	b := x.block[(i-x.from)*indexEntryBytes:]
	return indexEntry{binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:]))}, nil
}

// indexWriter writes an index file under a temporary name until it is complete.
type indexWriter struct {
	file    *os.File
	out     *bufio.Writer
	sparse  bool
	entries int64
}

func newIndexFile(dir string, sparse bool) (*indexWriter, error) {
	f, err := os.CreateTemp(dir, "penstock-*.partial")
	if err != nil {
		return nil, err
	}
	w := &indexWriter{file: f, out: bufio.NewWriterSize(f, 64<<10), sparse: sparse}
	_, _ = w.out.Write(make([]byte, indexHead)) // finish checks the writer's error
	return w, nil
}

func (w *indexWriter) add(e indexEntry) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], e.rank)
	binary.LittleEndian.PutUint64(b[8:], uint64(e.at))
	_, _ = w.out.Write(b[:]) // finish checks the writer's error
	w.entries++
}

// finish completes the file and renames it. Without a name, the file is removed when
// it is closed.
func (w *indexWriter) finish(name string) (*indexFile, error) {
	head := append([]byte(indexMagic), byte(boolToInt(w.sparse)))
	head = binary.LittleEndian.AppendUint64(head, uint64(w.entries))
	err := w.out.Flush()
	if err == nil {
		_, err = w.file.WriteAt(head, 0)
	}
	if err == nil && name != "" {
		err = os.Rename(w.file.Name(), name)
	}
	if err != nil {
		return nil, errors.Join(err, w.discard())
	}
	return &indexFile{file: w.file, remove: name == "", sparse: w.sparse, entries: w.entries}, nil
}

// discard closes and removes the unfinished file.
func (w *indexWriter) discard() error { return errors.Join(w.file.Close(), os.Remove(w.file.Name())) }

// sortedRuns holds runs of sorted entries in one file, one after the other.
type sortedRuns struct {
	file *os.File
	ends []int64 // the offset after each run
}

func newRuns(dir string) (*sortedRuns, error) {
	f, err := os.CreateTemp(dir, "penstock-*.runs")
	if err != nil {
		return nil, err
	}
	return &sortedRuns{file: f}, nil
}

func (r *sortedRuns) close() error { return errors.Join(r.file.Close(), os.Remove(r.file.Name())) }

func (r *sortedRuns) write(entries []indexEntry) error {
	out := bufio.NewWriterSize(r.file, 64<<10)
	var b [16]byte
	for _, e := range entries {
		binary.LittleEndian.PutUint64(b[:], e.rank)
		binary.LittleEndian.PutUint64(b[8:], uint64(e.at))
		if _, err := out.Write(b[:]); err != nil {
			return err
		}
	}
	end := int64(len(entries)) * indexEntryBytes
	if n := len(r.ends); n > 0 {
		end += r.ends[n-1]
	}
	r.ends = append(r.ends, end)
	return out.Flush()
}

// runBuffer is how many bytes of each run are buffered during a merge.
const runBuffer = 8 << 10

// merge calls yield for the entries of all runs in order.
func (r *sortedRuns) merge(mem memory.Allocator, yield func(indexEntry)) error {
	buffers := mem.Allocate(runBuffer * len(r.ends))
	defer mem.Free(buffers)
	var h runHeap
	from := int64(0)
	for i, end := range r.ends {
		run := &run{file: r.file, next: from, end: end, buf: buffers[i*runBuffer : (i+1)*runBuffer]}
		if from = end; run.end > run.next {
			if err := run.advance(); err != nil {
				return err
			}
			h = append(h, run)
		}
	}
	heap.Init(&h)
	for len(h) > 0 {
		first := h[0]
		yield(first.head)
		if first.read == 0 && first.next == first.end {
			heap.Pop(&h)
			continue
		}
		if err := first.advance(); err != nil {
			return err
		}
		heap.Fix(&h, 0)
	}
	return nil
}

// run is one of the runs of a merge.
type run struct {
	file      *os.File
	next, end int64 // the offsets of the unread part
	buf       []byte
	from      int // index in buf of the next entry
	read      int // bytes in buf after from
	head      indexEntry
}

// advance reads the next entry into head. There must be one.
func (r *run) advance() error {
	if r.read == 0 {
		n := int(min(int64(len(r.buf)), r.end-r.next))
		if _, err := r.file.ReadAt(r.buf[:n], r.next); err != nil {
			return err
		}
		r.from, r.read = 0, n
		r.next += int64(n)
	}
	b := r.buf[r.from:]
	r.head = indexEntry{binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:]))}
	r.from += int(indexEntryBytes)
	r.read -= int(indexEntryBytes)
	return nil
}

type runHeap []*run

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return compareEntries(h[i].head, h[j].head) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*run)) }
func (h *runHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
