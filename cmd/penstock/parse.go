package main

import (
	"math"
	"math/big"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

var sizeUnits = map[string]int64{
	"": 1, "b": 1,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
	"kb": 1e3, "mb": 1e6, "gb": 1e9,
}

// parseSize reads a number of bytes, as in 64MiB, 1.5 GB or 65536.
func parseSize(s string) (int64, error) {
	text := strings.TrimSpace(s)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit, ok := sizeUnits[strings.ToLower(text[len(digits):])]
	number, isNumber := parseDecimal(strings.TrimSpace(digits))
	if !ok || !isNumber || number.Sign() < 0 {
		return 0, usagef("%q is not a size: write it as 64MiB, with KiB, MiB, GiB, KB, MB or GB, or as bytes", s)
	}
	number.Mul(number, new(big.Rat).SetInt64(unit))
	if number.Cmp(new(big.Rat).SetInt64(math.MaxInt64)) > 0 {
		return 0, usagef("%q is more than any machine has", s)
	}
	// A part of a byte is dropped: it cannot make the limit larger.
	bytes := new(big.Int).Quo(number.Num(), number.Denom()).Int64()
	if bytes == 0 {
		return 0, usagef("%q is no memory at all", s)
	}
	return bytes, nil
}

// listTerm is one entry of a list flag: a name, and what followed it after colons.
type listTerm struct {
	name  string
	words []string
}

// parseTerms reads "a,b:desc". A name in double quotes may hold commas and
// colons; a double quote in it is doubled, as in CSV.
func parseTerms(flag, s string) ([]listTerm, error) {
	var terms []listTerm
	for rest := s; ; {
		var t listTerm
		if strings.HasPrefix(rest, `"`) {
			name, after, ok := unquote(rest)
			if !ok {
				return nil, usagef("--%s: a quoted name has no end in %s", flag, s)
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
			return nil, usagef("--%s: a column's name is missing in %q", flag, s)
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

// unquote reads the quoted text that s begins with, and returns what follows.
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

// parseColumns reads --columns.
func parseColumns(s string) ([]string, error) {
	terms, err := parseTerms("columns", s)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(terms))
	for i, t := range terms {
		if len(t.words) > 0 {
			return nil, usagef(`--columns: a name with a colon goes in double quotes, as in '"%s:%s"'`, t.name, strings.Join(t.words, ":"))
		}
		names[i] = t.name
	}
	return names, nil
}

// parseOrder reads --order-by: column[:asc|:desc][:nulls-first|:nulls-last].
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
				return nil, usagef("--order-by: %q does not belong there: it is column[:asc|:desc][:nulls-first|:nulls-last]", word)
			}
		}
	}
	return order, nil
}
