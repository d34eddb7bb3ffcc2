package wasm

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"unicode/utf8"
)

// stderrLog logs what a module writes to standard error, line by line, and keeps the
// lines that may explain its end. Lines longer than maxLine are logged in pieces.
type stderrLog struct {
	log    *slog.Logger
	mu     sync.Mutex
	line   []byte
	lines  int
	reason string // the first line of a panic
	last   string // the last line
	stream string // the stream that reads from the module now; may be empty
}

// setStream sets the name of the stream with which the next lines are logged.
func (s *stderrLog) setStream(stream string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream = stream
}

const (
	maxLine     = 4 << 10
	maxLogLines = 1000 // more than a stack trace has
)

func (s *stderrLog) Write(p []byte) (int, error) {
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

// flush logs the current line. The caller holds the lock.
func (s *stderrLog) flush() {
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
		log.Warn("the module writes too much to standard error; further lines are dropped")
	}
}

// exitReason returns the line that best explains why the module ended, or "".
func (s *stderrLog) exitReason() string {
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
