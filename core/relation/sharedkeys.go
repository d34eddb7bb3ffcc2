package relation

import (
	"context"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// sharedKeys are the rows that look-ups of all streams found, in the memory of a
// [cache.Cache], for as long as its answers live. It is safe for concurrent use.
//
// Its lock is held while memory is allocated, so what memory is short for must not
// wait for it.
type sharedKeys struct {
	mu    sync.Mutex
	cache *keyCache
	tiers map[query.Fingerprint]*sharedTier
	found uint64 // keys
	asked uint64
}

// sharedTier has the rows of one question, as of one version of its table. Once
// it is over it remembers nothing more: whoever has it still asked for another
// version.
type sharedTier struct {
	keys     *sharedKeys
	question query.Key
	version  string
	tier     *keyTier
	over     bool
}

// version is what the tier of a question holds, if there is one.
func (k *sharedKeys) version(key query.Fingerprint) (version string, ok bool) {
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
func (k *sharedKeys) open(q query.Key, version string, schema *arrow.Schema, fresh bool) *sharedTier {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t, ok := k.tiers[q.Digest]; ok {
		if t.version == version && !fresh {
			return t
		}
		k.end(t)
	}
	t := &sharedTier{keys: k, question: q, version: version, tier: k.cache.tier(q.Digest.String(), schema)}
	k.tiers[q.Digest] = t
	return t
}

// end drops a tier. The caller holds the lock.
func (k *sharedKeys) end(t *sharedTier) {
	t.over = true
	delete(k.tiers, t.question.Digest)
	k.cache.forget(t.question.Digest.String())
}

// newSharedKeys returns the companion of a cache.
func newSharedKeys(b *budget.Budget, bytes int64, ttl time.Duration) cache.Companion {
	return &sharedKeys{cache: newKeyCache(b, bytes, ttl), tiers: map[query.Fingerprint]*sharedTier{}}
}

// Drop ends the tiers of a selection.
func (k *sharedKeys) Drop(source query.Fingerprint, table string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.tiers {
		if t.question.In(source, table) {
			k.end(t)
		}
	}
}

// Figures returns how many keys were remembered, and how many had to be asked for.
func (k *sharedKeys) Figures() (found, missed uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.found, k.asked
}

// Shed gives all its memory back, unless somebody is at work in it.
func (k *sharedKeys) Shed() {
	if k.mu.TryLock() {
		defer k.mu.Unlock()
		k.cache.shed()
	}
}

func (t *sharedTier) find(s *rows.Arena, keys *keyList) ([]rowRange, []arrow.RecordBatch) {
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

func (t *sharedTier) remember(keys *keyList, numbers, starts []int32, rows rows.Set) {
	t.keys.mu.Lock()
	defer t.keys.mu.Unlock()
	if !t.over {
		t.tier.remember(keys, numbers, starts, rows)
	}
}

// shared returns what streams remember together of the look-ups of an access; nil
// where there is no cache for it, or the version of the table is unknown.
func (l *Loader) shared(ctx context.Context, a *keyAccess) keyStore {
	if !l.caching.Active() {
		return nil
	}
	if t, ok := l.tiers[a]; ok {
		return t
	}
	var store keyStore
	if q, ok := a.cacheKey(l.caching); ok {
		keys := l.caching.Cache.Companion(newSharedKeys).(*sharedKeys)
		version, known := keys.version(q.Digest)
		var err error
		if !known || version != "" {
			version, err = l.versionOf(ctx, a)
		}
		if err == nil {
			store = keys.open(q, version, a.schema, l.caching.Refreshes())
		}
	}
	l.tiers[a] = store
	return store
}

func (l *Loader) versionOf(ctx context.Context, a *keyAccess) (string, error) {
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

// cacheKey is the key of everything that the rows of a look-up key depend on.
func (a *keyAccess) cacheKey(u cache.Use) (query.Key, bool) {
	q := a.asked
	q.OrderBy, q.Keys = a.order, &sources.Keys{Columns: a.key, LimitPerKey: a.limit}
	return query.LookupKey(u.SourceID, u.Cache.TableFingerprint(a.table), &q, a.rest, a.types, a.schema)
}
