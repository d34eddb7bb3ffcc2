package csv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// How much is read to infer the types of columns.
const (
	// sampleBytes is the largest file that is read as a whole, in bytes as a scanner
	// counts them, and how much is read of a larger one.
	sampleBytes = 64 << 20
	// tableSampleBytes is how much is read of all files of a table, and
	// smallestSampleBytes of each of them even if that is more in the end.
	tableSampleBytes    = 1 << 30
	smallestSampleBytes = 1 << 20
	// Standard input is read up to as many records, and kept in memory for the scan.
	onePassRecords = 1000
	onePassBytes   = 16 << 20
	// sampleBlocks is how many blocks are read after the beginning of a larger file.
	sampleBlocks        = 128
	smallestSampleBlock = 32 << 10
	// blockTail is how far the last record of a block may reach beyond its end.
	blockTail = 256 << 10
)

// AllRecords is a value of [Options.Sample]: types are inferred from all records,
// however large a file is.
const AllRecords = -1

// fileSample is what reading a file for its columns and types found out. It is
// immutable, except for start and the guesses while it is made.
type fileSample struct {
	names     []string // from the header
	delimiter byte     // that the first line names; 0 if it names none
	start     int64    // the offset of the first record
	seekable  bool     // the file can be read from the middle
	guesses   []typeGuess
	records   int64  // that were read
	bytes     int64  // of these records
	whole     bool   // these are all records of the file
	basis     string // what was read of the file; empty if it was all
}

// sampleMemory allocates memory for reading headers and samples, which belong to no
// stream. A record that is too large for it ends the sample without an error; the
// scan reads that record in memory of its own.
type sampleMemory struct {
	memory.GoAllocator
	most int
}

const (
	maxHeader       = 4 << 20
	maxSampleRecord = 16 << 20
)

// Allocate panics with an [*sources.Error] if n is too large for a sample.
func (m *sampleMemory) Allocate(n int) []byte {
	if n > m.most+padding {
		panic(sources.Errorf(sources.Exhausted, "", "", "headers are limited to %d bytes", m.most))
	}
	return m.GoAllocator.Allocate(n)
}

// sampler reads the records of one file to infer types.
type sampler struct {
	source *source
	file   *tableFile
	input  *input
	in     *scanner
	guess  *recordGuesser
	budget int64 // how many bytes to read

	sample *fileSample
}

// run reads records from the first one on, and fills in the sample. An error in a record
// ends the sample. The scan reports it, since the records before it and the other
// tables are good. The error of run is that of reading.
func (p *sampler) run(ctx context.Context) error {
	o := &p.source.options
	most, until := int64(o.Sample), int64(1<<offsetBits-1)
	onePass := p.file.onePass != nil
	switch {
	case len(p.guess.open) == 0 && most == 0: // only the size of a record is wanted
		most, until = onePassRecords, p.sample.start+smallestSampleBytes
	case most != 0 && !onePass:
	case onePass:
		until = onePassBytes
		if most == 0 {
			most = onePassRecords
		}
	case !p.input.seekable || p.file.size > p.budget:
		until = p.sample.start + p.budget
		if p.input.seekable {
			until = p.sample.start + p.budget/4
		}
	}
	ended, err := p.records(most, until)
	if err != nil {
		return err
	}
	if p.sample.whole = ended; ended {
		return nil
	}
	p.sample.basis = p.beginning(most)
	if most == 0 && p.input.seekable && p.in.offset() >= until && p.file.size > p.budget {
		return p.blocks(ctx, until)
	}
	return nil
}

// beginning describes a sample of the first records.
func (p *sampler) beginning(most int64) string {
	if most > 0 && p.sample.records >= most || p.file.onePass != nil {
		return "the first " + counted(int(p.sample.records), "record")
	}
	text := fmt.Sprintf("the first %s of %s", sizeText(p.in.offset()-p.sample.start), p.file.name)
	if !p.input.seekable {
		text += " after decompression and decoding"
	}
	return text
}

// records adds records until there are as many as wanted, or until one would begin at
// an offset. ended reports whether the file ends there.
func (p *sampler) records(most, until int64) (ended bool, err error) {
	for p.in.offset() < until && (most <= 0 || p.sample.records < most) {
		if len(p.guess.open) == 0 && p.sample.records >= onePassRecords && p.sample.bytes >= smallestSampleBytes {
			return false, nil // nothing is left to infer
		}
		begin := p.in.offset()
		more, err := p.in.next()
		if err == nil && !more {
			return true, nil
		}
		if err == nil && p.in.count != len(p.guess.columns) {
			err = p.in.recordError(0, "", "")
		}
		var bad *ParseError
		switch {
		case err == nil:
		case !errors.As(err, &bad) || bad.damaged:
			return false, onlyCanceled(err)
		case !p.source.options.SkipBad:
			return false, nil
		case bad.resync >= 0:
			if err = p.in.discard(bad.resync); err == nil {
				err = p.in.skipLine()
			}
			if err != nil {
				return false, onlyCanceled(err)
			}
			continue
		default:
			continue
		}
		p.guess.add(p.in)
		p.sample.records++
		p.sample.bytes += p.in.offset() - begin
	}
	return p.in.eof && p.in.from == p.in.filled, nil
}

// onlyCanceled returns the error if it is that of a context that has ended, and nil for
// any other. The scan reports what is wrong with the file; a record that is too large for
// a sample may be none for the scan.
func onlyCanceled(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// blocks reads blocks spread over the rest of a large file, the last one at its end.
func (p *sampler) blocks(ctx context.Context, from int64) error {
	size := max((p.budget-p.budget/4)/sampleBlocks, smallestSampleBlock)
	n := max((p.budget-p.budget/4)/size, 1)
	last := p.file.size - size
	read := int64(0)
	for i := int64(1); i <= n && last > from; i++ {
		ok, err := p.block(ctx, from+(last-from)/n*i+(last-from)%n*i/n, size)
		if err != nil {
			return err
		}
		if ok {
			read++
		}
	}
	if read > 0 {
		p.sample.basis = fmt.Sprintf("the first %s of %s and %s spread over the rest", sizeText(from-p.sample.start), p.file.name, counted(int(read), "block"))
	}
	return nil
}

// block adds the records that begin in a block, and reports whether it did. Where the
// first of them begins is not known: a line break may be within quotes. If the block has
// quotes, it is read both ways. If one of them does not give records with the right number
// of fields, the other is true; otherwise the block is left out.
func (p *sampler) block(ctx context.Context, at, size int64) (bool, error) {
	outside, err := p.attempt(ctx, at, size, false)
	if err != nil || outside.ok && !outside.quoted {
		return outside.ok && err == nil, p.take(outside, err)
	}
	if !outside.quoted {
		return false, nil
	}
	within, err := p.attempt(ctx, at, size, true)
	if err != nil || within.ok == outside.ok {
		return false, err
	}
	if within.ok {
		return true, p.take(within, nil)
	}
	return true, p.take(outside, nil)
}

// take adds the result of an attempt that gave records.
func (p *sampler) take(a attempt, err error) error {
	if err == nil && a.ok {
		p.guess.merge(a.guess)
		p.sample.records += a.records
		p.sample.bytes += a.bytes
	}
	return err
}

// attempt is the result of reading a block from a place that may be within quotes.
type attempt struct {
	guess          *recordGuesser
	records, bytes int64
	quoted         bool // the block contains a quote
	ok             bool // there were records, and all were good
}

// attempt reads the records of a block. within tells that its first byte is taken to be
// within quotes. The error is that of a context.
func (p *sampler) attempt(ctx context.Context, at, size int64, within bool) (a attempt, err error) {
	if err := ctx.Err(); err != nil {
		return a, err
	}
	if err := p.input.seek(at); err != nil {
		return a, onlyCanceled(err)
	}
	quote := p.in.dialect.quote
	reader := &blockReader{in: p.input.reader, left: size + blockTail, quote: quote, quoted: &a.quoted}
	if p.in.reset(reader, at); within {
		p.in.reset(io.MultiReader(bytes.NewReader([]byte{quote}), reader), at-1)
	}
	if _, err := p.in.next(); err != nil { // the rest of a record
		return a, onlyCanceled(err)
	}
	a.guess = p.guess.fork()
	ended := false
	for p.in.offset() < at+size {
		begin := p.in.offset()
		more, err := p.in.next()
		if errors.Is(err, errBlockEnd) && !ended {
			ended = true // the scanner has read the last bytes, and not yet divided them
			continue
		}
		if err == nil && !more {
			break
		}
		if err != nil || p.in.count != len(p.guess.columns) {
			return a, onlyCanceled(err)
		}
		a.guess.add(p.in)
		a.records++
		a.bytes += p.in.offset() - begin
	}
	a.ok = a.records > 0
	return a, nil
}

// blockReader reads a block of a file. Its end is an error, so that no record is taken
// to end there, unless it is also the end of the file.
type blockReader struct {
	in     io.Reader
	left   int64
	quote  byte
	quoted *bool // set if a quote was read
}

var errBlockEnd = errors.New("the block ends")

func (r *blockReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, errBlockEnd
	}
	n, err := r.in.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if r.quote != 0 && bytes.IndexByte(p[:n], r.quote) >= 0 {
		*r.quoted = true
	}
	return n, err
}

// sizeText returns a number of bytes as errors show it.
func sizeText(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
