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

// errNoIndex says that a file is not an index of this version, or not whole.
var errNoIndex = errors.New("this is not an index")

// The head of an index file: a magic with a version, whether it is sparse, and
// the number of entries. What follows are the entries, rank and place, in little
// endian.
const (
	indexMagic = "penstock csv index 1\n"
	indexHead  = len(indexMagic) + 1 + 8
)

// indexFile is an index on a disk. One scan reads it at a time.
type indexFile struct {
	file    *os.File
	remove  bool // when it is closed: nobody else is to read it
	sparse  bool
	entries int64

	block [4096]byte // entries that were read last
	from  int64      // the number of the first one; valid where read > 0
	read  int64
}

// openIndex opens an index that was kept.
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
		err = errNoIndex
	}
	x := &indexFile{file: f, sparse: head[len(indexMagic)] == 1, entries: int64(binary.LittleEndian.Uint64(head[len(indexMagic)+1:]))}
	if err == nil && (x.entries < 0 || info.Size() != int64(indexHead)+x.entries*entryBytes) {
		err = errNoIndex
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errNoIndex
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

// entry returns an entry by its number.
func (x *indexFile) entry(i int64) (entry, error) {
	if i < x.from || i >= x.from+x.read {
		most := int64(len(x.block)) / entryBytes
		from := i / most * most
		n := min(most, x.entries-from)
		if _, err := x.file.ReadAt(x.block[:n*entryBytes], int64(indexHead)+from*entryBytes); err != nil {
			x.read = 0
			return entry{}, fmt.Errorf("the index %s: %w", x.file.Name(), err)
		}
		x.from, x.read = from, n
	}
	b := x.block[(i-x.from)*entryBytes:]
	return entry{binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:]))}, nil
}

// indexWriter writes an index file under a name of its own, until it is whole.
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
	_, _ = w.out.Write(make([]byte, indexHead)) // finish looks at the writer's error
	return w, nil
}

func (w *indexWriter) add(e entry) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], e.rank)
	binary.LittleEndian.PutUint64(b[8:], uint64(e.at))
	_, _ = w.out.Write(b[:]) // finish looks at the writer's error
	w.entries++
}

// finish gives the file its name, or without one makes it vanish when it is
// closed.
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
		return nil, errors.Join(err, w.drop())
	}
	return &indexFile{file: w.file, remove: name == "", sparse: w.sparse, entries: w.entries}, nil
}

// drop removes what is not finished.
func (w *indexWriter) drop() error { return errors.Join(w.file.Close(), os.Remove(w.file.Name())) }

// runs are sorted entries in a file, one run behind the other.
type runs struct {
	file *os.File
	ends []int64 // of each run, in bytes
}

func newRuns(dir string) (*runs, error) {
	f, err := os.CreateTemp(dir, "penstock-*.runs")
	if err != nil {
		return nil, err
	}
	return &runs{file: f}, nil
}

func (r *runs) close() error { return errors.Join(r.file.Close(), os.Remove(r.file.Name())) }

func (r *runs) write(entries []entry) error {
	out := bufio.NewWriterSize(r.file, 64<<10)
	var b [16]byte
	for _, e := range entries {
		binary.LittleEndian.PutUint64(b[:], e.rank)
		binary.LittleEndian.PutUint64(b[8:], uint64(e.at))
		if _, err := out.Write(b[:]); err != nil {
			return err
		}
	}
	end := int64(len(entries)) * entryBytes
	if n := len(r.ends); n > 0 {
		end += r.ends[n-1]
	}
	r.ends = append(r.ends, end)
	return out.Flush()
}

// runBuffer is how many bytes of each run are in memory while they are merged.
const runBuffer = 8 << 10

// merge yields the entries of all runs in order.
func (r *runs) merge(mem memory.Allocator, yield func(entry)) error {
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

// run is one of the runs that are merged.
type run struct {
	file      *os.File
	next, end int64 // what is not read yet
	buf       []byte
	from      int // in buf
	read      int // bytes in buf behind from
	head      entry
}

// advance reads the next entry, which there is.
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
	r.head = entry{binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:]))}
	r.from += int(entryBytes)
	r.read -= int(entryBytes)
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
