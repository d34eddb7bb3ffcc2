package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/penstock-data/penstock/sources"
)

// usesCtidScan reports whether a scan of a query reads rows in physical order by their
// ctid: the whole table or a partition, without a condition or an order. This is the
// cheapest way for the server, and needs no key.
func (t *table) usesCtidScan(q *sources.Query) bool {
	return t.heap && q.Where == nil && q.Keys == nil && len(q.OrderBy) == 0
}

// chooseStatement returns the statement for a query that was checked. For a query with
// only a condition, the server may read the whole table or use an index. In the first
// case the statement returns rows in physical order, without sorting them by a key; in
// the second, in the order of the key. A cursor tells which case it belongs to.
func (n *session) chooseStatement(ctx context.Context, m *snapshotConn, t *table, st *sources.Table, q *sources.Query) (*statement, error) {
	q, err := n.dropInvalidKeys(ctx, m, t, st, q)
	if err != nil {
		return nil, err
	}
	b, err := n.c.buildStatement(t, st, q, keyOrder)
	if err != nil {
		err = sources.NewError(sources.Invalid, "", "", err)
	}
	if !t.heap || q.Where == nil || q.Keys != nil || len(q.OrderBy) > 0 {
		return b, err
	}
	disk, fault := n.c.buildStatement(t, st, q, heapOrder)
	if fault != nil || q.After != nil && err == nil && t.order != nil {
		return b, err
	}
	explained, fault := m.explain(ctx, disk)
	switch {
	case fault != nil:
		return nil, n.translateError(ctx, fault)
	case explained.node == "Tid Range Scan", explained.node == "Seq Scan":
		return disk, nil
	case q.After == nil:
		return b, err
	}
	return n.c.buildStatement(t, st, q, heapOrderSorted)
}

// blockRange is a range of a table's blocks in one snapshot, from first to the one before
// end. An end of 0 means that the range has no end.
type blockRange struct {
	first, end uint32
	snapshot   []byte
}

const (
	partitionVersion = 1
	partitionBytes   = 1 + 4 + 4 + digestBytes
)

var errPartition = errors.New("the partition does not belong to a plan of this table")

// readPartition decodes the result of blockRange.partition. Nil is the whole table.
func readPartition(p sources.Part) (blockRange, error) {
	if p == nil {
		return blockRange{}, nil
	}
	if len(p) != partitionBytes || p[0] != partitionVersion {
		return blockRange{}, errPartition
	}
	r := blockRange{binary.BigEndian.Uint32(p[1:]), binary.BigEndian.Uint32(p[5:]), p[9:]}
	if r.end != 0 && r.end <= r.first {
		return blockRange{}, errPartition
	}
	return r, nil
}

func (r blockRange) partition() sources.Part {
	out := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{partitionVersion}, r.first), r.end)
	return append(out, r.snapshot...)
}

// condition returns conditions that restrict a scan to the range. There is a condition on
// ctid even for the whole table, so that the server reads the blocks in order instead of
// an index.
func (r blockRange) condition(b *statement) []string {
	block := func(n uint32) string {
		return b.param(oidTID, append(binary.BigEndian.AppendUint32(nil, n), 0, 0)) + "::pg_catalog.tid"
	}
	conditions := []string{"t.ctid >= " + block(r.first)}
	if r.end != 0 {
		conditions = append(conditions, "t.ctid < "+block(r.end))
	}
	return conditions
}

// The number of blocks of a partition: small enough that concurrent scans finish at about
// the same time, and large enough that the start of a scan does not matter.
const (
	minPartitionBlocks = 512 // 4 MiB
	maxPartitionBlocks = 16 << 10
	targetPartitions   = 64
)

// splitBlocks divides a table with the given number of blocks into partitions. The last one
// has no end, for rows that are added after the blocks were counted.
func splitBlocks(blocks int64, snapshot []byte) []sources.Part {
	step := max(minPartitionBlocks, min(maxPartitionBlocks, blocks/targetPartitions))
	var all []sources.Part
	for first := int64(0); ; first += step {
		r := blockRange{first: uint32(first), snapshot: snapshot}
		if last := first+step >= blocks || first+2*step > math.MaxUint32; last {
			return append(all, r.partition())
		}
		r.end = uint32(first + step)
		all = append(all, r.partition())
	}
}

// filenode returns a number that changes when the table is rewritten, which moves its rows,
// or truncated. It locks the table, so that it cannot be rewritten until the transaction
// rolls back or ends.
func (m *snapshotConn) filenode(ctx context.Context, t *table) (string, error) {
	results, err := m.conn.Conn().PgConn().Exec(ctx, fmt.Sprintf("SELECT FROM %s LIMIT 0; SELECT pg_catalog.pg_relation_filenode(%d)", t.from, t.oid)).ReadAll()
	if err != nil {
		m.rollBack()
		return "", translateError(ctx, err)
	}
	if node := results[len(results)-1].Rows[0][0]; node != nil {
		return string(node), nil
	}
	return "", sources.Errorf(sources.Invalid, "", "", "the table has been replaced since the catalog was read: open the source again")
}
