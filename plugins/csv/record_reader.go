package csv

import (
	"context"
	"errors"
	"io"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// recordReader reads the records in some ranges of a table, one file after the
// other. It has at most one file open, and is for one goroutine.
type recordReader struct {
	ctx    context.Context
	source *source
	table  *table
	mem    memory.Allocator
	buffer int             // bytes to read at a time
	prefix *prefix         // takes what is read; may be nil
	spans  []positionRange // what is left to read, in order and disjoint

	file    int // the index of the open file
	input   *input
	scanner *scanner // nil until a file is open
	due     *dueTime // of the page that the records go to; nil if there is none

	skipped       sources.Skipped // since the last takeSkipped
	spare         []cell          // for scanner.arrange
	located       int             // how many of the skipped records have a location
	leftOut       int64           // all skipped records
	firstLeftOut  string          // the location of the first
	lineCount     lineCounter     // of the file lineCountFile
	lineCountFile int             // a file's index plus 1; 0 if no lines were counted
}

func (s *source) newRecordReader(ctx context.Context, t *table, mem memory.Allocator, buffer int, spans ...positionRange) *recordReader {
	return &recordReader{ctx: ctx, source: s, table: t, mem: mem, buffer: buffer, spans: spans}
}

// close closes the file and frees the buffer.
func (r *recordReader) close() {
	if r.scanner != nil {
		r.scanner.release()
		r.scanner = nil
	}
	r.closeFile()
}

func (r *recordReader) closeFile() {
	if r.input != nil {
		_ = r.input.Close() // nothing was written
		r.input = nil
	}
}

// nextPosition returns the position where the next record begins.
func (r *recordReader) nextPosition() int64 { return positionOf(r.file, r.scanner.offset()) }

// position returns the position of the record that was read last.
func (r *recordReader) position() int64 { return positionOf(r.file, r.scanner.start) }

// seek opens the file of a position and moves to that position.
func (r *recordReader) seek(position int64) error {
	file, offset := fileOf(position), offsetOf(position)
	if r.input != nil && file == r.file {
		if r.input.seekable && offset != r.scanner.offset() {
			ahead := offset - r.scanner.base
			if ahead >= 0 && ahead <= int64(r.scanner.filled) {
				r.scanner.from = int(ahead)
				return nil
			}
			r.scanner.reset(r.hashed(r.input.reader, offset), offset)
			return r.input.seek(offset)
		}
		if offset >= r.scanner.offset() {
			return r.scanner.discard(offset)
		}
	}
	r.closeFile()
	input, err := r.source.openFile(r.ctx, &r.table.files[file], r.table.dialect)
	if err != nil {
		return err
	}
	r.file, r.input = file, input
	if r.scanner == nil {
		r.scanner = newScanner(nil, r.table.files[file].name, r.table.dialect, r.buffer, r.mem)
		r.scanner.due = r.due
	}
	width := r.table.files[file].width
	r.scanner.blankIsRecord, r.scanner.columns = width == 1, width+1
	r.scanner.name, r.scanner.ahead = r.table.files[file].name, r.scanner.room()
	if input.seekable {
		r.scanner.ahead = min(r.buffer, r.scanner.room())
	}
	r.scanner.lines = nil
	if r.table.files[file].onePass != nil {
		r.scanner.lines = &lineCounter{}
	}
	if input.seekable {
		r.scanner.reset(r.hashed(input.reader, offset), offset)
		return input.seek(offset)
	}
	r.scanner.reset(r.hashed(input.reader, input.from), input.from)
	return r.scanner.discard(offset)
}

// hashed returns a reader of the open file from an offset, which adds what it reads to the
// prefix.
func (r *recordReader) hashed(in io.Reader, offset int64) io.Reader {
	if r.prefix == nil {
		return in
	}
	return &prefixReader{in, r.prefix, positionOf(r.file, offset)}
}

// next reads the next record and reports whether there was one. The record has as
// many fields as the table has columns. The error errDue means that next is to be
// called again once the page was handed on.
func (r *recordReader) next() (bool, error) {
	for len(r.spans) > 0 {
		s := &r.spans[0]
		switch {
		case r.input == nil || r.nextPosition() < s.from:
			if err := r.seek(s.from); err != nil {
				return false, err
			}
		case r.nextPosition() >= s.to:
			r.spans = r.spans[1:]
			continue
		}
		more, err := r.scanner.next()
		if err == nil && more {
			if r.position() >= s.to { // only empty lines were left in the range
				r.spans = r.spans[1:]
				r.scanner.from = int(r.scanner.start - r.scanner.base)
				continue
			}
			err = r.checkFieldCount()
		}
		if err != nil {
			if err = r.skipRecord(err); err != nil {
				return false, err
			}
			continue
		}
		if more {
			if fields := r.table.files[r.file].fields; fields != nil {
				r.spare = r.scanner.arrange(fields, r.spare)
			}
			return true, nil
		}
		if next := r.file + 1; next < len(r.table.files) && positionOf(next, 0) < s.to {
			s.from = positionOf(next, r.table.files[next].start)
			r.closeFile()
		} else {
			r.spans = r.spans[1:]
		}
	}
	return false, nil
}

// checkFieldCount returns an error if the record has more or fewer fields than the
// table has columns.
func (r *recordReader) checkFieldCount() error {
	s, want := r.scanner, r.table.files[r.file].width
	if s.count == want {
		return nil
	}
	at := s.cells[min(want, len(s.cells)-1)]
	of := "table"
	if r.table.files[r.file].fields != nil {
		of = "file"
	}
	return s.recordError(at.begin(), "", "the record has %s, but the %s has %s", counted(s.count, "field"), of, counted(want, "column"))
}

// skipRecord handles an error of reading a record. If the error is in the record
// and Options.SkipBad is set, skipRecord counts the record, moves past it, and
// returns nil. Otherwise it returns the error.
func (r *recordReader) skipRecord(err error) error {
	var e *ParseError
	if !errors.As(err, &e) {
		return err
	}
	if e.damaged || !r.source.options.SkipBad {
		r.source.adviseEncoding(r.ctx, r.table, &r.table.files[r.file], r.scanner, e)
	}
	if e.damaged {
		return r.locateDamage(e, err)
	}
	if !r.source.options.SkipBad {
		if err := r.locate(e); err != nil {
			return err
		}
		return e.with("set on_error=skip to leave such records out")
	}
	r.leftOut++
	if r.skipped.Records++; r.located < sources.MaxSkippedLocations {
		if err := r.locate(e); err != nil {
			return err
		}
		if r.located++; r.located == 1 {
			r.firstLeftOut = e.location()
		}
		r.skipped.Locations = append(r.skipped.Locations, e.location())
	}
	if e.resync < 0 {
		return nil
	}
	if err := r.scanner.discard(e.resync); err != nil {
		return err
	}
	return r.scanner.skipLine()
}

// locateDamage adds the line and the column to an error about bytes that cannot be
// decoded. It returns err, which wraps the error.
func (r *recordReader) locateDamage(e *ParseError, err error) error {
	if e.wrongEncoding && r.locate(e) != nil {
		e.Line, e.Column = 0, 0
	}
	return err
}

// takeSkipped returns the records left out since the last call.
func (r *recordReader) takeSkipped() sources.Skipped {
	s := r.skipped
	r.skipped = sources.Skipped{}
	return s
}

// locate sets the line and the column of an error by counting the lines before it.
// The errors of one reader come in order, so it counts no line twice.
func (r *recordReader) locate(e *ParseError) error {
	if r.scanner != nil && r.scanner.lines != nil {
		r.scanner.locate(e)
		return nil
	}
	if r.lineCountFile != r.file+1 || r.lineCount.offset > e.Offset {
		r.lineCountFile, r.lineCount = r.file+1, lineCounter{}
	}
	input, err := r.source.openFile(r.ctx, &r.table.files[r.file], r.table.dialect)
	if err != nil {
		return err
	}
	defer input.Close()
	if r.lineCount.offset == 0 {
		r.lineCount.offset, r.lineCount.lineStart = input.from, input.from
	}
	if input.seekable {
		err = input.seek(r.lineCount.offset)
	} else {
		err = copyTo(input.reader, r.lineCount.offset-input.from, func([]byte) {})
	}
	if err == nil {
		err = copyTo(input.reader, e.Offset-r.lineCount.offset, r.lineCount.count)
	}
	e.Line, e.Column = r.lineCount.line+1, int(e.Offset-r.lineCount.lineStart)+1
	return err
}

// openFile opens one of a table's files. It fails if the file has changed since the
// catalog was made.
func (s *source) openFile(ctx context.Context, f *tableFile, d dialect) (*input, error) {
	if f.onePass != nil {
		return f.onePass.open(ctx, d)
	}
	file, info, err := openRegular(s.fsys, f.name)
	if err != nil {
		return nil, err
	}
	if stateOf(info).contents() != f.state.contents() {
		err = sources.Errorf(sources.Unavailable, "", "", "%s has changed since the source was opened: open the source again", f.name)
		return nil, errors.Join(err, file.Close())
	}
	in, err := newInput(ctx, file, f.name, d)
	if err == nil {
		in.state = stateOf(info)
	}
	return in, err
}
