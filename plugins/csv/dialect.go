package csv

import (
	"errors"
	"fmt"
)

// dialect is how a file is written.
type dialect struct {
	delimiter   byte
	quote       byte // 0: nothing is quoted
	escape      byte // takes the meaning from the byte behind it; 0: none does
	comment     byte // begins a line that is skipped; 0: none does
	doubleQuote bool // a quote within a quoted field is written twice
	header      bool
	skip        int   // lines before the header, or before the first record
	maxField    int64 // bytes that a field has at most
	encoding    encoding
	compression compression
}

// defaultMaxField bounds a field where nobody says otherwise: without a bound,
// a quote that is never closed would be read to the end of the file.
const defaultMaxField = 64 << 20

// largestField is what maxField can be: places in a record are 32 bits.
const largestField = 512 << 20

// standard is RFC 4180.
var standard = dialect{delimiter: ',', quote: '"', doubleQuote: true, header: true, maxField: defaultMaxField}

// maxRecord is how many bytes a record has at most.
func (d *dialect) maxRecord() int64 { return 2*d.maxField + 1<<20 }

// conflict returns the faults of characters that cannot be told apart.
func (d *dialect) conflict() (faults []error) {
	chars := []struct {
		name string
		char byte
	}{{"delimiter", d.delimiter}, {"quote", d.quote}, {"comment", d.comment}, {"escape", d.escape}}
	for i, a := range chars {
		for _, b := range chars[:i] {
			if a.char != 0 && a.char == b.char {
				faults = append(faults, fmt.Errorf("%s and %s are both %q: they must differ", b.name, a.name, a.char))
			}
		}
	}
	if d.delimiter >= 0x80 && d.encoding != encodingAuto && d.encoding != encodingUTF8 {
		faults = append(faults, errors.New("a delimiter that is not ASCII needs a file in UTF-8"))
	}
	return faults
}

// one reads a single character as people write it in options and packages: the
// byte itself, "tab", or \t and \xHH.
func one(text string) (byte, error) {
	c := byte(0)
	switch {
	case text == "tab" || text == `\t`:
		c = '\t'
	case len(text) == 1:
		c = text[0]
	case len(text) == 4 && text[:2] == `\x`:
		if _, err := fmt.Sscanf(text[2:], "%02x", &c); err != nil {
			c = 0
		}
	}
	if c == 0 || c == '\n' || c == '\r' {
		return 0, fmt.Errorf(`want one ASCII character, "tab" or \xHH, not %q`, text)
	}
	return c, nil
}
