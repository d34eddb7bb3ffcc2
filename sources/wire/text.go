package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/penstock-data/penstock/sources"
)

// text is a string of any bytes: a JSON string if it is UTF-8, otherwise
// {"base64":"..."}.
type text string

func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return marshal(string(t))
	}
	return marshal(raw{Base64: []byte(t)})
}

// maxText bounds a text on the wire, in bytes. The names of a catalog have a smaller
// limit, which [sources.CheckCatalog] checks.
const maxText = 1 << 20

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > maxText {
		return fmt.Errorf("a text has %d bytes, but the limit is %d", len(b), maxText)
	}
	return t.decode(b)
}

// decode decodes a text of any length.
func (t *text) decode(b []byte) error {
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

// prose is a text for people. What exceeds the limit of comments is cut when it is
// encoded and when it is decoded.
type prose string

func (p prose) MarshalJSON() ([]byte, error) {
	return text(sources.Clip(string(p), sources.MaxComment)).MarshalJSON()
}

func (p *prose) UnmarshalJSON(b []byte) error {
	var t text
	err := t.decode(b)
	*p = prose(sources.Clip(string(t), sources.MaxComment))
	return err
}

type raw struct {
	Base64 []byte `json:"base64"`
}

func texts(in []string) []text { return listOf[text](in) }

func listOf[T ~string](in []string) []T {
	if in == nil {
		return nil
	}
	out := make([]T, len(in))
	for i, s := range in {
		out[i] = T(s)
	}
	return out
}

func stringsOf[T ~string](in []T) []string {
	if in == nil {
		return nil
	}
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}

// marshal is json.Marshal without escapes for HTML, so that "<" stays readable.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// encode returns the message for v. The error is of kind Invalid.
func encode(what string, v any) ([]byte, error) {
	b, err := marshal(v)
	if err == nil && len(b) > MaxMessage {
		err = fmt.Errorf("its message has %d bytes, but the limit is %d", len(b), MaxMessage)
	}
	if err != nil {
		return nil, invalid("%s cannot be sent: %w", what, cause(err))
	}
	return b, nil
}

// decode parses a message into v. Before that, it rejects a message that is too long,
// nested too deeply, of too many values, not UTF-8, or followed by other data.
func decode(what string, b []byte, v any) error {
	err := scan(b)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return invalid("malformed %s: %w", what, clipped(cause(err)))
	}
	return nil
}

// clipped returns err, or an error with the beginning of its text if that is long: an
// error of encoding/json quotes what it cannot decode.
func clipped(err error) error {
	if text := err.Error(); len(text) > sources.MaxErrorText {
		return errors.New(sources.Clip(text, sources.MaxErrorText))
	}
	return err
}

// maxNesting bounds the nesting of brackets in a message. A predicate has two for each
// of its maxDepth levels.
const maxNesting = 2*maxDepth + 16

// maxObjects and maxValues bound the objects and the values of a message. A decoded
// object takes a hundred times the memory of its shortest text, {}.
const (
	maxObjects = 256 << 10
	maxValues  = 4 << 20
)

func scan(b []byte) error {
	switch {
	case len(b) > MaxMessage:
		return fmt.Errorf("it has %d bytes, but the limit is %d", len(b), MaxMessage)
	case len(b) == 0:
		return errors.New("it is empty")
	case !utf8.Valid(b):
		return errors.New("it is not UTF-8")
	}
	depth, objects, values, quoted := 0, 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ',':
			values++
		case c == '{', c == '[':
			if c == '{' {
				objects++
			}
			if depth++; depth > maxNesting {
				return fmt.Errorf("it is nested more than %d levels deep", maxNesting)
			}
		case c == '}', c == ']':
			depth--
		}
	}
	if objects > maxObjects || values > maxValues {
		return fmt.Errorf("it has %d objects and %d commas, but the limits are %d and %d", objects, values, maxObjects, maxValues)
	}
	return nil
}

// cause removes what encoding/json adds to the error of a MarshalJSON method: the
// names of Go types do not help the reader.
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
	return sources.Errorf(sources.Invalid, "", "", format, args...)
}
