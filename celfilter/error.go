package celfilter

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/penstock-data/penstock/internal/display"
	"github.com/penstock-data/penstock/sources"
)

// Error reports where a text is not a valid condition, and why.
type Error struct {
	Line, Column int // from 1; columns count characters
	Message      string
	// Excerpt shows the line, indented and escaped for a terminal, and below it a
	// caret under the column.
	Excerpt string
}

// Error returns the place, the message, and on lines of their own the excerpt.
func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: %s\n%s", e.Line, e.Column, e.Message, e.Excerpt)
}

// fault is an error at an expression.
func (tr *translator) fault(e celast.Expr, format string, args ...any) error {
	at := tr.info.GetStartLocation(e.ID())
	return tr.faultAt(at.Line(), at.Column(), fmt.Sprintf(format, args...))
}

// faultAt is an error at a line (from 1) and a column (from 0, in characters).
func (tr *translator) faultAt(line, column int, message string) error {
	lines := strings.Split(tr.text, "\n")
	line = min(max(line, 1), len(lines))
	shown := []rune(strings.TrimRight(lines[line-1], "\r"))
	column = min(max(column, 0), len(shown))
	pad := strings.Repeat(" ", display.Width(display.Printable(string(shown[:column]))))
	return &Error{
		Line: line, Column: column + 1, Message: message,
		Excerpt: "  " + display.Printable(string(shown)) + "\n  " + pad + "^",
	}
}

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	noOverload = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'`)
)

// issue rephrases the first error of CEL's parser or checker in terms of columns
// and literals.
func (tr *translator) issue(issues *cel.Issues) error {
	var first *common.Error
	for _, e := range issues.Errors() {
		if first == nil || e.Location.Line() < first.Location.Line() ||
			e.Location.Line() == first.Location.Line() && e.Location.Column() < first.Location.Column() {
			first = e
		}
	}
	line, column := first.Location.Line(), first.Location.Column()
	message := strings.Join(strings.Fields(first.Message), " ")
	if m := undeclared.FindStringSubmatch(message); m != nil {
		return tr.faultAt(line, column, tr.unknown(m[1], line, column))
	}
	if m := noOverload.FindStringSubmatch(message); m != nil {
		operator, ok := operators.FindReverse(m[1])
		if !ok || operator == "" {
			operator = m[1]
		}
		args := strings.NewReplacer("(", "", ")", "", ", ", " and ").Replace(m[2])
		if strings.Contains(m[2], ".(") {
			args = m[2]
		}
		return tr.faultAt(line, column, fmt.Sprintf("%s does not work on %s", operator, args))
	}
	return tr.faultAt(line, column, strings.TrimPrefix(message, "Syntax error: "))
}

// unknown explains a name that is not declared.
func (tr *translator) unknown(name string, line, column int) string {
	if operator, ok := operators.FindReverse(name); ok && operator != "" {
		return fmt.Sprintf("%s is not supported here: a condition compares a column with a literal", operator)
	}
	if name == operators.Conditional {
		return "? : is not supported here: a condition compares a column with a literal"
	}
	lines := strings.Split(tr.text, "\n")
	if line-1 < len(lines) {
		rest := []rune(lines[line-1])
		after := strings.TrimLeft(string(rest[min(column, len(rest)):]), " \t")
		if after = strings.TrimPrefix(after, name); strings.HasPrefix(after, "(") || strings.HasPrefix(after, ".") {
			if i := tr.table.Column(name); i < 0 && strings.HasPrefix(after, "(") {
				return fmt.Sprintf("there is no function %q", name) + sources.Suggest(name, functions)
			}
		}
		if strings.HasPrefix(after, "(") || slices.Contains([]string{"has", "all", "exists", "matches", "contains", "endsWith", "size"}, name) {
			return fmt.Sprintf("there is no function %q", name) + sources.Suggest(name, functions)
		}
	}
	return tr.noColumn(name)
}

// noColumn tells that a name is no column of the table, or one that may not be read.
func (tr *translator) noColumn(name string) string {
	if _, denied := tr.table.Denied[name]; denied {
		return fmt.Sprintf("table %q: %v", tr.table.Name, tr.table.NoColumn(name).Err)
	}
	return fmt.Sprintf("table %q has no column %q", tr.table.Name, name) + sources.Suggest(name, tr.columns())
}

var functions = []string{"date", "time", "timestamp", "decimal", "duration", "like", "startsWith"}

func (tr *translator) columns() []string {
	names := make([]string, tr.table.Schema.NumFields())
	for i, f := range tr.table.Schema.Fields() {
		names[i] = f.Name
	}
	return names
}
