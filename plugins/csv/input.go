package csv

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/penstock-data/penstock/sources"
)

// compression is how a file is compressed.
type compression uint8

const (
	compressionAuto compression = iota // determined by the file's first bytes
	compressionNone
	compressionGzip
	compressionZstd
)

var compressionNames = []string{"auto", "none", "gzip", "zstd"}

func parseCompression(name string) (compression, error) {
	switch strings.ToLower(name) {
	case "", "auto":
		return compressionAuto, nil
	case "none", "no":
		return compressionNone, nil
	case "gzip", "gz":
		return compressionGzip, nil
	case "zstd", "zst":
		return compressionZstd, nil
	}
	return 0, fmt.Errorf("unknown compression %q%s", name, sources.Suggest(name, compressionNames))
}

// maxWindow is the largest zstd window, in bytes. This memory belongs to no budget.
const maxWindow = 32 << 20

// input is an open file as a scanner reads it: decompressed and converted to UTF-8.
// Offsets count these bytes, not those on disk.
type input struct {
	file     fs.File
	state    fileState     // when it was opened; zero for an input that can be read once
	zstd     *zstd.Decoder // nil for other compressions
	reader   io.Reader
	seekable bool // reader reads the bytes on disk, and seek works
	from     int64
}

// rawReader reads a file's bytes as they are on the disk. It fails once the
// context has ended, and keeps its error, which tells a read that failed from a
// file that is damaged.
type rawReader struct {
	ctx context.Context
	in  io.Reader
	err error // nil at the file's end
}

func (r *rawReader) Read(p []byte) (n int, err error) {
	if err = r.ctx.Err(); err == nil {
		n, err = r.in.Read(p)
	}
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// newInput returns the input of a file, which it closes on an error. Magic numbers
// and byte order marks determine the compression and encoding that the dialect
// leaves open.
func newInput(ctx context.Context, file fs.File, name string, d dialect) (*input, error) {
	in := &input{file: file}
	raw := &rawReader{ctx: ctx, in: file}
	head := bufio.NewReaderSize(raw, 4096)
	packed, enc := d.compression, d.encoding
	mark, err := head.Peek(4)
	if err != nil && err != io.EOF {
		return nil, errors.Join(readError(name, 0, err), file.Close())
	}
	if packed == compressionAuto {
		packed = compressionNone
		if bytes.HasPrefix(mark, []byte("\x1f\x8b")) {
			packed = compressionGzip
		} else if bytes.HasPrefix(mark, []byte("\x28\xb5\x2f\xfd")) {
			packed = compressionZstd
		}
	}
	switch packed {
	case compressionGzip:
		unpacked, err := gzip.NewReader(head)
		if err != nil {
			return nil, errors.Join(readError(name, 0, raw.packedError("gzip", unexpectedEOF(err))), file.Close())
		}
		head = bufio.NewReaderSize(packedReader{"gzip", unpacked, raw}, 4096)
	case compressionZstd:
		in.zstd, err = zstd.NewReader(head, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, errors.Join(readError(name, 0, raw.packedError("zstd", unexpectedEOF(err))), file.Close())
		}
		head = bufio.NewReaderSize(packedReader{"zstd", in.zstd, raw}, 4096)
	}
	mark, err = head.Peek(3)
	if err != nil && err != io.EOF {
		return nil, errors.Join(readError(name, 0, err), in.Close())
	}
	skip := 0
	switch {
	case bytes.HasPrefix(mark, []byte("\xef\xbb\xbf")) && (enc == encodingAuto || enc == encodingUTF8):
		skip = 3
	case bytes.HasPrefix(mark, []byte("\xff\xfe")) && (enc == encodingAuto || enc == encodingUTF16 || enc == encodingUTF16LE):
		enc, skip = encodingUTF16LE, 2
	case bytes.HasPrefix(mark, []byte("\xfe\xff")) && (enc == encodingAuto || enc == encodingUTF16 || enc == encodingUTF16BE):
		enc, skip = encodingUTF16BE, 2
	case enc == encodingUTF16:
		enc = encodingUTF16BE // RFC 2781, 4.3
	}
	plain := enc == encodingAuto || enc == encodingUTF8
	if seeker, ok := file.(io.Seeker); ok && plain && packed == compressionNone {
		if _, err := seeker.Seek(int64(skip), io.SeekStart); err == nil {
			in.seekable, in.reader, in.from = true, raw, int64(skip)
			return in, nil
		}
	}
	if _, err := head.Discard(skip); err != nil {
		return nil, errors.Join(readError(name, 0, err), in.Close())
	}
	if in.reader = head; !plain {
		in.reader = &decoder{in: head, encoding: enc}
	}
	return in, nil
}

// packedReader decompresses a file, and names the compression in its errors.
type packedReader struct {
	name string
	in   io.Reader
	raw  *rawReader
}

func (r packedReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if err != nil && err != io.EOF {
		err = r.raw.packedError(r.name, err)
	}
	return n, err
}

// packedError returns the error of decompressing what r read: a [damage], unless
// reading the file failed.
func (r *rawReader) packedError(name string, err error) error {
	switch {
	case r.err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return damage{fmt.Errorf("%s: the compressed file is truncated: %w", name, err)}
	}
	return damage{fmt.Errorf("%s: %w", name, err)}
}

// unexpectedEOF returns io.ErrUnexpectedEOF for the end of a file within its
// first bytes, and every other error as it is.
func unexpectedEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close ends the decompression and closes the file.
func (in *input) Close() error {
	if in.zstd != nil {
		in.zstd.Close()
	}
	return in.file.Close()
}

// seek moves to an offset. The input must be seekable.
func (in *input) seek(offset int64) error {
	_, err := in.file.(io.Seeker).Seek(offset, io.SeekStart)
	return err
}
