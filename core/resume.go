package core

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/relation"
	"github.com/penstock-data/penstock/sources"
)

// Resumption is what it takes to resume a stream in another session, with the token of one
// of its chunks and without [Options.AcrossSnapshots].
type Resumption uint8

// The resumptions, from the easiest to the hardest.
const (
	// ResumeVerified: a later stream resumes if the rows up to the token are still the same,
	// which it checks.
	ResumeVerified Resumption = iota
	// ResumeUnchanged: a later stream resumes if the source proves that the data is still
	// the same. With AcrossSnapshots it resumes in any case.
	ResumeUnchanged
	// ResumeSameSnapshot: a token has a position that means nothing after the data has
	// changed, so that AcrossSnapshots does not help: the table has no key, and the query
	// no order, or it reads partitions.
	ResumeSameSnapshot
)

// ErrOtherSnapshot is in the error of [Open] if the data may have changed since a token was
// made, so that the rows after it would belong to another snapshot than those before it.
// [Options.AcrossSnapshots] allows that.
var ErrOtherSnapshot = errors.New("the data may have changed since the token was made, and the rows before and after it would be of different snapshots: read from the start, or allow different snapshots")

var errOtherParts = errors.New("the token was made while reading partitions, and the table is divided in another way now: read from the start")

// tableState identifies the data of one table that a stream reads.
type tableState struct {
	table [bindingBytes]byte // the digest of its name
	state [bindingBytes]byte // zero if it is not known, which equals nothing
}

// maxStates is the maximum number of tables whose states a token has.
const maxStates = 1 << 10

func digestText(text string) (d [bindingBytes]byte) {
	sum := sha256.Sum256([]byte(text))
	copy(d[:], sum[:])
	return d
}

// sameStates reports whether the tables that two streams read have the same data. The second
// may read other relations than the first; both read the table root.
func sameStates(root string, before, now []tableState) bool {
	was := map[[bindingBytes]byte][bindingBytes]byte{}
	for _, s := range before {
		was[s.table] = s.state
	}
	for _, s := range now {
		state, ok := was[s.table]
		if !ok && s.table == digestText(root) || ok && (state != s.state || s.state == [bindingBytes]byte{}) {
			return false
		}
	}
	return true
}

// lastingOrder returns the order of a stream with tokens that has none: that of the
// table's key, if the order that the table would choose holds only within one snapshot.
func lastingOrder(t *sources.Table) (order []sources.Sort) {
	if !t.Capabilities.Has(sources.CapSnapshot | sources.CapSort) {
		return nil
	}
	for _, column := range t.Key {
		order = append(order, sources.Sort{Column: column})
	}
	return order
}

// prepareTokens determines what the tokens of a stream depend on: the partitions and the
// state of the data. If the stream resumes, both must be those of its token.
func (p *plan) prepareTokens(ctx context.Context, session *cache.Session, loader *relation.Loader, caching bool) error {
	if !p.options.Tokens {
		return nil
	}
	whole := *p.pushed
	whole.After = nil
	root, err := session.Plan(ctx, &whole)
	if err != nil {
		return err
	}
	if err := p.setParts(root.Parts); err != nil {
		return sources.NewError(sources.Invalid, "query", p.table.Name, err)
	}
	before := p.start.states
	if err := p.setStates(ctx, root, loader, caching); err != nil {
		return err
	}
	switch {
	case p.query.After == "" || sameStates(p.table.Name, before, p.start.states):
		return nil
	case !p.options.AcrossSnapshots:
		return sources.Errorf(sources.Invalid, "query", p.table.Name, "after: %w", ErrOtherSnapshot)
	}
	p.start.snapshots++
	p.changed = true
	return nil
}

// setParts makes the stream read the given partitions, unless it reads the table in one
// scan.
func (p *plan) setParts(parts []sources.Part) error {
	if p.parallel.workers == 0 {
		return nil
	}
	var digest partsDigest
	if len(parts) > 1 {
		p.parallel.parts, digest = parts, digestParts(parts)
	}
	if p.query.After == "" {
		p.start.parts = digest
		return nil
	}
	from, ok := parsePartPosition(p.start.cursor, len(parts))
	if digest != p.start.parts || !ok {
		return errOtherParts
	}
	p.parallel.from = from
	return nil
}

// setStates sets the states of the tables that the stream reads, and what resuming it takes.
func (p *plan) setStates(ctx context.Context, root *sources.Plan, loader *relation.Loader, caching bool) error {
	p.start.states = nil
	add := func(name string, plan *sources.Plan, checked bool) {
		state := tableState{table: digestText(name)}
		text := plan.State
		if text == "" && !checked || text != "" && caching { // a cache compares only versions
			text = plan.Version
		}
		if text != "" {
			state.state = digestText(text)
		}
		if text != "" || plan.State != "" {
			p.start.states = append(p.start.states, state)
		}
	}
	// The source checks the rows before a cursor, but not those of other partitions or
	// tables.
	add(p.table.Name, root, p.parallel.parts == nil)
	if err := loader.Plans(ctx, func(t *sources.Table, plan *sources.Plan) { add(t.Name, plan, false) }); err != nil {
		return err
	}
	switch {
	case len(p.start.states) > maxStates:
		return sources.Errorf(sources.Invalid, "query", p.table.Name, "a stream with tokens may read at most %d tables", maxStates)
	case p.parallel.parts != nil, p.table.Capabilities.Has(sources.CapSnapshot) && len(p.query.OrderBy) == 0:
		p.resumption = ResumeSameSnapshot
	case len(p.start.states) > 0:
		p.resumption = ResumeUnchanged
	}
	return nil
}
