package core

import (
	"context"

	"github.com/penstock-data/penstock/sources"
)

// shared returns what streams remember together of the look-ups of an access; nil
// where there is no cache for it.
func (l *loader) shared(ctx context.Context, a *access) keyStore {
	if t, ok := l.tiers[a]; ok {
		return t
	}
	store := l.caching.Lookups(a.table, a.schema, a.cacheKey, func() (string, error) { return l.versionOf(ctx, a) })
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

// cacheKey is the key of everything that the rows of a look-up key depend on.
func (a *access) cacheKey(source, table Fingerprint) (Question, bool) {
	q := a.asked
	q.OrderBy, q.Keys = a.order, &sources.Keys{Columns: a.key, PerKey: a.limit}
	return keyQuestion(source, table, &q, a.rest, a.types, a.schema)
}
