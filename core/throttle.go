package core

import (
	"context"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// throttle has room made for each page before it is fetched. With ahead it fetches
// the next page on a goroutine of its own while this one is consumed, as long as
// there is room for both: the only hop with a goroutine. It ends with the loop:
// stop is called when the loop is left, and must make the fetching end.
func throttle(ctx context.Context, pages sources.Batches, g *budget.Backpressure, l *budget.Accounts, ahead bool, stop func()) sources.Batches {
	if ahead {
		return func(yield func(sources.Batch, error) bool) {
			r := aheadReader{pressure: g, accounts: l, ask: make(chan struct{}), pages: make(chan fetchedPage)}
			go r.run(pages)
			defer r.end(stop)
			r.loop(ctx, yield)
		}
	}
	return func(yield func(sources.Batch, error) bool) {
		if err := g.Admit(ctx); err != nil {
			yield(sources.Batch{}, err)
			return
		}
		l.BeginFetch()
		defer l.EndFetch()
		for page, err := range pages {
			l.EndFetch()
			if !yield(page, err) || err != nil {
				return
			}
			if err := g.Admit(ctx); err != nil {
				yield(sources.Batch{}, err)
				return
			}
			l.BeginFetch()
		}
	}
}

// fetchedPage is a page that the goroutine has read, with a reference of its own; or
// the error that ended the scan, or neither at its end.
type fetchedPage struct {
	page    sources.Batch
	err     error
	more    bool
	counted func() // ends its count as a page read ahead
}

// aheadReader is the goroutine that reads ahead and what the loop knows of it. It
// fetches a page for each time that it is asked, never more.
type aheadReader struct {
	pressure *budget.Backpressure
	accounts *budget.Accounts
	ask      chan struct{} // closed when nothing is wanted any more
	pages    chan fetchedPage
	asked    bool // a page is on its way
	settled  bool // the goroutine has said that it is done
}

// run ranges over the pages.
func (r *aheadReader) run(pages sources.Batches) {
	defer close(r.pages)
	if _, wanted := <-r.ask; !wanted {
		return
	}
	for page, err := range pages {
		if err != nil {
			r.pages <- fetchedPage{err: err, more: true}
			return
		}
		page.Record.Retain()
		r.pages <- fetchedPage{page: page, more: true, counted: r.accounts.Hold(budget.ReadAhead, page.Record)}
		if _, wanted := <-r.ask; !wanted {
			return
		}
	}
}

// request asks for one page.
func (r *aheadReader) request() {
	r.asked = true
	r.accounts.BeginFetch()
	r.ask <- struct{}{}
}

// loop yields what comes. The next page is asked for before this one is yielded
// where there is room, else afterwards.
func (r *aheadReader) loop(ctx context.Context, yield func(sources.Batch, error) bool) {
	for {
		if !r.asked {
			if err := r.pressure.Admit(ctx); err != nil {
				yield(sources.Batch{}, err)
				return
			}
			r.request()
		}
		f := <-r.pages
		r.asked = false
		r.accounts.EndFetch()
		switch {
		case !f.more:
			r.settled = true
			return
		case f.err != nil:
			yield(sources.Batch{}, f.err)
			return
		}
		f.counted()
		if !r.give(f.page, yield) {
			return
		}
	}
}

func (r *aheadReader) give(page sources.Batch, yield func(sources.Batch, error) bool) bool {
	defer page.Record.Release()
	if r.pressure.MayReadAhead() {
		r.request()
	}
	return yield(page, nil)
}

// end waits for the goroutine: what it is still reading is cancelled, and given
// back.
func (r *aheadReader) end(stop func()) {
	if r.settled {
		return
	}
	stop()
	if !r.asked {
		close(r.ask)
	}
	for f := range r.pages {
		if f.page.Record != nil {
			f.counted()
			f.page.Record.Release()
		}
		if f.more && r.asked {
			r.asked = false
			close(r.ask)
		}
	}
}
