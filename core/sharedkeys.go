package core

import (
	"context"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
)

// keyStore is what look-ups remember their rows in: a stream's own tier, or one
// that streams share.
type keyStore interface {
	find(s *scope, keys *keyList) ([]place, []arrow.RecordBatch)
	remember(keys *keyList, numbers, starts []int32, rows rowSet)
}

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

// shared returns the tier that streams share for an access; nil where the
// stream has no part in that, or the table does not say which version it has.
func (l *loader) shared(ctx context.Context, a *access) keyStore {
	c := l.caching.Cache
	if c == nil || l.caching.Mode == CacheBypass {
		return nil
	}
	if t, ok := l.tiers[a]; ok {
		return t
	}
	var store keyStore
	if q, ok := a.keyQuestion(l.caching.Source, c.describe(a.table)); ok {
		version, known := c.keys.version(q.Key)
		var err error
		if !known || version != "" {
			version, err = l.versionOf(ctx, a)
		}
		if err == nil {
			store = c.keys.open(q, version, a.schema, l.caching.Mode == CacheRefresh)
		}
	}
	l.tiers[a] = store
	return store
}

func (l *loader) versionOf(ctx context.Context, a *access) (string, error) {
	session, err := l.session(ctx, a.table)
	if err != nil {
		return "", err
	}
	plan, err := session.Plan(ctx, &a.asked)
	if err != nil {
		return "", err
	}
	return plan.Version, nil
}

// keyQuestion is everything that the rows of a key depend on.
func (a *access) keyQuestion(source, table Fingerprint) (Question, bool) {
	var c canon
	c.text("penstock keys 1")
	c.b = slices.Concat(c.b, source[:], table[:])
	c.texts(a.key)
	for _, f := range a.types.Fields() {
		c.field(f)
	}
	c.texts(a.rest.columns)
	c.predicate(a.asked.Where)
	c.predicate(a.rest.where)
	c.num(uint64(len(a.order)))
	for _, s := range a.order {
		c.text(s.Column)
		c.flag(s.Desc)
		c.flag(s.NullsFirst)
	}
	c.num(uint64(a.limit))
	for _, f := range a.schema.Fields() {
		c.field(f)
	}
	return Question{Key: c.sum(), Source: source, Table: a.table.Name}, !c.odd
}
