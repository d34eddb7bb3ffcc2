package process

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/penstock-data/penstock/sources"
)

// stderrLog logs what a process writes to standard error, line by line. Lines that
// are longer than maxLine are logged in pieces.
type stderrLog struct {
	log    *slog.Logger
	mu     sync.Mutex
	rest   []byte // the incomplete last line
	tail   []byte // the last bytes, for the error of a process that ends
	reason string // the first line that says why the process ends; see reasons
	stream string // the stream that reads from the process now; may be empty
}

const (
	maxLine = 16 << 10
	maxTail = 64 << 10
)

// setStream sets the name of the stream with which the next lines are logged.
func (l *stderrLog) setStream(stream string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stream = stream
}

// last returns the last maxTail bytes that were written.
func (l *stderrLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ToValidUTF8(string(l.tail[max(0, len(l.tail)-maxTail):]), "\uFFFD")
}

// Write accepts text in pieces of any length.
func (l *stderrLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	if l.tail = append(l.tail, p...); len(l.tail) > 2*maxTail {
		l.tail = append(l.tail[:0], l.tail[len(l.tail)-maxTail:]...)
	}
	log := l.log
	if l.stream != "" {
		log = log.With("stream", l.stream)
	}
	for {
		line, rest, found := bytes.Cut(l.rest, []byte{'\n'})
		if !found && len(line) < maxLine {
			return len(p), nil
		}
		if len(line) > maxLine {
			line, rest = l.rest[:maxLine], l.rest[maxLine:]
		}
		if text := strings.TrimSpace(strings.ToValidUTF8(string(line), "\uFFFD")); text != "" {
			log.Info(text)
			if l.reason == "" {
				l.reason = reasonIn(text)
			}
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

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}

// reasons are parts of the line in which a runtime says why it ends a process. The
// stacks of its threads follow, and may be longer than the tail that is kept.
var reasons = []string{"panic: ", "fatal error: ", "panicked at "}

// reasonIn returns the part of a line that says why a process ends, or "".
func reasonIn(line string) string {
	for _, reason := range reasons {
		if at := strings.Index(line, reason); at >= 0 {
			return said(strings.TrimSpace(line[at:]))
		}
	}
	return ""
}

// lastWords returns the line that best says why the process has ended: that of a panic or
// a fatal error, or else its last one.
func (l *stderrLog) lastWords() string {
	last := lastLine(l.last())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason != "" {
		return l.reason
	}
	if reason := reasonIn(last); reason != "" {
		return reason
	}
	return said(last)
}

// maxSaid is how much of what a process says an error text contains, in bytes.
const maxSaid = 500

// said returns what a process says, for an error text.
func said(text string) string { return sources.Clip(text, maxSaid) }

// Crash is the cause of the [sources.Unavailable] error of a stream whose process
// has ended.
type Crash struct {
	Name   string // the source's name, as in [wall.Options]
	Reason string // how the process ended, as in "was killed by signal 9"
	Said   string // the line of its panic or fatal error, or the last one that it wrote; at most 500 bytes
	Stderr string // the last 64 KiB that it wrote to standard error
}

// Error returns how the process ended, and what it said.
func (c *Crash) Error() string {
	text := fmt.Sprintf("plugin %q %s", c.Name, c.Reason)
	if c.Said != "" {
		text += ": " + c.Said
	}
	return text
}
