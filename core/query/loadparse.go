package query

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// ParseLoad parses relations from text such as
//
//	customer,lines(where: qty > 1, order: [id:desc], limit: 5, columns: [sku, qty]).product
//
// in this grammar, whose options look like arguments in GraphQL:
//
//	load   = path { "," path }
//	path   = branch { "." branch }
//	branch = name [ "(" option { "," option } ")" ]
//	option = "where"   ":" condition
//	       | "order"   ":" ( term | "[" [ term { "," term } ] "]" )
//	       | "limit"   ":" number
//	       | "columns" ":" ( name | "[" [ name { "," name } ] "]" )
//	term   = name [ ":asc" | ":desc" ] [ ":nulls-first" | ":nulls-last" ]
//
// A name that contains punctuation or white space must be in double quotes, with
// each double quote in it doubled. A condition ends at a comma or a closing
// parenthesis outside its own brackets and quotes, and becomes
// [Branch.Condition]. Paths with the same beginning are merged.
//
// An error is of kind [sources.Invalid] and includes its position in characters,
// counted from 1.
func ParseLoad(s string) ([]Branch, error) {
	p := loadParser{text: s}
	var branches []Branch
	for {
		path, err := p.path()
		if err != nil {
			return nil, p.errorAt(err)
		}
		branches = append(branches, path)
		if p.atEnd() {
			break
		}
		if err := p.expect(','); err != nil {
			return nil, p.errorAt(err)
		}
	}
	branches, err := MergeBranches(nil, branches)
	if err != nil {
		return nil, sources.Errorf(sources.Invalid, "load", "", "%q: %w", s, err)
	}
	return branches, nil
}

// nameEnds are the characters that end a name without quotes.
const nameEnds = ",.:()[]\"'"

// maxPath is the maximum number of relations in a path. It exceeds any useful
// depth, and bounds the recursion over a path.
const maxPath = 100

// loadParser is a recursive-descent parser for the grammar of [ParseLoad].
type loadParser struct {
	text string
	pos  int // offset into text, in bytes
}

// errorAt adds the text and the current position to an error.
func (p *loadParser) errorAt(err error) error {
	column := len([]rune(p.text[:min(p.pos, len(p.text))])) + 1
	return sources.Errorf(sources.Invalid, "load", "", "%q, character %d: %w", p.text, column, err)
}

func (p *loadParser) skipSpace() {
	p.pos += len(p.text[p.pos:]) - len(strings.TrimLeft(p.text[p.pos:], " \t\r\n"))
}

func (p *loadParser) atEnd() bool {
	p.skipSpace()
	return p.pos == len(p.text)
}

// accept skips white space, then consumes c if it is the next character and
// reports whether it did.
func (p *loadParser) accept(c byte) bool {
	p.skipSpace()
	if p.pos < len(p.text) && p.text[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// expect consumes c. It returns an error if another character is next.
func (p *loadParser) expect(c byte) error {
	if p.accept(c) {
		return nil
	}
	if p.pos == len(p.text) {
		return fmt.Errorf("expected %q, found the end of the text", string(c))
	}
	return fmt.Errorf("expected %q", string(c))
}

// path parses a path. It returns the first branch, with the others below it.
func (p *loadParser) path() (Branch, error) {
	var branches []Branch
	for {
		branch, err := p.branch()
		if err != nil {
			return Branch{}, err
		}
		branches = append(branches, branch)
		if len(branches) > maxPath {
			return Branch{}, fmt.Errorf("the path has more than %d relations", maxPath)
		}
		if !p.accept('.') {
			break
		}
	}
	path := branches[len(branches)-1]
	for i := len(branches) - 2; i >= 0; i-- {
		branches[i].Below = []Branch{path}
		path = branches[i]
	}
	return path, nil
}

var loadOptions = []string{"where", "order", "limit", "columns"}

// branch parses a name and its options.
func (p *loadParser) branch() (Branch, error) {
	name, err := p.name("the name of a relation")
	branch := Branch{Name: name}
	if err != nil || !p.accept('(') {
		return branch, err
	}
	var seen []string
	for {
		p.skipSpace()
		start := p.pos
		option, err := p.name("an option")
		switch {
		case err != nil:
			return branch, err
		case !slices.Contains(loadOptions, option):
			p.pos = start
			return branch, fmt.Errorf("unknown option %q%s", option, sources.Suggest(option, loadOptions))
		case slices.Contains(seen, option):
			p.pos = start
			return branch, fmt.Errorf("the option %q is given twice", option)
		}
		seen = append(seen, option)
		if err := p.expect(':'); err != nil {
			return branch, err
		}
		if err := p.option(option, &branch); err != nil {
			return branch, err
		}
		if p.accept(',') {
			continue
		}
		return branch, p.expect(')')
	}
}

// option parses the value of an option into the branch.
func (p *loadParser) option(option string, branch *Branch) error {
	switch option {
	case "where":
		p.skipSpace()
		start := p.pos
		if err := p.skipCondition(); err != nil {
			return err
		}
		if branch.Condition = strings.TrimSpace(p.text[start:p.pos]); branch.Condition == "" {
			return errors.New("the condition is missing")
		}
	case "order":
		branch.OrderBy = []sources.Sort{}
		return p.list(func() error {
			sortTerm, err := p.sortTerm()
			branch.OrderBy = append(branch.OrderBy, sortTerm)
			return err
		})
	case "limit":
		p.skipSpace()
		start := p.pos
		digits, err := p.name("a number")
		if err != nil {
			return err
		}
		if branch.Limit, err = strconv.Atoi(digits); err != nil || branch.Limit < 1 {
			p.pos = start
			return fmt.Errorf("the limit must be a number of at least 1 (got %q)", digits)
		}
	case "columns":
		branch.Columns = []string{}
		return p.list(func() error {
			name, err := p.name("the name of a column")
			branch.Columns = append(branch.Columns, name)
			return err
		})
	}
	return nil
}

// list parses one item, or any number of them in brackets.
func (p *loadParser) list(item func() error) error {
	if !p.accept('[') {
		return item()
	}
	if p.accept(']') {
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if p.accept(',') {
			continue
		}
		return p.expect(']')
	}
}

// sortTerm parses a column with its direction and the order of NULL.
func (p *loadParser) sortTerm() (sources.Sort, error) {
	name, err := p.name("the name of a column")
	sortTerm := sources.Sort{Column: name}
	hasDirection, hasNulls := false, false
	for err == nil && p.accept(':') {
		p.skipSpace()
		start := p.pos
		var word string
		if word, err = p.name("asc, desc, nulls-first or nulls-last"); err != nil {
			break
		}
		switch {
		case (word == "asc" || word == "desc") && !hasDirection && !hasNulls:
			hasDirection, sortTerm.Desc = true, word == "desc"
		case (word == "nulls-first" || word == "nulls-last") && !hasNulls:
			hasNulls, sortTerm.NullsFirst = true, word == "nulls-first"
		default:
			p.pos = start
			err = fmt.Errorf("unexpected %q: a term is column[:asc|:desc][:nulls-first|:nulls-last]", word)
		}
	}
	return sortTerm, err
}

// name parses a name, with or without quotes. An error calls the name what.
func (p *loadParser) name(what string) (string, error) {
	p.skipSpace()
	rest := p.text[p.pos:]
	if !strings.HasPrefix(rest, `"`) {
		end := strings.IndexAny(rest, nameEnds)
		if end < 0 {
			end = len(rest)
		}
		name := strings.TrimRight(rest[:end], " \t\r\n")
		if name == "" {
			return "", fmt.Errorf("%s is missing", what)
		}
		p.pos += len(name)
		return name, nil
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
			return "", fmt.Errorf("%s is empty", what)
		default:
			p.pos += i + 1
			return b.String(), nil
		}
	}
	return "", errors.New("missing closing quote")
}

// skipCondition moves to the end of a condition. It understands brackets, and
// string literals in the syntax of Go, CEL and JSON.
func (p *loadParser) skipCondition() error {
	start := p.pos
	var closers []byte // the closing brackets that are due, innermost last
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		switch c {
		case '"', '\'':
			if !p.skipQuoted(c) {
				return errors.New("missing closing quote")
			}
			continue
		case '(', '[', '{':
			closers = append(closers, map[byte]byte{'(': ')', '[': ']', '{': '}'}[c])
		case ')', ']', '}':
			if len(closers) == 0 {
				if c == ')' {
					return nil
				}
				return fmt.Errorf("unexpected %q: no bracket is open", string(c))
			}
			if closers[len(closers)-1] != c {
				return fmt.Errorf("expected %q", string(closers[len(closers)-1]))
			}
			closers = closers[:len(closers)-1]
		case ',':
			if len(closers) == 0 {
				return nil
			}
		}
		p.pos++
	}
	if len(closers) > 0 {
		p.pos = start
		return fmt.Errorf("expected %q, found the end of the condition", string(closers[len(closers)-1]))
	}
	return nil
}

// skipQuoted moves past a string literal with single or triple quotes and reports
// whether the literal ends. A backslash escapes the next character, except in a
// literal prefixed by r.
func (p *loadParser) skipQuoted(quote byte) bool {
	raw := p.pos > 0 && (p.text[p.pos-1] == 'r' || p.text[p.pos-1] == 'R')
	end := string(quote)
	if triple := strings.Repeat(end, 3); strings.HasPrefix(p.text[p.pos:], triple) {
		end = triple
	}
	for i := p.pos + len(end); i < len(p.text); i++ {
		switch {
		case p.text[i] == '\\' && !raw:
			i++
		case strings.HasPrefix(p.text[i:], end):
			p.pos = i + len(end)
			return true
		}
	}
	return false
}
