package csv

import "bytes"

// lineCounter counts the lines of a file up to an offset.
type lineCounter struct {
	offset    int64 // up to which the file is counted
	line      int   // line ends before offset
	lineStart int64 // the offset after the last of them
	cr        bool  // the last counted byte was a CR
}

// count counts the bytes at c.offset.
func (c *lineCounter) count(b []byte) {
	if bytes.IndexByte(b, '\r') < 0 && !c.cr { // most files
		if last := bytes.LastIndexByte(b, '\n'); last >= 0 {
			c.line += bytes.Count(b, []byte{'\n'})
			c.lineStart = c.offset + int64(last) + 1
		}
		c.offset += int64(len(b))
		return
	}
	for i, x := range b {
		switch {
		case x == '\n' && c.cr: // of a CRLF, which is counted
			c.lineStart = c.offset + int64(i) + 1
		case x == '\n' || x == '\r':
			c.line++
			c.lineStart = c.offset + int64(i) + 1
		}
		c.cr = x == '\r'
	}
	c.offset += int64(len(b))
}
