package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/penstock-data/penstock/sources"
)

// physical reports whether a query's rows come as they lie on the disk: a whole
// table, or a part of one, that nobody wants in another order. The server then
// does the least that it can, and there is no key that it must look at.
func (t *table) physical(q *sources.Query) bool {
	return t.heap && q.Where == nil && q.Keys == nil && len(q.OrderBy) == 0
}

// choose makes the statement of a query that was checked. A condition alone does
// not say in which way the server will look for its rows: where it means to go
// through the table on the disk, they come as it finds them, without having to be
// sorted by a key; where an index serves the condition, in the order of the key.
// A cursor says which way was gone.
func (n *session) choose(ctx context.Context, m *member, t *table, st *sources.Table, q *sources.Query) (*statement, error) {
	b, err := build(t, st, q, byOrder)
	if err != nil {
		err = &sources.Error{Kind: sources.Invalid, Err: err}
	}
	if !t.heap || q.Where == nil || q.Keys != nil || len(q.OrderBy) > 0 {
		return b, err
	}
	disk, fault := build(t, st, q, byDisk)
	if fault != nil || q.After != nil && err == nil && t.order != nil {
		return b, err
	}
	explained, fault := m.explain(ctx, disk)
	switch {
	case fault != nil:
		return nil, n.fault(ctx, fault)
	case explained.node == "Tid Range Scan", explained.node == "Seq Scan":
		return disk, nil
	case q.After == nil:
		return b, err
	}
	return build(t, st, q, byDiskSorted)
}

// part is a range of a table's blocks, in one moment: from the first one to the
// one before end, which is 0 where the range has no end.
type part struct {
	first, end uint32
	moment     []byte
}

const (
	partVersion = 1
	partBytes   = 1 + 4 + 4 + digestBytes
)

var errPart = errors.New("the partition is not one of this table's plan")

// readPart reads what write wrote; no partition is the whole table.
func readPart(p sources.Part) (part, error) {
	if p == nil {
		return part{}, nil
	}
	if len(p) != partBytes || p[0] != partVersion {
		return part{}, errPart
	}
	r := part{binary.BigEndian.Uint32(p[1:]), binary.BigEndian.Uint32(p[5:]), p[9:]}
	if r.end != 0 && r.end <= r.first {
		return part{}, errPart
	}
	return r, nil
}

func (r part) write() sources.Part {
	out := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{partVersion}, r.first), r.end)
	return append(out, r.moment...)
}

// condition restricts a scan to the range. Also for the whole table it names the
// place of the rows, which keeps the server from reading an index in their place
// and makes it go through the blocks in their order.
func (r part) condition(b *statement) []string {
	block := func(n uint32) string {
		return b.param(oidTID, append(binary.BigEndian.AppendUint32(nil, n), 0, 0)) + "::pg_catalog.tid"
	}
	conditions := []string{"t.ctid >= " + block(r.first)}
	if r.end != 0 {
		conditions = append(conditions, "t.ctid < "+block(r.end))
	}
	return conditions
}

// The blocks of a partition: small enough that those who read the last ones end
// together, and enough of them that the beginning of a scan costs nothing.
const (
	leastBlocks = 512 // 4 MiB
	mostBlocks  = 16 << 10
	wantedParts = 64
)

// parts divides a table of so many blocks. The last part has no end, for rows
// that were added since the blocks were counted.
func parts(blocks int64, moment []byte) []sources.Part {
	step := max(leastBlocks, min(mostBlocks, blocks/wantedParts))
	var all []sources.Part
	for first := int64(0); ; first += step {
		r := part{first: uint32(first), moment: moment}
		if last := first+step >= blocks || first+2*step > math.MaxUint32; last {
			return append(all, r.write())
		}
		r.end = uint32(first + step)
		all = append(all, r.write())
	}
}

// place is where a table's rows are now: a number that changes when the table
// is rewritten, which moves its rows, or emptied. The table cannot be rewritten
// until the member's transaction goes back or ends, for it has a lock then.
func (m *member) place(ctx context.Context, t *table) (string, error) {
	results, err := m.conn.Conn().PgConn().Exec(ctx, fmt.Sprintf("SELECT FROM %s LIMIT 0; SELECT pg_catalog.pg_relation_filenode(%d)", t.from, t.oid)).ReadAll()
	if err != nil {
		m.mend()
		return "", fault(ctx, err)
	}
	if node := results[len(results)-1].Rows[0][0]; node != nil {
		return string(node), nil
	}
	return "", &sources.Error{Kind: sources.Invalid, Err: errors.New("the table is not the one that the catalogue has: open the source again")}
}
