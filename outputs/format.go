package outputs

import (
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// Format describes a format and makes its writers. Its fields tell a caller what
// the format supports. A Format is safe for concurrent use.
type Format struct {
	Name       string
	Extensions []string // of file names, with the dot, in lower case

	Append  bool // an output can be continued: see [Options.Offset]
	Parts   bool // an output can be divided: see [Writer.NextPart]
	Flatten bool // nested rows can be flattened: see [Options.Flatten]

	encoder func(out *buffer, schema *arrow.Schema, o Options) (encoder, error)
}

var formats = []Format{
	// The first rows of a table determine the widths of its columns, so a table that
	// is continued or divided would change its widths.
	{Name: "table", Extensions: []string{".txt"}, Flatten: true, encoder: newTable},
	{Name: "ndjson", Extensions: []string{".ndjson", ".jsonl"}, Append: true, Parts: true, Flatten: true, encoder: newNDJSON},
	{Name: "csv", Extensions: []string{".csv"}, Append: true, Parts: true, Flatten: true, encoder: newCSV},
	{Name: "arrow", Extensions: []string{".arrow", ".arrows"}, Append: true, Parts: true, encoder: newArrow},
}

// Lookup returns the format with a name.
func Lookup(name string) (Format, bool) {
	return find(func(f Format) bool { return f.Name == name })
}

// ByExtension returns the format of files with an extension such as ".csv", in
// any case.
func ByExtension(extension string) (Format, bool) {
	extension = strings.ToLower(extension)
	return find(func(f Format) bool { return slices.Contains(f.Extensions, extension) })
}

func find(matches func(Format) bool) (Format, bool) {
	i := slices.IndexFunc(formats, matches)
	if i < 0 {
		return Format{}, false
	}
	return formats[i], true
}

// Names returns the names of all formats.
func Names() []string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.Name
	}
	return names
}
