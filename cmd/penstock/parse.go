package main

import (
	"math"
	"math/big"
	"regexp"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

var sizeUnits = map[string]int64{
	"": 1, "b": 1,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
	"kb": 1e3, "mb": 1e6, "gb": 1e9,
}

// sizeNumber matches the number of a size. It bounds the exponent, so that a
// short text cannot make a huge number.
var sizeNumber = regexp.MustCompile(`^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?$`)

// parseSize parses a number of bytes, such as 64MiB, 1.5 GB or 65536.
func parseSize(s string) (int64, error) {
	text := strings.TrimSpace(s)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit, ok := sizeUnits[strings.ToLower(text[len(digits):])]
	digits = strings.TrimSpace(digits)
	number := new(big.Rat)
	if ok = ok && len(digits) <= 1000 && sizeNumber.MatchString(digits); ok {
		_, ok = number.SetString(digits)
	}
	if !ok || number.Sign() < 0 {
		return 0, usagef("%q is not a size: write a number of bytes, or a number with KiB, MiB, GiB, KB, MB or GB, such as 64MiB", s)
	}
	number.Mul(number, new(big.Rat).SetInt64(unit))
	if number.Cmp(new(big.Rat).SetInt64(math.MaxInt64)) > 0 {
		return 0, usagef("%q is too large for a size", s)
	}
	// A fraction of a byte is dropped, so that a limit is never exceeded.
	bytes := new(big.Int).Quo(number.Num(), number.Denom()).Int64()
	if bytes == 0 {
		return 0, usagef("%q is less than a byte", s)
	}
	return bytes, nil
}

// listTerm is one entry of a list flag: a name and the words after its colons.
type listTerm struct {
	name  string
	words []string
}

// parseTerms parses a list such as "a,b:desc". A name in double quotes may contain
// commas and colons; a double quote in it is doubled, as in CSV.
func parseTerms(flag, s string) ([]listTerm, error) {
	var terms []listTerm
	for rest := s; ; {
		var t listTerm
		if strings.HasPrefix(rest, `"`) {
			name, after, ok := unquote(rest)
			if !ok {
				return nil, usagef("--%s: a quoted name is not closed in %s", flag, s)
			}
			t.name, rest = name, after
			if rest != "" && rest[0] != ',' && rest[0] != ':' {
				return nil, usagef("--%s: a comma is missing after %q", flag, name)
			}
		} else {
			end := strings.IndexAny(rest, ",:")
			if end < 0 {
				end = len(rest)
			}
			t.name, rest = strings.TrimSpace(rest[:end]), rest[end:]
		}
		if t.name == "" {
			return nil, usagef("--%s: a column name is missing in %q", flag, s)
		}
		for strings.HasPrefix(rest, ":") {
			end := strings.IndexAny(rest[1:], ",:")
			if end < 0 {
				end = len(rest) - 1
			}
			t.words = append(t.words, strings.TrimSpace(rest[1:1+end]))
			rest = rest[1+end:]
		}
		terms = append(terms, t)
		if rest == "" {
			return terms, nil
		}
		rest = strings.TrimLeft(rest[1:], " ")
	}
}

// unquote returns the quoted text at the beginning of s and the rest of s.
func unquote(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for s = s[1:]; ; {
		end := strings.IndexByte(s, '"')
		if end < 0 {
			return "", "", false
		}
		b.WriteString(s[:end])
		s = s[end+1:]
		if !strings.HasPrefix(s, `"`) {
			return b.String(), s, true
		}
		b.WriteByte('"')
		s = s[1:]
	}
}

// parseColumns parses --columns.
func parseColumns(s string) ([]string, error) {
	terms, err := parseTerms("columns", s)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(terms))
	for i, t := range terms {
		if len(t.words) > 0 {
			return nil, usagef(`--columns: put a name with a colon in double quotes, as in '"%s:%s"'`, t.name, strings.Join(t.words, ":"))
		}
		names[i] = t.name
	}
	return names, nil
}

// parseOrder parses --order-by: column[:asc|:desc][:nulls-first|:nulls-last].
func parseOrder(s string) ([]sources.Sort, error) {
	terms, err := parseTerms("order-by", s)
	if err != nil {
		return nil, err
	}
	order := make([]sources.Sort, len(terms))
	for i, t := range terms {
		order[i].Column = t.name
		direction, nulls := false, false
		for _, word := range t.words {
			switch {
			case (word == "asc" || word == "desc") && !direction && !nulls:
				direction, order[i].Desc = true, word == "desc"
			case (word == "nulls-first" || word == "nulls-last") && !nulls:
				nulls, order[i].NullsFirst = true, word == "nulls-first"
			default:
				return nil, usagef("--order-by: unexpected %q: write column[:asc|:desc][:nulls-first|:nulls-last]", word)
			}
		}
	}
	return order, nil
}
