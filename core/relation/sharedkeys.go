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

// sharedKeys caches the rows that look-ups of all streams find, in the memory of a
// [cache.Cache] and for its TTL. It is safe for concurrent use.
//
// Its lock is held while memory is allocated, so nothing that frees memory may
// wait for it.
type sharedKeys struct {
	mu     sync.Mutex
	cache  *keyCache
	tiers  map[query.Fingerprint]*sharedTier
	found  uint64 // keys that were cached
	missed uint64 // keys that were not
}

// sharedTier caches the rows of one kind of look-up for one version of its table.
// Once closed it caches nothing more, since streams that still use it may read
// another version.
type sharedTier struct {
	keys    *sharedKeys
	key     query.Key
	version string
	tier    *keyTier
	closed  bool
}

// version returns the table version of an open tier.
func (k *sharedKeys) version(key query.Fingerprint) (version string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, ok := k.tiers[key]
	if !ok {
		return "", false
	}
	return t.version, true
}

// openTier returns the tier for a key and a version of the table. It closes a tier
// of another version, and with fresh also one of the same version.
func (k *sharedKeys) openTier(key query.Key, version string, schema *arrow.Schema, fresh bool) *sharedTier {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t, ok := k.tiers[key.Digest]; ok {
		if t.version == version && !fresh {
			return t
		}
		k.closeTier(t)
	}
	t := &sharedTier{keys: k, key: key, version: version, tier: k.cache.tier(key.Digest.String(), schema)}
	k.tiers[key.Digest] = t
	return t
}

// closeTier closes a tier and releases its rows. The caller holds the lock.
func (k *sharedKeys) closeTier(t *sharedTier) {
	t.closed = true
	delete(k.tiers, t.key.Digest)
	k.cache.evictTier(t.key.Digest.String())
}

// newSharedKeys returns the companion of a cache.
func newSharedKeys(b *budget.Budget, bytes int64, ttl time.Duration) cache.Companion {
	return &sharedKeys{cache: newKeyCache(b, bytes, ttl), tiers: map[query.Fingerprint]*sharedTier{}}
}

// Drop implements [cache.Companion].
func (k *sharedKeys) Drop(source query.Fingerprint, table string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.tiers {
		if t.key.In(source, table) {
			k.closeTier(t)
		}
	}
}

// Figures implements [cache.Companion].
func (k *sharedKeys) Figures() (found, missed uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.found, k.missed
}

// Evict implements [cache.Companion]. It does nothing while the cache is in use.
func (k *sharedKeys) Evict() {
	if k.mu.TryLock() {
		defer k.mu.Unlock()
		k.cache.evict()
	}
}

// find implements [keyStore].
func (t *sharedTier) find(arena *rows.Arena, keys *keyList) ([]rowRange, []arrow.RecordBatch) {
	k := t.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	ranges, records := t.tier.find(arena, keys)
	for _, p := range ranges {
		if p.record >= 0 {
			k.found++
		} else {
			k.missed++
		}
	}
	return ranges, records
}

// put implements [keyStore].
func (t *sharedTier) put(keys *keyList, numbers, starts []int32, rows rows.Set) {
	t.keys.mu.Lock()
	defer t.keys.mu.Unlock()
	if !t.closed {
		t.tier.put(keys, numbers, starts, rows)
	}
}

// sharedStore returns the key store that streams share for an access. It returns
// nil if there is no cache, or if the source cannot plan the access and so its
// version is unknown.
func (l *Loader) sharedStore(ctx context.Context, a *keyAccess) keyStore {
	if !l.cacheUse.Active() {
		return nil
	}
	if t, ok := l.sharedTiers[a]; ok {
		return t
	}
	var store keyStore
	if key, ok := a.cacheKey(l.cacheUse); ok {
		keys := l.cacheUse.Cache.Companion(newSharedKeys).(*sharedKeys)
		version, known := keys.version(key.Digest)
		var err error
		if !known || version != "" {
			version, err = l.versionOf(ctx, a)
		}
		if err == nil {
			store = keys.openTier(key, version, a.schema, l.cacheUse.Refreshes())
		}
	}
	l.sharedTiers[a] = store
	return store
}

// versionOf returns the current version of the table's data.
func (l *Loader) versionOf(ctx context.Context, a *keyAccess) (string, error) {
	session, err := l.session(ctx, a.table)
	if err != nil {
		return "", err
	}
	plan, err := session.Plan(ctx, &a.pushed)
	if err != nil {
		return "", err
	}
	return plan.Version, nil
}

// cacheKey identifies everything that the rows of a look-up key depend on. It
// returns false if that has no encoding.
func (a *keyAccess) cacheKey(u cache.Use) (query.Key, bool) {
	q := a.pushed
	q.OrderBy, q.Keys = a.order, &sources.Keys{Columns: a.key, From: a.from, LimitPerKey: a.limit}
	return query.LookupKey(u.SourceID, u.TableFingerprint(a.table), &q, a.residual, a.keyTypes, a.schema)
}
