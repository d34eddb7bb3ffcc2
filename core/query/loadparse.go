package query

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// ParseLoad reads relations from a text such as
//
//	customer,lines(where: qty > 1, order: [id:desc], limit: 5, columns: [sku, qty]).product
//
// which has the look of GraphQL's arguments:
//
//	load   = path { "," path }
//	path   = branch { "." branch }
//	branch  = name [ "(" option { "," option } ")" ]
//	option = "where"   ":" condition
//	       | "order"   ":" ( term | "[" [ term { "," term } ] "]" )
//	       | "limit"   ":" number
//	       | "columns" ":" ( name | "[" [ name { "," name } ] "]" )
//	term   = name [ ":asc" | ":desc" ] [ ":nulls-first" | ":nulls-last" ]
//
// A name with one of these characters or a space in it stands in double quotes,
// and a double quote within it is doubled. A condition is anything up to a comma
// or a parenthesis that is not within brackets or quotes of its own; it becomes
// [Branch.Condition]. Paths that begin alike are merged. An error is of kind
// [sources.Invalid] and says where it is, in characters from 1.
func ParseLoad(s string) ([]Branch, error) {
	p := loadParser{text: s}
	var branches []Branch
	for {
		path, err := p.path()
		if err != nil {
			return nil, p.at(err)
		}
		branches = append(branches, path)
		if p.done() {
			break
		}
		if err := p.want(','); err != nil {
			return nil, p.at(err)
		}
	}
	branches, err := MergeBranches(nil, branches)
	if err != nil {
		return nil, &sources.Error{Op: "load", Kind: sources.Invalid, Err: fmt.Errorf("%q: %w", s, err)}
	}
	return branches, nil
}

// nameEnds are the characters that a name without quotes cannot hold.
const nameEnds = ",.:()[]\"'"

// maxPath is how many branches a path may have: far more than any depth that is of
// use, and few enough for the stack.
const maxPath = 100

type loadParser struct {
	text string
	pos  int // in bytes
}

// at says where an error is.
func (p *loadParser) at(err error) error {
	column := len([]rune(p.text[:min(p.pos, len(p.text))])) + 1
	return &sources.Error{Op: "load", Kind: sources.Invalid, Err: fmt.Errorf("%q, character %d: %w", p.text, column, err)}
}

func (p *loadParser) space() {
	p.pos += len(p.text[p.pos:]) - len(strings.TrimLeft(p.text[p.pos:], " \t\r\n"))
}

func (p *loadParser) done() bool {
	p.space()
	return p.pos == len(p.text)
}

// take moves over one character, where it is the next.
func (p *loadParser) take(c byte) bool {
	p.space()
	if p.pos < len(p.text) && p.text[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *loadParser) want(c byte) error {
	if p.take(c) {
		return nil
	}
	if p.pos == len(p.text) {
		return fmt.Errorf("the text ends where a %q should be", string(c))
	}
	return fmt.Errorf("a %q should be here", string(c))
}

func (p *loadParser) path() (Branch, error) {
	var branches []Branch
	for {
		branch, err := p.branch()
		if err != nil {
			return Branch{}, err
		}
		branches = append(branches, branch)
		if len(branches) > maxPath {
			return Branch{}, fmt.Errorf("a path of more than %d relations", maxPath)
		}
		if !p.take('.') {
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

func (p *loadParser) branch() (Branch, error) {
	name, err := p.name("the name of a relation")
	branch := Branch{Name: name}
	if err != nil || !p.take('(') {
		return branch, err
	}
	var seen []string
	for {
		p.space()
		start := p.pos
		option, err := p.name("an option")
		switch {
		case err != nil:
			return branch, err
		case !slices.Contains(loadOptions, option):
			p.pos = start
			return branch, fmt.Errorf("there is no option %q%s", option, sources.Suggest(option, loadOptions))
		case slices.Contains(seen, option):
			p.pos = start
			return branch, fmt.Errorf("the option %q is there twice", option)
		}
		seen = append(seen, option)
		if err := p.want(':'); err != nil {
			return branch, err
		}
		if err := p.option(option, &branch); err != nil {
			return branch, err
		}
		if p.take(',') {
			continue
		}
		return branch, p.want(')')
	}
}

func (p *loadParser) option(option string, branch *Branch) error {
	switch option {
	case "where":
		p.space()
		start := p.pos
		if err := p.condition(); err != nil {
			return err
		}
		if branch.Condition = strings.TrimSpace(p.text[start:p.pos]); branch.Condition == "" {
			return errors.New("the condition is missing")
		}
	case "order":
		branch.OrderBy = []sources.Sort{}
		return p.list(func() error {
			term, err := p.term()
			branch.OrderBy = append(branch.OrderBy, term)
			return err
		})
	case "limit":
		p.space()
		start := p.pos
		digits, err := p.name("a number")
		if err != nil {
			return err
		}
		if branch.Limit, err = strconv.Atoi(digits); err != nil || branch.Limit < 1 {
			p.pos = start
			return fmt.Errorf("the limit %q is no number from 1 on", digits)
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

// list reads one item, or any number of them in brackets.
func (p *loadParser) list(item func() error) error {
	if !p.take('[') {
		return item()
	}
	if p.take(']') {
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if p.take(',') {
			continue
		}
		return p.want(']')
	}
}

func (p *loadParser) term() (sources.Sort, error) {
	name, err := p.name("the name of a column")
	term := sources.Sort{Column: name}
	direction, nulls := false, false
	for err == nil && p.take(':') {
		p.space()
		start := p.pos
		var word string
		if word, err = p.name("asc, desc, nulls-first or nulls-last"); err != nil {
			break
		}
		switch {
		case (word == "asc" || word == "desc") && !direction && !nulls:
			direction, term.Desc = true, word == "desc"
		case (word == "nulls-first" || word == "nulls-last") && !nulls:
			nulls, term.NullsFirst = true, word == "nulls-first"
		default:
			p.pos = start
			err = fmt.Errorf("%q does not belong here: a term is column[:asc|:desc][:nulls-first|:nulls-last]", word)
		}
	}
	return term, err
}

// name reads a name, in quotes or without.
func (p *loadParser) name(what string) (string, error) {
	p.space()
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
	return "", errors.New("the quotes have no end")
}

// condition moves to the end of a condition. It knows of its language only
// brackets, and quotes as Go, CEL and JSON have them.
func (p *loadParser) condition() error {
	start := p.pos
	var open []byte // the brackets that are expected
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		switch c {
		case '"', '\'':
			if !p.quoted(c) {
				return errors.New("the quotes have no end")
			}
			continue
		case '(', '[', '{':
			open = append(open, map[byte]byte{'(': ')', '[': ']', '{': '}'}[c])
		case ')', ']', '}':
			if len(open) == 0 {
				if c == ')' {
					return nil
				}
				return fmt.Errorf("a %q that nothing opened", string(c))
			}
			if open[len(open)-1] != c {
				return fmt.Errorf("a %q should be here", string(open[len(open)-1]))
			}
			open = open[:len(open)-1]
		case ',':
			if len(open) == 0 {
				return nil
			}
		}
		p.pos++
	}
	if len(open) > 0 {
		p.pos = start
		return fmt.Errorf("the condition ends where a %q should be", string(open[len(open)-1]))
	}
	return nil
}

// quoted moves behind a text in quotes, which may be three; a backslash takes
// the meaning from what follows, but after an r before the quotes.
func (p *loadParser) quoted(quote byte) bool {
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
