package wire

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/penstock-data/penstock/sources"
)

// maxDepth is the maximum nesting depth of a predicate. It bounds the stack of
// recursive functions.
const maxDepth = 100

// opNames holds the operators on the wire. They are append-only, and do not depend on
// the text of predicates.
var opNames = [...]string{
	sources.OpEq: "=", sources.OpNe: "<>", sources.OpLt: "<", sources.OpLe: "<=", sources.OpGt: ">", sources.OpGe: ">=",
	sources.OpIn: "in", sources.OpIsNull: "is null", sources.OpNotNull: "is not null",
	sources.OpPrefix: "has prefix", sources.OpLike: "like",
}

func parseOp(name string) (sources.Op, bool) {
	for o, n := range opNames {
		if n == name {
			return sources.Op(o), true
		}
	}
	return 0, false
}

// predicate is a predicate on the wire: {"op":"=","column":"a","value":{...}},
// {"op":"in","column":"a","values":[...]}, {"op":"is null","column":"a"},
// {"op":"like","column":"a","text":"x%"}, {"op":"and","of":[...]}.
type predicate struct{ sources.Predicate }

type predicateJSON struct {
	Op     string            `json:"op"`
	Column text              `json:"column,omitempty"`
	Value  *value            `json:"value,omitempty"`
	Values []json.RawMessage `json:"values,omitzero"`
	Text   *text             `json:"text,omitempty"`
	Of     []json.RawMessage `json:"of,omitzero"`
}

func (p predicate) MarshalJSON() ([]byte, error) {
	return marshalPredicate(p.Predicate, 1)
}

func marshalPredicate(p sources.Predicate, depth int) (json.RawMessage, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("the condition is nested more than %d levels deep", maxDepth)
	}
	var out predicateJSON
	var parts []sources.Predicate
	switch p := p.(type) {
	case nil:
		return json.RawMessage("null"), nil
	case sources.Comparison:
		if p.Op > sources.OpGe {
			return nil, fmt.Errorf("%s is not a comparison", p.Op)
		}
		out = predicateJSON{Op: opNames[p.Op], Column: text(p.Column), Value: &value{p.Value}}
	case sources.In:
		out = predicateJSON{Op: opNames[sources.OpIn], Column: text(p.Column), Values: make([]json.RawMessage, len(p.Values))}
		for i, v := range p.Values {
			b, err := value{v}.MarshalJSON()
			if err != nil {
				return nil, err
			}
			out.Values[i] = b
		}
	case sources.IsNull:
		out = predicateJSON{Op: opNames[sources.OpIsNull], Column: text(p.Column)}
		if p.Not {
			out.Op = opNames[sources.OpNotNull]
		}
	case sources.HasPrefix:
		t := text(p.Prefix)
		out = predicateJSON{Op: opNames[sources.OpPrefix], Column: text(p.Column), Text: &t}
	case sources.Like:
		t := text(p.Pattern)
		out = predicateJSON{Op: opNames[sources.OpLike], Column: text(p.Column), Text: &t}
	case sources.And:
		out.Op, parts = "and", p
	case sources.Or:
		out.Op, parts = "or", p
	case sources.Not:
		out.Op, parts = "not", []sources.Predicate{p.Predicate}
	default:
		return nil, fmt.Errorf("a condition of Go type %T cannot be encoded", p)
	}
	if out.Op == "and" || out.Op == "or" || out.Op == "not" {
		out.Of = make([]json.RawMessage, len(parts))
		for i, q := range parts {
			b, err := marshalPredicate(q, depth+1)
			if err != nil {
				return nil, err
			}
			out.Of[i] = b
		}
	}
	return marshal(out)
}

func (p *predicate) UnmarshalJSON(b []byte) error {
	out, err := unmarshalPredicate(b, 1)
	p.Predicate = out
	return err
}

func unmarshalPredicate(b []byte, depth int) (sources.Predicate, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("the condition is nested more than %d levels deep", maxDepth)
	}
	if bytes.Equal(b, []byte("null")) {
		return nil, nil
	}
	var in predicateJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, err
	}
	switch in.Op {
	case "and", "or", "not":
		parts := make([]sources.Predicate, len(in.Of))
		for i, b := range in.Of {
			q, err := unmarshalPredicate(b, depth+1)
			if err != nil {
				return nil, err
			}
			parts[i] = q
		}
		switch {
		case in.Op == "and":
			return sources.And(parts), nil
		case in.Op == "or":
			return sources.Or(parts), nil
		case len(parts) != 1:
			return nil, fmt.Errorf("\"not\" has %d conditions", len(parts))
		}
		return sources.Not{Predicate: parts[0]}, nil
	}
	op, ok := parseOp(in.Op)
	if !ok {
		return nil, fmt.Errorf("there is no operator %q", shorten(in.Op, 64))
	}
	switch op {
	case sources.OpIn:
		p := sources.In{Column: string(in.Column), Values: make([]sources.Value, len(in.Values))}
		for i, b := range in.Values {
			var v value
			if err := v.UnmarshalJSON(b); err != nil {
				return nil, err
			}
			p.Values[i] = v.Value
		}
		return p, nil
	case sources.OpIsNull, sources.OpNotNull:
		return sources.IsNull{Column: string(in.Column), Not: op == sources.OpNotNull}, nil
	case sources.OpPrefix, sources.OpLike:
		if in.Text == nil {
			return nil, fmt.Errorf("%q has no text", in.Op)
		}
		if op == sources.OpPrefix {
			return sources.HasPrefix{Column: string(in.Column), Prefix: string(*in.Text)}, nil
		}
		return sources.Like{Column: string(in.Column), Pattern: string(*in.Text)}, nil
	}
	if in.Value == nil {
		return nil, fmt.Errorf("%q has no value", in.Op)
	}
	return sources.Comparison{Column: string(in.Column), Op: op, Value: in.Value.Value}, nil
}
