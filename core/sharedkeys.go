package core

import (
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// sharedKeys are the rows that look-ups of all streams found, in the memory of a
// [Cache], for as long as its answers live. It is safe for concurrent use.
//
// Its lock is held while memory is allocated, so what memory is short for must not
// wait for it.
type sharedKeys struct {
	mu    sync.Mutex
	cache *keyCache
	tiers map[Fingerprint]*sharedTier
	found uint64 // keys
	asked uint64
}

// sharedTier has the rows of one question, as of one version of its table. Once
// it is over it remembers nothing more: whoever has it still asked for another
// version.
type sharedTier struct {
	keys     *sharedKeys
	question Question
	version  string
	tier     *keyTier
	over     bool
}

// version is what the tier of a question holds, if there is one.
func (k *sharedKeys) version(key Fingerprint) (version string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, ok := k.tiers[key]
	if !ok {
		return "", false
	}
	return t.version, true
}

// open returns the tier of a question for a version of the table. What is there
// of another version is dropped, and where it is to be fresh anything.
func (k *sharedKeys) open(q Question, version string, schema *arrow.Schema, fresh bool) *sharedTier {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t, ok := k.tiers[q.Key]; ok {
		if t.version == version && !fresh {
			return t
		}
		k.end(t)
	}
	t := &sharedTier{keys: k, question: q, version: version, tier: k.cache.tier(q.Key.String(), schema)}
	k.tiers[q.Key] = t
	return t
}

// end drops a tier. The caller holds the lock.
func (k *sharedKeys) end(t *sharedTier) {
	t.over = true
	delete(k.tiers, t.question.Key)
	k.cache.forget(t.question.Key.String())
}

// drop ends the tiers of a selection.
func (k *sharedKeys) drop(source Fingerprint, table string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.tiers {
		if t.question.of(source, table) {
			k.end(t)
		}
	}
}

// shed gives all its memory back, unless somebody is at work in it.
func (k *sharedKeys) shed() {
	if k.mu.TryLock() {
		defer k.mu.Unlock()
		k.cache.shed()
	}
}

func (t *sharedTier) find(s *scope, keys *keyList) ([]place, []arrow.RecordBatch) {
	k := t.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	places, records := t.tier.find(s, keys)
	for _, p := range places {
		if p.record >= 0 {
			k.found++
		} else {
			k.asked++
		}
	}
	return places, records
}

func (t *sharedTier) remember(keys *keyList, numbers, starts []int32, rows rowSet) {
	t.keys.mu.Lock()
	defer t.keys.mu.Unlock()
	if !t.over {
		t.tier.remember(keys, numbers, starts, rows)
	}
}

// Lookups returns what streams remember together of one kind of look-up in a
// table: rows of the schema, by key. It returns nil where the stream does not use
// the cache, where key reports false, or where version fails.
//
// key gets the fingerprints of the source and of the table, and returns the key
// of everything that the rows of one look-up key depend on. version returns the
// version of the table's data; it is called only if that can matter.
func (u CacheUser) Lookups(table *sources.Table, schema *arrow.Schema, key func(source, table Fingerprint) (Question, bool), version func() (string, error)) keyStore {
	if !u.active() {
		return nil
	}
	q, ok := key(u.Source, u.Cache.describe(table))
	if !ok {
		return nil
	}
	now, known := u.Cache.keys.version(q.Key)
	if !known || now != "" {
		var err error
		if now, err = version(); err != nil {
			return nil
		}
	}
	return u.Cache.keys.open(q, now, schema, u.Policy.Mode == CacheRefresh)
}
