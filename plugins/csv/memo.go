package csv

import (
	"container/list"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"
)

// sampleKey identifies a file and how it is read.
type sampleKey [sha256.Size]byte

// sampleMemo remembers the samples of files for all sources of the process. It drops
// those that were not used for the longest time. It is safe for concurrent use.
type sampleMemo struct {
	most int64 // bytes

	mu    sync.Mutex
	bytes int64
	order list.List // of *memoEntry, the last used one first
	byKey map[sampleKey]*list.Element
}

type memoEntry struct {
	key    sampleKey
	sample *fileSample
	bytes  int64
}

// remembered is outside of every budget, so it is small.
var remembered = sampleMemo{most: 4 << 20}

// sampleKey returns the key of a table's file. ok is false if the state of the file does
// not identify its contents. The names of earlier files matter only where a file
// has none of its own.
func (s *source) sampleKey(t *table, f *tableFile, budget int64) (key sampleKey, ok bool) {
	if f.onePass != nil || f.state.inode == (inode{}) || !f.state.settled(time.Now()) {
		return key, false
	}
	o := &s.options
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %s\n%+v\n%q %t %d %t %t %d %t\n", f.name, f.state.strict(), t.dialect, o.Null, o.Distinct, o.Sample, o.Text, o.SkipBad, budget, t.inferred)
	switch {
	case !t.inferred:
		fmt.Fprintf(sum, "%#v %v", t.columns, t.inferDetail)
	case !t.dialect.header && !s.unites(t):
		fmt.Fprintf(sum, "%q", namesOf(t.columns))
	}
	return sampleKey(sum.Sum(nil)), true
}

// get returns a sample, or nil.
func (m *sampleMemo) get(key sampleKey) *fileSample {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byKey[key]
	if e == nil {
		return nil
	}
	m.order.MoveToFront(e)
	return e.Value.(*memoEntry).sample
}

// put adds a sample, which must not be modified afterwards.
func (m *sampleMemo) put(key sampleKey, sample *fileSample) {
	size := int64(512 + len(sample.basis) + 16*len(sample.guesses))
	for _, name := range sample.names {
		size += int64(32 + len(name))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byKey == nil {
		m.byKey = map[sampleKey]*list.Element{}
	}
	if size > m.most || m.byKey[key] != nil {
		return
	}
	m.byKey[key] = m.order.PushFront(&memoEntry{key, sample, size})
	for m.bytes += size; m.bytes > m.most; {
		oldest := m.order.Remove(m.order.Back()).(*memoEntry)
		delete(m.byKey, oldest.key)
		m.bytes -= oldest.bytes
	}
}
