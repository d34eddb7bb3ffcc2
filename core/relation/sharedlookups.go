package relation

import (
	"context"

	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

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
	q.OrderBy, q.Keys = a.order, &sources.Keys{Columns: a.key, PerKey: a.limit}
	return query.LookupKey(u.SourceID, u.Cache.TableFingerprint(a.table), &q, a.rest, a.types, a.schema)
}
