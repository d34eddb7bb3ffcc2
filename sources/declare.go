package sources

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ParseForeignKeys parses foreign keys that a user declares where the data has none, one
// for each line, such as
//
//	payment.rental_id->rental.rental_id
//	lines.(order_id, "line no")->"order lines".(order_id, no)
//
// in this grammar:
//
//	key   = end "->" end
//	end   = name { "." name } "." ( name | "(" name { "," name } ")" )
//
// The last name of an end, or the names in parentheses, are columns. Those before it are
// the table, with its schema if it has one. A name that contains punctuation or white
// space must be in double quotes, with each double quote in it doubled. Both ends have
// as many columns. Empty lines are skipped.
//
// Sources take such a text as the option "relation", which may be repeated in a URI, and
// check the keys with [Catalog.CheckForeignKeys]. An error includes the line, and the
// position in characters, counted from 1; it has no kind.
func ParseForeignKeys(text string) ([]ForeignKey, error) {
	var keys []ForeignKey
	for _, line := range strings.Split(text, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		p := keyParser{text: line}
		k, err := p.key()
		if err != nil {
			return nil, fmt.Errorf("%q, character %d: %w; write TABLE.COLUMN->TABLE.COLUMN, or TABLE.(A,B)->TABLE.(A,B)",
				line, len([]rune(line[:p.pos]))+1, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// CheckForeignKeys returns an error of kind [Invalid] if a key of the option "relation"
// names a table or a column that the catalog does not have. The error names the nearest.
func (c *Catalog) CheckForeignKeys(keys []ForeignKey) error {
	var faults []error
	for _, k := range keys {
		for table, columns := range map[string][]string{k.Table: k.Columns, k.TargetTable: k.TargetColumns} {
			if k.Table == k.TargetTable {
				columns = slices.Concat(k.Columns, k.TargetColumns)
			}
			t := c.Table(table)
			if t == nil {
				faults = append(faults, fmt.Errorf("%s: there is no table %q%s", k, table, Suggest(table, c.tableNames())))
				continue
			}
			for _, column := range columns {
				if t.Column(column) < 0 {
					faults = append(faults, fmt.Errorf("%s: the table %q has no column %q%s", k, table, column, Suggest(column, t.columns())))
				}
			}
		}
	}
	if len(faults) == 0 {
		return nil
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return NewError(Invalid, "catalog", "", fmt.Errorf("option %q: %w", "relation", errors.Join(faults...)))
}

// String returns the key as text that [ParseForeignKeys] accepts.
func (k ForeignKey) String() string {
	end := func(table string, columns []string) string {
		quoted := make([]string, len(columns))
		for i, c := range columns {
			quoted[i] = quoteName(c)
		}
		parts := strings.Split(table, ".")
		for i, part := range parts {
			if parts[i] = quoteName(part); part == "" { // the table is a name with dots of its own
				parts = []string{quoteName(table)}
				break
			}
		}
		if len(columns) == 1 {
			return strings.Join(parts, ".") + "." + quoted[0]
		}
		return strings.Join(parts, ".") + ".(" + strings.Join(quoted, ",") + ")"
	}
	return end(k.Table, k.Columns) + "->" + end(k.TargetTable, k.TargetColumns)
}

// quoteName returns a name with quotes, if the grammar requires them.
func quoteName(name string) string {
	if name != "" && !strings.ContainsAny(name, keyNameEnds) && !strings.Contains(name, "->") && strings.TrimSpace(name) == name && !strings.HasSuffix(name, "-") {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// keyNameEnds are the characters that end a name without quotes.
const keyNameEnds = ".,()\" \t\r\n"

// keyParser is a parser for one line of [ParseForeignKeys].
type keyParser struct {
	text string
	pos  int // in bytes
}

func (p *keyParser) key() (k ForeignKey, err error) {
	if k.Table, k.Columns, err = p.end(); err != nil {
		return k, err
	}
	if !p.accept("->") {
		return k, p.expected(`"->"`)
	}
	start := p.pos
	if k.TargetTable, k.TargetColumns, err = p.end(); err != nil {
		return k, err
	}
	if p.skipSpace(); p.pos < len(p.text) {
		return k, p.expected("the end of the line")
	}
	if len(k.Columns) != len(k.TargetColumns) {
		p.pos = start
		return k, fmt.Errorf("the key has %d columns, and refers to %d", len(k.Columns), len(k.TargetColumns))
	}
	return k, nil
}

// end parses a table and columns of it.
func (p *keyParser) end() (table string, columns []string, err error) {
	var names []string
	for {
		if len(names) > 0 && p.accept("(") {
			for {
				column, err := p.name("the name of a column")
				if err != nil {
					return "", nil, err
				}
				columns = append(columns, column)
				if p.accept(",") {
					continue
				}
				if !p.accept(")") {
					return "", nil, p.expected(`"," or ")"`)
				}
				return strings.Join(names, "."), columns, nil
			}
		}
		what := "the name of a column"
		if len(names) == 0 {
			what = "the name of a table"
		}
		name, err := p.name(what)
		if err != nil {
			return "", nil, err
		}
		names = append(names, name)
		if p.accept(".") {
			continue
		}
		if len(names) == 1 {
			return "", nil, p.expected(`"." and a column`)
		}
		last := len(names) - 1
		return strings.Join(names[:last], "."), names[last:], nil
	}
}

func (p *keyParser) skipSpace() {
	p.pos += len(p.text[p.pos:]) - len(strings.TrimLeft(p.text[p.pos:], " \t\r"))
}

// accept skips white space, then consumes the word if it is next, and reports whether it
// did.
func (p *keyParser) accept(word string) bool {
	p.skipSpace()
	if strings.HasPrefix(p.text[p.pos:], word) {
		p.pos += len(word)
		return true
	}
	return false
}

func (p *keyParser) expected(what string) error {
	if p.pos == len(p.text) {
		return fmt.Errorf("expected %s, found the end of the line", what)
	}
	return fmt.Errorf("expected %s", what)
}

// name parses a name, with or without quotes.
func (p *keyParser) name(what string) (string, error) {
	p.skipSpace()
	rest := p.text[p.pos:]
	if !strings.HasPrefix(rest, `"`) {
		end := len(rest)
		for _, at := range []int{strings.IndexAny(rest, keyNameEnds), strings.Index(rest, "->")} {
			if at >= 0 {
				end = min(end, at)
			}
		}
		if end == 0 {
			return "", p.expected(what)
		}
		p.pos += end
		return rest[:end], nil
	}
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] != '"':
			b.WriteByte(rest[i])
		case i+1 < len(rest) && rest[i+1] == '"':
			i++
			b.WriteByte('"')
		case b.Len() == 0:
			return "", errors.New("a name is empty")
		default:
			p.pos += i + 1
			return b.String(), nil
		}
	}
	return "", errors.New("the closing quote is missing")
}
