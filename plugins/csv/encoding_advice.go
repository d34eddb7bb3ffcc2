package csv

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"
)

// undecodable is the error for bytes that are not a character in the encoding of a file.
type undecodable struct{ error }

// adviceBytes is how much of a file is read to find out its encoding.
const adviceBytes = 64 << 20

// adviseEncoding adds the encodings that would read the file to an error about its
// encoding. It tries them on the bytes. Of standard input, only what the scanner holds can be
// tried. A file that cannot be read again gets no advice.
func (s *source) adviseEncoding(ctx context.Context, t *table, f *tableFile, in *scanner, e *ParseError) {
	if !e.wrongEncoding || len(e.remedies) > 0 {
		return
	}
	trial := newEncodingTrial(t.dialect.delimiter)
	if f.onePass == nil {
		d := t.dialect
		d.encoding = encodingUTF8 // the bytes as they are
		input, err := s.openFile(ctx, f, d)
		if err != nil {
			return
		}
		defer input.Close()
		if from := e.Offset - adviceBytes/2; from > input.from && input.seekable && t.dialect.encoding <= encodingUTF8 {
			err = input.seek(from)
		}
		if err == nil {
			err = copyTo(input.reader, adviceBytes, trial.add)
		}
		if err != nil {
			return
		}
	} else if in != nil && t.dialect.encoding <= encodingUTF8 {
		trial.add(in.buf[:in.filled])
	}
	_ = e.with(trial.advice(s.declaredNames[t.table] && s.options.Table == ""))
}

// encodingTrial finds out which encodings read some bytes. An encoding reads them if all
// are characters, and none of them is one that text does not have.
type encodingTrial struct {
	bytes   int64
	control bool  // there is a control character that text does not have, such as zero
	c1      bool  // there is a byte that is a control character in Latin-1
	missing bool  // there is a byte that windows-1252 does not define
	valid   int64 // characters beyond ASCII in UTF-8
	invalid int64 // bytes that are not of a character in UTF-8
	rest    []byte

	wide []*wideTrial
}

// wideTrial is the trial of an encoding with units of two bytes.
type wideTrial struct {
	decoder decoder
	rest    []byte
	fails   bool
	divides bool // there is a delimiter or a line break
	comma   rune
}

func newEncodingTrial(delimiter byte) *encodingTrial {
	t := &encodingTrial{}
	for _, e := range []encoding{encodingUTF16LE, encodingUTF16BE} {
		t.wide = append(t.wide, &wideTrial{decoder: decoder{encoding: e}, comma: rune(delimiter)})
	}
	return t
}

// add tries further bytes.
func (t *encodingTrial) add(b []byte) {
	t.bytes += int64(len(b))
	for _, w := range t.wide {
		w.add(b)
	}
	t.rest = append(t.rest, b...)
	i := 0
	for ; i < len(t.rest); i++ {
		c := t.rest[i]
		if c < utf8.RuneSelf {
			t.control = t.control || isControl(rune(c))
			continue
		}
		if c < 0xa0 {
			t.c1 = true
			t.missing = t.missing || cp1252[c-0x80] == 0
		}
	}
	for i = 0; i < len(t.rest); {
		if t.rest[i] < utf8.RuneSelf {
			i++
			continue
		}
		if !utf8.FullRune(t.rest[i:]) {
			break
		}
		r, size := utf8.DecodeRune(t.rest[i:])
		if i += size; r == utf8.RuneError && size == 1 {
			t.invalid++
		} else {
			t.valid++
		}
	}
	t.rest = append(t.rest[:0], t.rest[i:]...)
}

func (w *wideTrial) add(b []byte) {
	if w.fails {
		return
	}
	w.rest = append(w.rest, b...)
	i := 0
	for i < len(w.rest) {
		r, size := w.decoder.rune(w.rest[i:])
		if size == 0 {
			break
		}
		if size < 0 || isControl(r) || r == 0xfffe || r == 0xffff {
			w.fails = true
			return
		}
		w.divides = w.divides || r == '\n' || r == '\r' || r == w.comma
		i += size
	}
	w.rest = append(w.rest[:0], w.rest[i:]...)
}

// names returns the encodings that read the bytes.
func (t *encodingTrial) names() (names []string) {
	if t.bytes == 0 {
		return nil
	}
	cut := t.bytes >= adviceBytes // a character may be cut
	if t.invalid == 0 && (len(t.rest) == 0 || cut) && !t.control {
		return []string{"utf-8"}
	}
	for _, w := range t.wide {
		if !w.fails && w.divides && (len(w.rest) == 0 || cut) {
			names = append(names, w.decoder.encoding.String())
		}
	}
	if t.control {
		return names
	}
	if !t.missing {
		names = append(names, "windows-1252")
	}
	if !t.c1 {
		names = append(names, "latin-1")
	}
	return names
}

// advice returns what the user can do. declared tells that a package describes the file.
func (t *encodingTrial) advice(declared bool) string {
	names := t.names()
	tried := "tried on all of it"
	if t.bytes >= adviceBytes {
		tried = "tried on " + sizeText(t.bytes)
	}
	switch {
	case t.bytes == 0:
		return "set encoding=NAME, where NAME is one of " + strings.Join(encodingNames, ", ")
	case len(names) == 0:
		return fmt.Sprintf("convert the file to UTF-8: none of the encodings tried reads it (%s)", tried)
	case t.valid > t.invalid && names[0] != "utf-8":
		return fmt.Sprintf("repair the file: it has %s in UTF-8, and %s that %s not (%s); encoding=%s would read all of them as other characters",
			counted(int(t.valid), "character"), counted(int(t.invalid), "byte"), isOrAre(t.invalid), tried, names[0])
	}
	text := "set encoding=" + strings.Join(names, " or ")
	if declared {
		text = fmt.Sprintf(`write "encoding": "%s" for it in %s`, strings.Join(names, `" or "`), packageFile)
	}
	if len(names) == 1 {
		return fmt.Sprintf("%s, which reads the file (%s)", text, tried)
	}
	return fmt.Sprintf("%s, which read the file alike (%s)", text, tried)
}

// isControl reports whether text does not have a character: controls other than white
// space, and the end of a file on DOS.
func isControl(r rune) bool {
	return r < ' ' && (r < '\t' || r > '\r') && r != 0x1a || r == 0x7f
}

func isOrAre(n int64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
