package core

import (
	"context"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// throttle waits for room in memory before it fetches each page. With ahead, it
// fetches the next page on another goroutine while the consumer has this one, if
// there is room for both. That goroutine ends with the loop: when the consumer
// leaves the loop, throttle calls stop, which must end the fetch.
func throttle(ctx context.Context, table string, pages sources.Batches, pressure *budget.Backpressure, accounts *budget.Accounts, ahead bool, stop func()) sources.Batches {
	if ahead {
		return func(yield func(sources.Batch, error) bool) {
			r := aheadReader{pressure: pressure, accounts: accounts, requests: make(chan struct{}), pages: make(chan fetchedPage)}
			go r.run(sources.Guard("scan", table, pages))
			defer r.close(stop)
			r.loop(ctx, yield)
		}
	}
	return func(yield func(sources.Batch, error) bool) {
		if err := pressure.Admit(ctx); err != nil {
			yield(sources.Batch{}, err)
			return
		}
		accounts.BeginFetch()
		defer accounts.EndFetch()
		for page, err := range pages {
			accounts.EndFetch()
			if !yield(page, err) || err != nil {
				return
			}
			if err := pressure.Admit(ctx); err != nil {
				yield(sources.Batch{}, err)
				return
			}
			accounts.BeginFetch()
		}
	}
}

// fetchedPage is what a goroutine hands to the consumer's loop: a page, or the error
// that ended the scan. The zero value marks the end of the scan.
type fetchedPage struct {
	page    sources.Batch // with a reference of its own
	err     error
	more    bool   // a page or an error is set
	endHold func() // removes the page from the account of pages read ahead
}

// aheadReader fetches pages on a goroutine, one for each request. Its fields below
// pages belong to the consumer's loop.
type aheadReader struct {
	pressure *budget.Backpressure
	accounts *budget.Accounts
	requests chan struct{} // closed when no more pages are wanted
	pages    chan fetchedPage
	pending  bool // a page was requested and has not been received
	finished bool // the goroutine reached the end of the scan
}

// run is the goroutine: it sends one page for each request.
func (r *aheadReader) run(pages sources.Batches) {
	defer close(r.pages)
	if _, ok := <-r.requests; !ok {
		return
	}
	for page, err := range pages {
		if err != nil {
			r.pages <- fetchedPage{err: err, more: true}
			return
		}
		page.Record.Retain()
		r.pages <- fetchedPage{page: page, more: true, endHold: r.accounts.Hold(budget.ReadAhead, page.Record)}
		if _, ok := <-r.requests; !ok {
			return
		}
	}
}

// request requests one page.
func (r *aheadReader) request() {
	r.pending = true
	r.accounts.BeginFetch()
	r.requests <- struct{}{}
}

// loop yields the pages. It requests the next page before it yields this one if
// there is room for both, and after it otherwise.
func (r *aheadReader) loop(ctx context.Context, yield func(sources.Batch, error) bool) {
	for {
		if !r.pending {
			if err := r.pressure.Admit(ctx); err != nil {
				yield(sources.Batch{}, err)
				return
			}
			r.request()
		}
		f := <-r.pages
		r.pending = false
		r.accounts.EndFetch()
		switch {
		case !f.more:
			r.finished = true
			return
		case f.err != nil:
			yield(sources.Batch{}, f.err)
			return
		}
		f.endHold()
		if !r.deliver(f.page, yield) {
			return
		}
	}
}

// deliver yields a page and then releases it. If memory allows, it requests the next
// page first.
func (r *aheadReader) deliver(page sources.Batch, yield func(sources.Batch, error) bool) bool {
	defer page.Record.Release()
	if r.pressure.MayReadAhead() {
		r.request()
	}
	return yield(page, nil)
}

// close stops the goroutine, waits for its end, and releases the pages that the loop
// did not take.
func (r *aheadReader) close(stop func()) {
	if r.finished {
		return
	}
	stop()
	if !r.pending {
		close(r.requests)
	}
	for f := range r.pages {
		if f.page.Record != nil {
			f.endHold()
			f.page.Record.Release()
		}
		if f.more && r.pending {
			r.pending = false
			close(r.requests)
		}
	}
}
