package csv

import (
	"errors"
	"fmt"
)

// dialect describes the format of a file. Its fields are part of the names of stored
// indexes: renaming one makes every index stale.
type dialect struct {
	delimiter   byte
	quote       byte // 0 means that nothing is quoted
	escape      byte // makes the next byte an ordinary character; 0 means none
	comment     byte // begins a line that is skipped; 0 means none
	doubleQuote bool // a quote inside a quoted field is doubled
	header      bool
	skip        int   // lines before the header, or before the first record
	maxField    int64 // the largest field in bytes
	encoding    encoding
	compression compression
}

// defaultMaxField is the default of maxField. Without a bound, a quote that is never
// closed would make one field of the rest of the file.
const defaultMaxField = 64 << 20

// largestField is the largest maxField: indexes in a record have 32 bits.
const largestField = 512 << 20

// rfc4180 is RFC 4180.
var rfc4180 = dialect{delimiter: ',', quote: '"', doubleQuote: true, header: true, maxField: defaultMaxField}

// maxRecord returns the largest record in bytes.
func (d *dialect) maxRecord() int64 { return 2*d.maxField + 1<<20 }

// conflict returns errors for characters that cannot be told apart.
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
		faults = append(faults, errors.New("a delimiter that is not ASCII requires a file in UTF-8"))
	}
	return faults
}

// parseChar parses a single character of an option or a package: the byte itself,
// "tab", \t or \xHH.
func parseChar(text string) (byte, error) {
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
		return 0, fmt.Errorf(`want one ASCII character, "tab" or \xHH (got %q)`, text)
	}
	return c, nil
}
