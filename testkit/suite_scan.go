package testkit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// scan reads the table and keeps its rows for the other rules.
func (t *table) scan() error {
	t.broken = "the plain scan is broken"
	err := t.begin(sources.Env{}, func(session sources.Session) error {
		plan, err := session.Plan(t.ctx, t.query())
		if err != nil {
			return err
		}
		if plan == nil || plan.Rows < -1 || plan.Bytes < -1 {
			return fmt.Errorf("the plan is %+v", plan)
		}
		batches, bytes := 0, int64(0)
		for batch, err := range session.Scan(t.ctx, t.query()) {
			if err != nil {
				return err
			}
			if batch.Record == nil {
				return errors.New("a batch without an error has no record")
			}
			if err := conforms(batch.Record, t.Schema); err != nil {
				return err
			}
			batches++
			t.rows = append(t.rows, rowsOf(batch.Record)...)
			if bytes += sources.Size(batch.Record); len(t.rows) >= most || bytes >= mostBytes {
				return nil
			}
		}
		if batches == 0 {
			return errors.New("the scan yields neither a batch nor an error")
		}
		t.whole = true
		return nil
	})
	switch {
	case sources.KindOf(err) == sources.Denied:
		t.broken = fmt.Sprintf("the table may not be read: %v", err)
		return skipped(t.broken)
	case err == nil:
		t.broken, t.readable = "", t.Name
	}
	return err
}

// small limits make most scans have several pages.
var small = sources.Limits{Rows: 7, Bytes: 2048}

// cursors resumes after some of the batches.
func (t *table) cursors() error {
	type stop struct {
		cursor sources.Cursor
		rows   int // before it
	}
	var stops []stop
	var rows [][]sources.Value
	bytes := int64(0)
	err := t.begin(sources.Env{Page: small}, func(session sources.Session) error {
		for batch, err := range session.Scan(t.ctx, t.query()) {
			if err != nil {
				return err
			}
			rows = append(rows, rowsOf(batch.Record)...)
			// The cursor of an empty result may be nil.
			empty := len(rows) == 0 && batch.Cursor == nil
			if (batch.Cursor != nil) != t.Capabilities.Has(sources.CapResume) && !empty {
				return fmt.Errorf("a batch has the cursor %q, but the capabilities of the table are %s", batch.Cursor, t.Capabilities)
			}
			stops = append(stops, stop{append(sources.Cursor(nil), batch.Cursor...), len(rows)})
			if bytes += sources.Size(batch.Record); len(rows) >= 2000 || bytes >= mostBytes {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.require(sources.CapResume); err != nil {
		return err
	}
	for i, s := range stops {
		if i > 3 && i < len(stops)-2 {
			continue
		}
		q := t.query()
		q.After = s.cursor
		var rest [][]sources.Value
		err := t.begin(sources.Env{Page: small}, func(session sources.Session) (err error) {
			rest, err = collect(session.Scan(t.ctx, q), 200)
			return err
		})
		if err != nil {
			return fmt.Errorf("resuming after batch %d: %w", i+1, err)
		}
		want := rows[s.rows:]
		n := min(len(rest), len(want))
		if n < len(want) && n < 200 {
			return fmt.Errorf("after the cursor of batch %d come %d rows, want %d", i+1, len(rest), len(want))
		}
		if err := differ(want[:n], rest[:n], true); err != nil {
			return fmt.Errorf("after the cursor of batch %d: %w", i+1, err)
		}
	}
	q := t.query()
	q.After = sources.Cursor("\xffthis is no cursor")
	if _, err := t.ask(q, sources.Env{}); sources.KindOf(err) != sources.Invalid {
		return fmt.Errorf("an invalid cursor ends with %v; a source rejects it with an error of kind Invalid", err)
	}
	return nil
}

func (t *table) singleUse() error {
	return t.begin(sources.Env{}, func(session sources.Session) error {
		scan := session.Scan(t.ctx, t.query())
		if _, err := collect(scan, most); err != nil {
			return err
		}
		if _, err := collect(scan, most); sources.KindOf(err) != sources.Invalid {
			return fmt.Errorf("the second range loop ends with %v", err)
		}
		return nil
	})
}

func (t *table) pages() error {
	for _, limits := range []sources.Limits{small, {Rows: 1, Bytes: 1 << 20}, {Rows: 100, Bytes: 1}, {Rows: 1 << 30, Bytes: 64 << 10}} {
		err := t.begin(sources.Env{Page: limits}, func(session sources.Session) error {
			rows, all := int64(0), int64(0)
			for batch, err := range session.Scan(t.ctx, t.query()) {
				if err != nil {
					return err
				}
				n, bytes := batch.Record.NumRows(), sources.Size(batch.Record)
				if n > limits.Rows || bytes > limits.Bytes && n > 1 {
					return fmt.Errorf("a page has %d rows of %d bytes, but the limit is %d rows and %d bytes", n, bytes, limits.Rows, limits.Bytes)
				}
				rows, all = rows+n, all+bytes
				if rows > 500 || all >= mostBytes {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// empty runs a query without results, in one of the ways that the table supports.
func (t *table) empty() error {
	q := t.query()
	switch {
	case len(t.rows) == 0:
	case t.Capabilities.Has(sources.CapResume) && t.whole:
		err := t.begin(sources.Env{}, func(session sources.Session) error {
			for batch, err := range session.Scan(t.ctx, t.query()) {
				if err != nil {
					return err
				}
				q.After = append(sources.Cursor(nil), batch.Cursor...)
			}
			return nil
		})
		if err != nil {
			return err
		}
	default:
		for _, f := range t.Schema.Fields() {
			if t.Filters[f.Name].Has(sources.OpIn) {
				q.Where = sources.In{Column: f.Name}
			}
		}
		if q.Where == nil {
			return skipped("the table has rows, and supports no query that is known to have no result")
		}
	}
	return t.begin(sources.Env{}, func(session sources.Session) error {
		batches := 0
		for batch, err := range session.Scan(t.ctx, q) {
			if err != nil {
				return err
			}
			if batches++; batch.Record.NumRows() != 0 {
				return fmt.Errorf("the result has %d rows, want none", batch.Record.NumRows())
			}
			if err := conforms(batch.Record, t.Schema); err != nil {
				return err
			}
		}
		if batches != 1 {
			return fmt.Errorf("there are %d batches, want 1", batches)
		}
		return nil
	})
}

func (t *table) leave() error {
	return t.begin(sources.Env{Page: small}, func(session sources.Session) error {
		for range 3 {
			for _, err := range session.Scan(t.ctx, t.query()) {
				if err != nil {
					return err
				}
				break
			}
		}
		return nil
	})
}

// faults runs a query that is not valid.
func (t *table) faults() error {
	q := t.query()
	q.Columns = []string{"there is no such column"}
	return t.begin(sources.Env{}, func(session sources.Session) error {
		if _, err := session.Plan(t.ctx, q); err == nil {
			return errors.New("Plan accepts a column that does not exist")
		}
		errs := 0
		for batch, err := range session.Scan(t.ctx, q) {
			if errs > 0 {
				return errors.New("the scan yields something after an error")
			}
			if err == nil {
				return errors.New("the scan accepts a column that does not exist")
			}
			if errs++; batch.Record != nil || batch.Cursor != nil {
				return errors.New("an error is yielded with a batch")
			}
			if k := sources.KindOf(err); k != sources.NotFound && k != sources.Invalid {
				return fmt.Errorf("the error for a column that does not exist is of kind %s: %w", k, err)
			}
		}
		if errs == 0 {
			return errors.New("the scan of a column that does not exist ends without an error")
		}
		return nil
	})
}

// refusals runs scans in which one allocation after the other fails.
func (t *table) refusals() error {
	for refuse := 1; refuse <= 40; refuse++ {
		mem := &counting{refuse: refuse}
		var err error
		begin := t.begin(sources.Env{Mem: mem, Page: small}, func(session sources.Session) error {
			_, err = collect(session.Scan(t.ctx, t.query()), 50)
			return nil
		})
		if begin != nil {
			if sources.KindOf(begin) == sources.Exhausted {
				continue
			}
			return begin
		}
		if err := mem.empty(); err != nil {
			return fmt.Errorf("allocation %d failed: %w", refuse, err)
		}
		if err == nil {
			return nil // the scan needs fewer allocations
		}
		if sources.KindOf(err) != sources.Exhausted {
			return fmt.Errorf("allocation %d failed: %w", refuse, err)
		}
	}
	return nil
}

// cancels runs scans with a context that is canceled before and during the scan.
func (t *table) cancels() error {
	for _, early := range []bool{true, false} {
		err := t.begin(sources.Env{Page: small}, func(session sources.Session) error {
			ctx, cancel := context.WithCancel(t.ctx)
			defer cancel()
			if early {
				cancel()
			}
			end := make(chan error, 1)
			go func() {
				var last error
				rows := int64(0)
				for batch, err := range session.Scan(ctx, t.query()) {
					cancel()
					if last = err; err == nil {
						rows += batch.Record.NumRows()
					}
					if rows > 100*most {
						last = errors.New("the scan continues")
						break
					}
				}
				end <- last
			}()
			select {
			case err := <-end:
				if err != nil && sources.KindOf(err) != sources.Canceled {
					return fmt.Errorf("a scan whose context is canceled ends with %w", err)
				}
				if err == nil && !t.whole {
					return errors.New("a scan whose context is canceled runs to its end")
				}
				return nil
			case <-time.After(patience):
				return fmt.Errorf("a scan whose context is canceled still runs after %s", patience)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *table) stable() error {
	if err := t.require(sources.CapStable); err != nil {
		return err
	}
	again, err := t.ask(t.query(), sources.Env{Page: small})
	if err != nil {
		return err
	}
	n := min(len(again), len(t.rows))
	if t.whole && len(again) != len(t.rows) {
		return fmt.Errorf("there are %d rows, then %d", len(t.rows), len(again))
	}
	return differ(t.rows[:n], again[:n], true)
}

// skipped compares the records left out with large and with small pages.
func (t *table) skipped() error {
	if err := t.requireWhole(); err != nil {
		return err
	}
	var sums [2]sources.Skipped
	for i, limits := range []sources.Limits{{}, small} {
		err := t.begin(sources.Env{Page: limits}, func(session sources.Session) error {
			for batch, err := range session.Scan(t.ctx, t.query()) {
				if err != nil {
					return err
				}
				if err := batch.Skipped.Check(); err != nil {
					return err
				}
				sums[i].Add(batch.Skipped)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if sums[0].Records != sums[1].Records {
		return fmt.Errorf("one scan leaves out %d records, another %d", sums[0].Records, sums[1].Records)
	}
	return nil
}

// concurrency runs several scans in each of several concurrent sessions.
func (t *table) concurrency() error {
	scans := min(t.MaxScans, 3)
	if t.MaxScans == 0 {
		scans = 3
	}
	faults := make(chan error, 9)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			faults <- t.begin(sources.Env{MaxScans: scans}, func(session sources.Session) error {
				var inner sync.WaitGroup
				results := make([]error, scans)
				for i := range scans {
					inner.Go(func() {
						rows, err := collect(session.Scan(t.ctx, t.query()), 2000)
						if n := min(len(rows), len(t.rows)); err == nil && (t.whole || t.Capabilities.Has(sources.CapStable)) {
							if t.Capabilities.Has(sources.CapStable) {
								err = differ(t.rows[:n], rows[:n], true)
							} else if len(rows) < 2000 && len(rows) != len(t.rows) {
								err = fmt.Errorf("there are %d rows, want %d", len(rows), len(t.rows))
							}
						}
						results[i] = err
					})
				}
				inner.Wait()
				return errors.Join(results...)
			})
		})
	}
	group.Wait()
	close(faults)
	for err := range faults {
		if err != nil {
			return err
		}
	}
	return nil
}
