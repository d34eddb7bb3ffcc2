package outputs

import (
	"github.com/apache/arrow-go/v18/arrow"
)

// ndjsonEncoder writes one JSON object per line, with the columns in order.
type ndjsonEncoder struct {
	out  *buffer
	keys [][]byte // what precedes each value: a bracket or a comma, the name, a colon
}

func newNDJSON(out *buffer, schema *arrow.Schema, _ Options) (encoder, error) {
	keys := jsonNames(schema.Fields())
	for i, key := range keys {
		before := byte(',')
		if i == 0 {
			before = '{'
		}
		keys[i] = append([]byte{before}, key...)
	}
	return &ndjsonEncoder{out: out, keys: keys}, nil
}

func (n *ndjsonEncoder) begin(bool) error { return nil }
func (n *ndjsonEncoder) end() error       { return nil }
func (n *ndjsonEncoder) abort()           {}

func (n *ndjsonEncoder) write(record arrow.RecordBatch) error {
	return n.writeCells(cellsOfAll(record), int(record.NumRows()))
}

func (n *ndjsonEncoder) writeCells(columns []*cells, rows int) error {
	for row := range rows {
		text := n.out.text
		if len(columns) == 0 {
			text = append(text, '{')
		}
		for i, c := range columns {
			text = c.json(append(text, n.keys[i]...), row)
		}
		n.out.text = append(text, '}', '\n')
		if err := n.out.endRow(); err != nil {
			return err
		}
	}
	return nil
}
