package relation

import (
	"fmt"
	"strings"

	"github.com/penstock-data/penstock/core/query"
)

// Plan describes how one relation is loaded.
type Plan struct {
	Path     string `json:"path"`     // names of relations, such as lines.product
	Kind     string `json:"kind"`     // the [sources.RelationKind], such as belongs_to
	Depth    int    `json:"depth"`    // the number of relations in Path
	Required bool   `json:"required"` // the relation is a column of every record
	On       string `json:"on"`       // the join condition, such as customer_id = customers.id
	// Steps are the look-ups for each chunk: one, or two for a relation through a
	// join table.
	Steps     []LookupPlan `json:"steps"`
	Rows      *int64       `json:"rows"`  // estimate for each chunk; nil if unknown
	Bytes     *int64       `json:"bytes"` // estimate for each chunk; nil if unknown
	Relations []Plan       `json:"relations"`
}

// LookupPlan describes one look-up of a relation.
type LookupPlan struct {
	Table string   `json:"table"`
	By    []string `json:"by"`
	// Scan means that the table has no look-up by these columns and is scanned as
	// a whole for each chunk.
	Scan bool `json:"scan"`
	// KeysAtOnce is how many keys one look-up takes; 0 means any number.
	KeysAtOnce int `json:"keys_at_once"`
	// Keys and Lookups are the estimated maximum for each chunk; nil if unknown.
	// Keys that are cached are not looked up.
	Keys       *int64     `json:"keys"`
	Lookups    *int64     `json:"lookups"`
	Remembered bool       `json:"remembered"`       // rows are cached between chunks
	Source     query.Work `json:"source"`           // what the source does
	Engine     query.Work `json:"engine"`           // what the engine does
	Detail     string     `json:"detail,omitempty"` // the source's own description
}

// WritePlans writes plans as a tree. Each line begins with indent.
func WritePlans(b *strings.Builder, plans []Plan, indent string) {
	for i, p := range plans {
		branch, below := "├─ ", "│    "
		if i == len(plans)-1 {
			branch, below = "└─ ", "     "
		}
		optional := ""
		if !p.Required {
			optional = ", optional"
		}
		head := fmt.Sprintf("%s: %s%s on %s, depth %d, for each chunk %s", p.Path, p.Kind, optional, p.On, p.Depth, query.FormatAmount(p.Rows, p.Bytes))
		b.WriteString(indent + branch + query.OneLine(head) + "\n")
		inner := indent + below
		if len(p.Relations) > 0 {
			inner = indent + strings.TrimRight(below, " ")
			inner += strings.Repeat(" ", 3-len([]rune(strings.TrimRight(below, " ")))) + "│ "
		}
		line := func(format string, args ...any) {
			b.WriteString(inner + query.OneLine(fmt.Sprintf(format, args...)) + "\n")
		}
		for _, s := range p.Steps {
			s.write(line)
		}
		WritePlans(b, p.Relations, indent+below[:len(below)-2])
	}
}

// write writes the lines of one look-up.
func (s LookupPlan) write(line func(string, ...any)) {
	if s.Scan {
		line("scans %s for each chunk, because it has no look-up by %s", s.Table, strings.Join(s.By, ", "))
	} else {
		atOnce := "any number of keys at once"
		if s.KeysAtOnce > 0 {
			atOnce = query.FormatCount(int64(s.KeysAtOnce), "key") + " at once"
		}
		line("looks up %s by %s, %s", s.Table, strings.Join(s.By, ", "), atOnce)
	}
	figures := ""
	if s.Keys != nil {
		figures = "at most " + query.FormatCount(*s.Keys, "key")
	}
	if s.Lookups != nil {
		figures = strings.TrimPrefix(figures+" in "+query.FormatCount(*s.Lookups, "look-up"), " in ")
	}
	if s.Remembered {
		figures = strings.TrimPrefix(figures+", fewer if rows are cached", ", ")
	}
	if figures != "" {
		line("for each chunk %s", figures)
	}
	s.Source.Write(line, "source", " for each key")
	s.Engine.Write(line, "engine", " for each key")
	if s.Detail != "" {
		line("%s", s.Detail)
	}
}
