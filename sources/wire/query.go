package wire

import (
	"cmp"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

type queryJSON struct {
	Table   text       `json:"table"`
	Columns []text     `json:"columns,omitzero"`
	Where   *predicate `json:"where,omitempty"`
	Keys    *keysJSON  `json:"keys,omitempty"`
	OrderBy []sortJSON `json:"order,omitzero"`
	Limit   int64      `json:"limit,omitzero"`
	After   []byte     `json:"after,omitzero"`
	Part    []byte     `json:"part,omitzero"`
}

type keysJSON struct {
	Columns []text      `json:"columns"`
	Values  []byte      `json:"values,omitzero"` // an Arrow IPC stream of one record
	From    *originJSON `json:"from,omitempty"`
	PerKey  int         `json:"per_key,omitzero"`
}

type originJSON struct {
	Table   text   `json:"table"`
	Columns []text `json:"columns"`
}

type sortJSON struct {
	Column     text `json:"column"`
	Desc       bool `json:"desc,omitzero"`
	NullsFirst bool `json:"nulls_first,omitzero"`
}

func queryOut(q *sources.Query) (*queryJSON, error) {
	out := &queryJSON{
		Table: text(q.Table), Columns: texts(q.Columns), Limit: q.Limit, After: q.After, Part: q.Part,
	}
	if q.Where != nil {
		out.Where = &predicate{q.Where}
	}
	if k := q.Keys; k != nil {
		out.Keys = &keysJSON{Columns: texts(k.Columns), PerKey: k.LimitPerKey}
		if k.From != nil {
			out.Keys.From = &originJSON{Table: text(k.From.Table), Columns: texts(k.From.Columns)}
		}
		if k.Values != nil {
			b, err := MarshalRecord(k.Values)
			if err != nil {
				return nil, err
			}
			out.Keys.Values = b
		}
	}
	if q.OrderBy != nil {
		out.OrderBy = make([]sortJSON, len(q.OrderBy))
	}
	for i, s := range q.OrderBy {
		out.OrderBy[i] = sortJSON{Column: text(s.Column), Desc: s.Desc, NullsFirst: s.NullsFirst}
	}
	return out, nil
}

func (in *queryJSON) query(mem memory.Allocator) (*sources.Query, error) {
	q := &sources.Query{
		Table: string(in.Table), Columns: stringsOf(in.Columns), Limit: in.Limit, After: in.After, Part: in.Part,
	}
	if in.Where != nil {
		q.Where = in.Where.Predicate
	}
	if in.OrderBy != nil {
		q.OrderBy = make([]sources.Sort, len(in.OrderBy))
	}
	for i, s := range in.OrderBy {
		q.OrderBy[i] = sources.Sort{Column: string(s.Column), Desc: s.Desc, NullsFirst: s.NullsFirst}
	}
	if k := in.Keys; k != nil {
		q.Keys = &sources.Keys{Columns: stringsOf(k.Columns), LimitPerKey: k.PerKey}
		if k.From != nil {
			q.Keys.From = &sources.KeyOrigin{Table: string(k.From.Table), Columns: stringsOf(k.From.Columns)}
		}
		if k.Values != nil {
			values, err := UnmarshalRecord(k.Values, mem)
			if err != nil {
				return nil, err
			}
			q.Keys.Values = values
		}
	}
	return q, nil
}

type planJSON struct {
	Rows     *int64   `json:"rows,omitempty"`
	Bytes    *int64   `json:"bytes,omitempty"`
	Version  text     `json:"version,omitempty"`
	State    text     `json:"state,omitempty"`
	Parts    [][]byte `json:"parts,omitzero"`
	Snapshot text     `json:"snapshot,omitempty"`
	Detail   prose    `json:"detail,omitempty"`
}

func planOut(p *sources.Plan) *planJSON {
	out := &planJSON{
		Rows: &p.Rows, Bytes: &p.Bytes, Version: text(p.Version), State: text(p.State), Snapshot: text(p.Snapshot), Detail: prose(p.Detail),
	}
	if p.Parts != nil {
		out.Parts = make([][]byte, len(p.Parts))
	}
	for i, part := range p.Parts {
		out.Parts[i] = part
	}
	return out
}

func (in *planJSON) plan() *sources.Plan {
	p := &sources.Plan{
		Rows: orUnknown(in.Rows), Bytes: orUnknown(in.Bytes),
		Version: string(in.Version), State: string(in.State), Snapshot: string(in.Snapshot), Detail: string(in.Detail),
	}
	if in.Parts != nil {
		p.Parts = make([]sources.Part, len(in.Parts))
	}
	for i, part := range in.Parts {
		p.Parts[i] = part
	}
	return p
}

func orUnknown(n *int64) int64 {
	if n == nil {
		return -1
	}
	return *n
}

type configJSON struct {
	URI     text            `json:"uri"`
	Options map[string]text `json:"options,omitzero"`
}

func configOut(c sources.Config) *configJSON {
	out := &configJSON{URI: text(c.URI)}
	if c.Options != nil {
		out.Options = make(map[string]text, len(c.Options))
	}
	for k, v := range c.Options {
		out.Options[k] = text(v)
	}
	return out
}

func (in *configJSON) config() sources.Config {
	c := sources.Config{URI: string(in.URI)}
	if in.Options != nil {
		c.Options = make(map[string]string, len(in.Options))
	}
	for k, v := range in.Options {
		c.Options[k] = string(v)
	}
	return c
}

// maxFlush bounds the time after which a scan hands on what it has, in milliseconds.
const maxFlush = 24 * 3600 * 1000

type envJSON struct {
	Page struct {
		Bytes int64 `json:"bytes,omitzero"`
		Rows  int64 `json:"rows,omitzero"`
	} `json:"page,omitzero"`
	Flush   int64 `json:"flush_ms,omitzero"`
	Join    text  `json:"join,omitempty"`
	Scratch text  `json:"scratch,omitempty"`
	Scans   int   `json:"scans,omitzero"`
	Stream  text  `json:"stream,omitempty"`
}

func envOut(e sources.Env) *envJSON {
	out := &envJSON{Join: text(e.Snapshot), Scratch: text(e.Scratch), Scans: e.MaxScans, Stream: text(e.Stream)}
	out.Page.Bytes, out.Page.Rows = e.Page.Bytes, e.Page.Rows
	if out.Flush = e.FlushAfter.Milliseconds(); out.Flush == 0 && e.FlushAfter != 0 {
		out.Flush = int64(cmp.Compare(e.FlushAfter, 0)) // less than a millisecond
	}
	return out
}

func (in *envJSON) env() sources.Env {
	return sources.Env{
		Page:       sources.Limits{Bytes: in.Page.Bytes, Rows: in.Page.Rows},
		FlushAfter: time.Duration(max(min(in.Flush, maxFlush), -1)) * time.Millisecond,
		Snapshot:   string(in.Join), Scratch: string(in.Scratch), MaxScans: in.Scans, Stream: string(in.Stream),
	}
}
