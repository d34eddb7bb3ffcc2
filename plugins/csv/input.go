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

// compression is how a file is packed.
type compression uint8

const (
	compressionAuto compression = iota // the file's first bytes say
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
	return 0, fmt.Errorf("there is no compression %q%s", name, sources.Suggest(name, compressionNames))
}

// maxWindow is the most memory that unpacking zstd takes, in bytes. It belongs
// to no budget.
const maxWindow = 32 << 20

// input is an open file as a scanner reads it: unpacked, and in UTF-8. Offsets
// are of what is read, not of what is on the disk.
type input struct {
	file     fs.File
	zstd     *zstd.Decoder // nil where it is packed in another way
	reader   io.Reader
	seekable bool // the file is read as it stands, and can be read at any place
	from     int64
}

// contextReader fails when the context has ended.
type contextReader struct {
	ctx context.Context
	in  io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(p)
}

// newInput unpacks and decodes a file, whose closing it takes over. Marks at the
// beginning say what the dialect does not.
func newInput(ctx context.Context, file fs.File, name string, d dialect) (*input, error) {
	in := &input{file: file}
	raw := contextReader{ctx, file}
	head := bufio.NewReaderSize(raw, 4096)
	packed, enc := d.compression, d.encoding
	mark, err := head.Peek(4)
	if err != nil && err != io.EOF {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), file.Close())
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
			return nil, errors.Join(fmt.Errorf("%s: %w", name, broken("gzip", cut(err))), file.Close())
		}
		head = bufio.NewReaderSize(packedReader{"gzip", unpacked}, 4096)
	case compressionZstd:
		in.zstd, err = zstd.NewReader(head, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, broken("zstd", cut(err))), file.Close())
		}
		head = bufio.NewReaderSize(packedReader{"zstd", in.zstd}, 4096)
	}
	mark, err = head.Peek(3)
	if err != nil && err != io.EOF {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), in.Close())
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
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), in.Close())
	}
	if in.reader = head; !plain {
		in.reader = &decoder{in: head, encoding: enc}
	}
	return in, nil
}

// packedReader says of a fault what was being unpacked.
type packedReader struct {
	name string
	in   io.Reader
}

func (r packedReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if err != nil && err != io.EOF {
		err = broken(r.name, err)
	}
	return n, err
}

// broken is what is wrong with a packed file.
func broken(name string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: the compressed file is cut short: %w", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// cut makes the end of a file in its first bytes what it is.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close ends the unpacking and closes the file.
func (in *input) Close() error {
	if in.zstd != nil {
		in.zstd.Close()
	}
	return in.file.Close()
}

// seek goes to a place in the file; only a seekable one has any.
func (in *input) seek(offset int64) error {
	_, err := in.file.(io.Seeker).Seek(offset, io.SeekStart)
	return err
}
