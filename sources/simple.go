package sources

import "context"

// Simple returns a source with the given catalog whose scans are made by a function.
// It suits sources that need neither sessions nor snapshots, such as an HTTP API.
// The catalog must not be modified afterwards. The function must be safe for
// concurrent use; it gets only queries that [Catalog.Check] has accepted, and its
// result is guarded by [Guard].
func Simple(catalog *Catalog, scan func(ctx context.Context, env Env, q *Query) Batches) Source {
	return &simple{catalog: catalog, scan: scan}
}

type simple struct {
	catalog *Catalog
	scan    func(ctx context.Context, env Env, q *Query) Batches
}

func (s *simple) Catalog(context.Context) (*Catalog, error) { return s.catalog, nil }

func (s *simple) Begin(_ context.Context, env Env) (Session, error) {
	if env.Snapshot != "" {
		return nil, Errorf(Invalid, "begin", "", "this source has no snapshots")
	}
	env.Page = env.Page.OrDefault()
	return &simpleSession{source: s, env: env}, nil
}

func (s *simple) Close() error { return nil }

type simpleSession struct {
	source *simple
	env    Env
}

func (s *simpleSession) Plan(_ context.Context, q *Query) (*Plan, error) {
	t, err := s.source.catalog.Check(q)
	if err != nil {
		return nil, WithOp("plan", q.Table, err)
	}
	plan := &Plan{Rows: t.Rows, Bytes: -1}
	if q.Where != nil || q.Keys != nil {
		plan.Rows = -1
	}
	return plan, nil
}

func (s *simpleSession) Scan(ctx context.Context, q *Query) Batches {
	return Guard("scan", q.Table, func(yield func(Batch, error) bool) {
		if _, err := s.source.catalog.Check(q); err != nil {
			yield(Batch{}, err)
			return
		}
		s.source.scan(ctx, s.env, q)(yield)
	})
}

func (s *simpleSession) Close() error { return nil }
