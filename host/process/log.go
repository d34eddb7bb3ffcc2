package process

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// lines logs what a process writes to standard error, line by line. A line that
// is longer than most is logged in pieces: nothing is held back.
type lines struct {
	log  *slog.Logger
	mu   sync.Mutex
	rest []byte
}

const longestLine = 16 << 10

// Write takes text in pieces of any length.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte{'\n'})
		if !found && len(line) < longestLine {
			return len(p), nil
		}
		if len(line) > longestLine {
			line, rest = l.rest[:longestLine], l.rest[longestLine:]
		}
		if text := strings.TrimSpace(strings.ToValidUTF8(string(line), "\uFFFD")); text != "" {
			l.log.Info(text)
		}
		l.rest = append(l.rest[:0], rest...)
	}
}

func contains(text string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
