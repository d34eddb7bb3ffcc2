// Package celfilter turns conditions in CEL, the Common Expression Language
// (https://cel.dev), into predicates of package sources.
//
// A condition compares columns of one table with literals:
//
//	total > 19.90 && !(city == "Oslo" || vip)     comparisons, && || ! and parentheses
//	id in [1, 2] || city != null                  lists and NULL
//	sku.startsWith("A-") && like(name, "%ist")    text; like has the wildcards % and _
//	day < date("2026-02-01")                      also time, timestamp, duration and decimal
//	row["unit price"] < 5                         a column whose name is not an identifier
//
// Comparisons are exact: the literal 1.10 is the decimal 1.10 if it is compared with a
// decimal column, and id > 1.5 is true for an integer id of 2. A column of exact numbers
// in text (sources.Number) also compares with a number in quotes, as in total == "1.50". A comparison with NULL
// is unknown, as in SQL, except for the tests column == null and column != null.
//
// CEL's library is large, so this is a package of its own: only programs that import
// it link the library.
package celfilter

import (
	"fmt"
	"strings"
	"unicode/utf8"

	celast "cel.dev/cel-go/common/ast"

	"github.com/penstock-data/penstock/sources"
)

// Parse returns the predicate that a CEL condition describes for the rows of a
// table. Its literals have the types of the columns that they are compared with,
// as sources.Query.Where requires. The error is an [*Error] if the text is not a
// condition over the table's columns.
//
// Parse is safe for concurrent use.
func Parse(table *sources.Table, text string) (sources.Predicate, error) {
	normal := *table
	normal.Schema = sources.NormalizeSchema(table.Schema)
	table = &normal
	tr := &translator{text: text, table: table}
	if line, column, ok := invalidUTF8(text); ok {
		return nil, tr.faultAt(line, column, "the text is not valid UTF-8")
	}
	env, err := newEnv(table.Schema)
	if err != nil {
		return nil, fmt.Errorf("celfilter: table %q: %w", table.Name, err)
	}
	parsed, issues := env.Parse(text)
	if issues.Err() != nil {
		return nil, tr.issue(issues)
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, tr.issue(issues)
	}
	tr.info = checked.NativeRep().SourceInfo()
	return tr.predicate(checked.NativeRep().Expr())
}

// invalidUTF8 returns the line, from 1, and the column, from 0, of the first byte
// that is not UTF-8; false if there is none.
func invalidUTF8(text string) (line, column int, ok bool) {
	for i, r := range text {
		if r != utf8.RuneError {
			continue
		}
		if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
			before := text[:i]
			start := strings.LastIndexByte(before, '\n') + 1
			return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[start:]), true
		}
	}
	return 0, 0, false
}

// translator translates one checked expression.
type translator struct {
	text  string
	table *sources.Table
	info  *celast.SourceInfo
}
