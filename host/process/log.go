package process

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// lines logs what a process writes to standard error, line by line. A line that
// is longer than most is logged in pieces: nothing is held back.
type lines struct {
	log    *slog.Logger
	mu     sync.Mutex
	rest   []byte
	tail   []byte // the last of it, for the error of a process that ends
	stream string // that reads from the process now; empty where it has no name
}

const (
	longestLine = 16 << 10
	tailBytes   = 64 << 10
)

// serve names the stream that the next lines are about.
func (l *lines) serve(stream string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stream = stream
}

// last is what was written last, at most so many bytes.
func (l *lines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ToValidUTF8(string(l.tail[max(0, len(l.tail)-tailBytes):]), "\uFFFD")
}

// Write takes text in pieces of any length.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	if l.tail = append(l.tail, p...); len(l.tail) > 2*tailBytes {
		l.tail = append(l.tail[:0], l.tail[len(l.tail)-tailBytes:]...)
	}
	log := l.log
	if l.stream != "" {
		log = log.With("stream", l.stream)
	}
	for {
		line, rest, found := bytes.Cut(l.rest, []byte{'\n'})
		if !found && len(line) < longestLine {
			return len(p), nil
		}
		if len(line) > longestLine {
			line, rest = l.rest[:longestLine], l.rest[longestLine:]
		}
		if text := strings.TrimSpace(strings.ToValidUTF8(string(line), "\uFFFD")); text != "" {
			log.Info(text)
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

// Crash is the cause of the [sources.Unavailable] error of a stream whose process
// has ended.
type Crash struct {
	Name   string // the plugin's
	How    string // it ended, as in "was killed by signal 9"
	Stderr string // the last 64 KiB of what it wrote to standard error
}

// Error says how the process ended, and what it wrote last.
func (c *Crash) Error() string {
	text := fmt.Sprintf("plugin %q %s", c.Name, c.How)
	said := strings.TrimSpace(c.Stderr)
	if at := strings.Index(said, "panic: "); at >= 0 {
		said = firstLine(said[at:]) // what follows is its stack
	} else {
		said = strings.TrimSpace(said[strings.LastIndexByte(said, '\n')+1:])
	}
	if said == "" {
		return text
	}
	if len(said) > longestSaid {
		said = strings.ToValidUTF8(said[:longestSaid], "") + "..."
	}
	return text + ": " + said
}

// longestSaid is how much of what a process said last is in an error's text.
const longestSaid = 500
