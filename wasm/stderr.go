package wasm

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"unicode/utf8"
)

// stderr logs what a module writes to its standard error, a record for each
// line, and remembers what may say why it ended. Lines of any length pass: what
// is too long comes in pieces.
type stderr struct {
	log    *slog.Logger
	mu     sync.Mutex
	line   []byte
	lines  int
	reason string // the first line that a dying runtime writes
	last   string // the last line of all
	stream string // that reads from the module now; empty where it has no name
}

// serve names the stream that the next lines are about.
func (s *stderr) serve(stream string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream = stream
}

const (
	maxLine     = 4 << 10
	maxLogLines = 1000 // a stack trace is shorter, a flood is not
)

func (s *stderr) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		end := i < 0
		if end {
			i = len(rest)
		}
		take := min(i, maxLine-len(s.line))
		s.line = append(s.line, rest[:take]...)
		rest = rest[take:]
		if take == i && !end {
			rest = rest[1:]
		}
		if take < i || !end || len(s.line) == maxLine {
			s.flush()
		}
	}
	return len(p), nil
}

// flush ends a line; the lock is held.
func (s *stderr) flush() {
	text := strings.TrimRight(string(bytes.ToValidUTF8(s.line, []byte("?"))), "\r ")
	s.line = s.line[:0]
	if text == "" {
		return
	}
	s.last = text
	if s.reason == "" && (strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") || strings.Contains(text, "panicked at")) {
		s.reason = text
	}
	log := s.log
	if s.stream != "" {
		log = log.With("stream", s.stream)
	}
	switch s.lines++; {
	case s.lines < maxLogLines:
		log.Info(text)
	case s.lines == maxLogLines:
		log.Warn("the module writes too much to its standard error; the rest is dropped")
	}
}

// why returns the line that best says why the module ended, or nothing.
func (s *stderr) why() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.line) > 0 {
		s.flush()
	}
	text := s.reason
	if text == "" {
		text = s.last
	}
	if len(text) > 300 {
		text = text[:300]
		for !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
	}
	return text
}
