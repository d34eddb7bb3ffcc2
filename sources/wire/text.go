package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/penstock-data/penstock/sources"
)

// text is a string that may hold any bytes: a JSON string where it is UTF-8,
// else {"base64":"..."}, for JSON cannot hold it otherwise.
type text string

func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return marshal(string(t))
	}
	return marshal(raw{Base64: []byte(t)})
}

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var r raw
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		*t = text(r.Base64)
		return nil
	}
	return json.Unmarshal(b, (*string)(t))
}

type raw struct {
	Base64 []byte `json:"base64"`
}

func texts(in []string) []text {
	if in == nil {
		return nil
	}
	out := make([]text, len(in))
	for i, s := range in {
		out[i] = text(s)
	}
	return out
}

func stringsOf(in []text) []string {
	if in == nil {
		return nil
	}
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}

// marshal is json.Marshal without the escapes that are meant for web pages, so
// that a "<" can be read, and typed, as it is.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// encode makes the message of v. What cannot be said on the wire is the
// caller's fault.
func encode(what string, v any) ([]byte, error) {
	b, err := marshal(v)
	if err == nil && len(b) > MaxMessage {
		err = fmt.Errorf("its message has %d bytes, at most %d can be sent", len(b), MaxMessage)
	}
	if err != nil {
		return nil, invalid("%s cannot be sent: %w", what, cause(err))
	}
	return b, nil
}

// decode reads a message into v. A message that is too long, nested too deeply,
// not UTF-8, or followed by anything is refused before it is taken apart.
func decode(what string, b []byte, v any) error {
	err := scan(b)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return invalid("malformed %s: %w", what, cause(err))
	}
	return nil
}

// maxNesting bounds the brackets of a message: a predicate of maxDepth has two
// for each of its levels.
const maxNesting = 2*maxDepth + 16

func scan(b []byte) error {
	switch {
	case len(b) > MaxMessage:
		return fmt.Errorf("%d bytes, at most %d are taken", len(b), MaxMessage)
	case len(b) == 0:
		return errors.New("it is empty")
	case !utf8.Valid(b):
		return errors.New("it is not UTF-8")
	}
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			if depth++; depth > maxNesting {
				return fmt.Errorf("it is nested more than %d deep", maxNesting)
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return nil
}

// cause strips what encoding/json wraps around the error of a MarshalJSON
// method: the names of Go types say nothing to the reader.
func cause(err error) error {
	var m *json.MarshalerError
	for errors.As(err, &m) {
		err = m.Err
	}
	var e *sources.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err
	}
	return err
}

func invalid(format string, args ...any) error {
	return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf(format, args...)}
}
