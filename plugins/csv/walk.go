package csv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// A place in a table is its file's number and an offset in that file, in one
// number that grows from record to record.
const offsetBits = 44 // 16 TiB

func placeOf(file int, offset int64) int64 { return int64(file)<<offsetBits | offset }

func fileOf(place int64) int     { return int(place >> offsetBits) }
func offsetOf(place int64) int64 { return place & (1<<offsetBits - 1) }

// span are the records that begin in [from, to), two places of a table.
type span struct{ from, to int64 }

// everything is a whole table.
func (t *table) everything() span { return span{placeOf(0, t.files[0].start), math.MaxInt64} }

// walk reads the records of some spans of a table, one file after the other. It
// holds one file open.
type walk struct {
	ctx    context.Context
	source *source
	table  *table
	mem    memory.Allocator
	buffer int    // bytes to read at once
	spans  []span // in order, and disjoint

	file    int // the number of the open one
	input   *input
	scanner *scanner // nil until a file is open

	skipped sources.Skipped // since they were last taken
	places  int             // how many were ever shown
	counted counter         // lines, in the file that was last counted
	count   int             // that file's number, from 1; 0 is none
}

func (s *source) walk(ctx context.Context, t *table, mem memory.Allocator, buffer int, spans ...span) *walk {
	return &walk{ctx: ctx, source: s, table: t, mem: mem, buffer: buffer, spans: spans}
}

// close gives back the file and the buffer.
func (w *walk) close() {
	if w.scanner != nil {
		w.scanner.release()
		w.scanner = nil
	}
	w.closeFile()
}

func (w *walk) closeFile() {
	if w.input != nil {
		_ = w.input.Close() // nothing was written
		w.input = nil
	}
}

// at is the place where the next record begins.
func (w *walk) at() int64 { return placeOf(w.file, w.scanner.offset()) }

// start is the place of the record that was read last.
func (w *walk) start() int64 { return placeOf(w.file, w.scanner.start) }

// goTo opens the file of a place and goes there.
func (w *walk) goTo(place int64) error {
	file, offset := fileOf(place), offsetOf(place)
	if w.input != nil && file == w.file {
		if w.input.seekable && offset != w.scanner.offset() {
			ahead := offset - w.scanner.base
			if ahead >= 0 && ahead <= int64(w.scanner.filled) {
				w.scanner.from = int(ahead)
				return nil
			}
			w.scanner.reset(w.input.reader, offset)
			return w.input.seek(offset)
		}
		if offset >= w.scanner.offset() {
			return w.scanner.discard(offset)
		}
	}
	w.closeFile()
	input, err := w.source.openFile(w.ctx, &w.table.files[file], w.table.dialect)
	if err != nil {
		return err
	}
	w.file, w.input = file, input
	if w.scanner == nil {
		w.scanner = newScanner(nil, w.table.files[file].name, w.table.dialect, w.buffer, w.mem)
		w.scanner.blank = w.table.width == 1
		w.scanner.columns = w.table.width + 1
	}
	w.scanner.name, w.scanner.ahead = w.table.files[file].name, w.scanner.room()
	if input.seekable {
		w.scanner.ahead = min(w.buffer, w.scanner.room())
	}
	w.scanner.lines = nil
	if w.table.files[file].stream != nil {
		w.scanner.lines = &counter{}
	}
	w.scanner.reset(input.reader, input.from)
	if input.seekable {
		w.scanner.base = offset
		return input.seek(offset)
	}
	return w.scanner.discard(offset)
}

// next reads the next record, which has as many fields as the table columns, and
// reports whether there was one.
func (w *walk) next() (bool, error) {
	for len(w.spans) > 0 {
		s := &w.spans[0]
		switch {
		case w.input == nil || w.at() < s.from:
			if err := w.goTo(s.from); err != nil {
				return false, err
			}
		case w.at() >= s.to:
			w.spans = w.spans[1:]
			continue
		}
		more, err := w.scanner.next()
		if err == nil && more {
			if w.start() >= s.to { // there was nothing but empty lines before it
				w.spans = w.spans[1:]
				w.scanner.from = int(w.scanner.start - w.scanner.base)
				continue
			}
			err = w.fits()
		}
		if err != nil {
			if err = w.skip(err); err != nil {
				return false, err
			}
			continue
		}
		if more {
			return true, nil
		}
		if next := w.file + 1; next < len(w.table.files) && placeOf(next, 0) < s.to {
			s.from = placeOf(next, w.table.files[next].start)
			w.closeFile()
		} else {
			w.spans = w.spans[1:]
		}
	}
	return false, nil
}

// fits refuses a record that has more or fewer fields than the table columns.
func (w *walk) fits() error {
	s, want := w.scanner, w.table.width
	if s.count == want {
		return nil
	}
	at := s.cells[min(want, len(s.cells)-1)]
	place := at.from
	if at.quoted {
		place--
	}
	return s.wrong(place, "the record has %d fields, the table %d columns", s.count, want)
}

// skip takes note of a record that cannot be read, where such are left out, and
// goes behind it. Else, and for every other error, it returns the error.
func (w *walk) skip(err error) error {
	var f *fault
	if !errors.As(err, &f) {
		return err
	}
	if !w.source.options.SkipBad {
		if err := w.locate(f); err != nil {
			return err
		}
		return f.with("on_error=skip leaves such records out")
	}
	if w.skipped.Records++; w.places < sources.MaxSkippedLocations {
		if err := w.locate(f); err != nil {
			return err
		}
		w.places++
		w.skipped.Locations = append(w.skipped.Locations, f.place())
	}
	if f.resync < 0 {
		return nil
	}
	if err := w.scanner.discard(f.resync); err != nil {
		return err
	}
	return w.scanner.skipLine()
}

// takeSkipped returns what was left out since the last call.
func (w *walk) takeSkipped() sources.Skipped {
	s := w.skipped
	w.skipped = sources.Skipped{}
	return s
}

// locate counts the lines before a fault. Faults of one walk come in order, so
// nothing is counted twice.
func (w *walk) locate(f *fault) error {
	if w.scanner != nil && w.scanner.lines != nil {
		w.scanner.locate(f)
		return nil
	}
	if w.count != w.file+1 || w.counted.offset > f.offset {
		w.count, w.counted = w.file+1, counter{}
	}
	input, err := w.source.openFile(w.ctx, &w.table.files[w.file], w.table.dialect)
	if err != nil {
		return err
	}
	defer input.Close()
	if w.counted.offset == 0 {
		w.counted.offset, w.counted.lineStart = input.from, input.from
	}
	if input.seekable {
		err = input.seek(w.counted.offset)
	} else {
		err = copyTo(input.reader, w.counted.offset-input.from, func([]byte) {})
	}
	if err == nil {
		err = copyTo(input.reader, f.offset-w.counted.offset, w.counted.count)
	}
	f.line, f.column = w.counted.line+1, int(f.offset-w.counted.lineStart)+1
	return err
}

// openFile opens one of a table's files, which must be as it was when the
// table's columns were found.
func (s *source) openFile(ctx context.Context, f *tableFile, d dialect) (*input, error) {
	if f.stream != nil {
		return f.stream.open(ctx, d)
	}
	file, err := s.fsys.Open(f.name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && identity(info) != f.identity {
		err = &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("%s has changed since it was opened: open it again", f.name)}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return newInput(ctx, file, f.name, d)
}

// identity tells a file from what it was before it was changed.
func identity(info fs.FileInfo) string {
	return fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano())
}
