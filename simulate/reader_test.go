package simulate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/digest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

func (r reader) table() string {
	if r.Table == "" {
		return "items"
	}
	return r.Table
}

func (r reader) order() []sources.Sort {
	switch r.Order {
	case "id":
		return []sources.Sort{{Column: "id"}}
	case "-n,id":
		return []sources.Sort{{Column: "n", Desc: true}, {Column: "id"}}
	}
	return nil
}

func (r reader) load() (l query.Load) {
	var err error
	if r.Load != "" {
		if l.Required, err = query.ParseLoad(r.Load); err != nil {
			panic(err)
		}
	}
	if r.Optional != "" {
		if l.Optional, err = query.ParseLoad(r.Optional); err != nil {
			panic(err)
		}
	}
	return l
}

func (r reader) query() core.Query {
	q := core.Query{Table: r.table(), Columns: r.Columns, OrderBy: r.order(), Limit: r.Limit, Load: r.load()}
	if r.Below > 0 {
		q.Where = sources.Comparison{Column: "n", Op: sources.OpLt, Value: sources.Int(r.Below)}
	}
	return q
}

func (r reader) options() core.Options {
	o := core.Options{
		Memory: r.Memory, ChunkRows: r.ChunkRows, FlushAfter: milliseconds(r.FlushAfter), ReadAhead: r.ReadAhead, Parallel: r.Parallel, Unordered: r.Unordered,
		Tokens: r.Tokens, NoPushdown: r.NoPushdown, NoDigests: r.NoDigests, Caching: cache.Policy{Mode: cache.Mode(r.Mode)},
		Retry:    retry.Policy{InitialBackoff: 20 * time.Millisecond, Jitter: -1},
		Timeouts: retry.Timeouts{Call: milliseconds(r.CallLimit), Stall: milliseconds(r.StallLimit), Stream: milliseconds(r.Timeout)},
		Pressure: budget.Pressure{MaxWait: milliseconds(r.MaxWait)},
	}
	if o.Memory == 0 {
		o.Memory = 4 << 20
	}
	if r.Lazy {
		o.Strategy = query.Lazy
	}
	if r.NoRetry {
		o.Retry.MaxRetries = -1
	}
	return o
}

// anyOrder reports whether the rows may come in any order, and which ones a limit
// selects is then open too: from partitions without an order, and from a table that has
// none.
func (w world) anyOrder(r reader) bool {
	lacks := w.Source.Without
	return r.Order == "" && (r.Parallel > 1 && r.Unordered && !r.Tokens || lacks.Has(sources.CapStable) && lacks.Has(sources.CapResume))
}

// orderOf returns the order of a reader's rows; nil is that of the table. With tokens, the
// engine chooses the order of the key, where another one would hold only within one
// snapshot.
func (w world) orderOf(r reader) []sources.Sort {
	order := r.order()
	if order == nil && r.Tokens && !r.NoPushdown && r.Parallel < 2 && !w.Source.Without.Has(sources.CapSnapshot) && !w.Source.Without.Has(sources.CapSort) {
		for _, column := range keys[r.table()] {
			order = append(order, sources.Sort{Column: column})
		}
	}
	return order
}

// attempt is one stream of a reader.
type attempt struct {
	*simulation
	number int
	reader reader
	name   string
	opened time.Time
	first  time.Time // when the stream that read the first of rows was opened

	rows     []string // all that the reader has, also of earlier attempts
	sum      digest.Digest
	position int           // of rows: what the reader is done with
	sumThere digest.Digest // at position
	base     int64         // rows of earlier attempts
	held     []arrow.RecordBatch
}

// read is what a reader does.
func (s *simulation) read(ctx context.Context, number int) {
	r := s.world.Readers[number]
	time.Sleep(milliseconds(r.At) + s.world.delay(fmt.Sprint("start", number), 0, min(r.At, 1)))
	a := &attempt{simulation: s, number: number, reader: r}
	token := core.Token("")
	for i := range 1 + r.Restarts {
		a.name, a.opened = fmt.Sprintf("r%d/%d", number, i), time.Now()
		if token == "" {
			a.first = a.opened
		}
		var ended bool
		token, ended = a.read(ctx, token)
		if took := time.Since(a.opened); r.Timeout > 0 && took > milliseconds(r.Timeout)+promptly && !s.world.late() {
			s.wrong("%s: it took %s, but its timeout is %d ms", a.name, took, r.Timeout)
		}
		if took := time.Since(a.opened); took > atAll {
			s.wrong("%s: it took %s", a.name, took)
		}
		if ended {
			return
		}
		s.mu.Lock()
		canceled := s.canceled[number]
		s.mu.Unlock()
		if !canceled.IsZero() {
			if took := time.Since(canceled); took > promptly && !s.world.late() {
				s.wrong("%s: it ended %s after it was canceled", a.name, took)
			}
			return
		}
		if token == "" {
			a.position, a.sumThere = 0, digest.Digest{}
		}
		a.rows, a.sum, a.base = a.rows[:a.position], a.sumThere, int64(a.position)
	}
}

// read reads one stream from a token, and returns the token to go on from, or true if
// the reader has all it wants.
func (a *attempt) read(ctx context.Context, token core.Token) (_ core.Token, ended bool) {
	q, o := a.reader.query(), a.reader.options()
	q.After, o.Name = token, a.name
	if q.Limit > 0 {
		if q.Limit -= int64(len(a.rows)); q.Limit == 0 {
			return "", true
		}
	}
	stream, err := a.open(ctx, q, o)
	a.note("%s opened after row %d: %v", a.name, len(a.rows), err)
	if token != "" && sources.KindOf(err) == sources.Invalid && a.world.changes() { // refused
		return "", false
	}
	if err != nil {
		a.explain(err)
		return token, false
	}
	a.mu.Lock()
	a.streams[a.number] = stream
	a.mu.Unlock()
	failure, left := a.consume(ctx, stream)
	a.mu.Lock()
	delete(a.streams, a.number)
	a.mu.Unlock()
	if err := stream.Close(); err != nil {
		a.checkClosing(a.name, err)
	}
	select {
	case <-stream.Done():
	default:
		a.wrong("%s: the loop has ended, but the stream is not done", a.name)
	}
	for _, record := range a.held {
		record.Release()
	}
	a.held = nil
	if live := stream.Budget().Live(); live != 0 {
		// A late call keeps its keys until it returns.
		if !slices.ContainsFunc(a.world.Faults, func(f fault) bool { return f.What == "late" }) {
			a.wrong("%s: %d bytes are live after the end", a.name, live)
		}
	}
	a.verify(stream, failure, left)
	if failure == nil && !left {
		return "", true
	}
	if a.note("%s ended after row %d: %v", a.name, len(a.rows), failure); failure != nil {
		a.explain(failure)
	}
	return stream.Receipt().Token, false
}

// consume ranges over a stream, as the reader does. It returns the stream's error, and
// whether the reader left the loop.
func (a *attempt) consume(ctx context.Context, stream *core.Stream) (failure error, left bool) {
	chunks := 0
	for chunk, err := range stream.Chunks() {
		a.position, a.sumThere = len(a.rows), a.sum
		if err != nil {
			return err, false
		}
		a.note("%s has %d rows more", a.name, chunk.Record.NumRows())
		a.rows = append(a.rows, textsOf(chunk.Record)...)
		if a.sum.IsZero() {
			a.sum = digest.New(chunk.Record.Schema())
		}
		a.sum.Add(chunk.Record)
		if a.reader.Optional != "" {
			a.related(ctx, chunk)
		}
		if a.reader.Hold > 0 {
			chunk.Record.Retain()
			a.held = append(a.held, chunk.Record)
			if len(a.held) > a.reader.Hold {
				a.held[0].Release()
				a.held = a.held[1:]
			}
		}
		if chunks++; chunks == a.reader.Leave {
			return nil, true
		}
		time.Sleep(a.world.delay("consume"+a.name, chunks, a.reader.Slow))
	}
	a.position, a.sumThere = len(a.rows), a.sum
	return nil, false
}

// related reads the optional relation of a chunk, and compares it with the model of the
// version that the rows have.
func (a *attempt) related(ctx context.Context, chunk *core.Chunk) {
	column, err := chunk.Related(ctx, a.reader.Optional)
	if err != nil {
		a.explain(err)
		return
	}
	got := make([]string, column.Len())
	for i := range got {
		got[i] = textOf(column, i)
	}
	ids := make([]string, chunk.Record.NumRows())
	for i := range ids {
		ids[i] = textOf(chunk.Record.Column(0), i)
	}
	branch := a.reader.load().Optional[0]
	var first []string
	for _, d := range a.allowed() {
		want := make([]string, len(ids))
		for i, id := range ids {
			for _, o := range d.tables[a.reader.table()] {
				if fmt.Sprint(o["id"]) == id {
					want[i] = d.related(a.reader.table(), o, branch)
				}
			}
		}
		if slices.Equal(got, want) {
			return
		}
		first = want
	}
	a.wrong("%s: %s of the rows %v is\n%v\nwant\n%v", a.name, a.reader.Optional, ids, got, first)
}

// allowed returns the tables in the versions that the stream may have: those of the time
// since it was opened, or, from a cache whose source tells no versions, since some time
// before.
func (a *attempt) allowed() (all []*data) {
	a.mu.Lock()
	defer a.mu.Unlock()
	earliest := a.first // all rows are of one version
	if c := a.world.Cache; c != nil && a.world.Source.Silent && a.reader.Mode == uint8(cache.ModeUse) {
		ttl := milliseconds(c.TTL)
		if ttl == 0 {
			ttl = cache.DefaultTTL
		}
		earliest = a.first.Add(-ttl)
		for _, m := range a.changes {
			if m.version < 0 && m.at.Before(a.first) && m.at.After(earliest) {
				earliest = m.at
			}
		}
	}
	oldest := 1
	for _, m := range a.changes {
		if m.version > 0 && m.at.Before(earliest) {
			oldest = m.version
		}
	}
	for v := oldest; v <= a.version; v++ {
		all = append(all, a.dataLocked(v))
	}
	return all
}

// verify compares what the reader has with the model, and the receipt with both.
func (a *attempt) verify(stream *core.Stream, failure error, left bool) {
	complete := failure == nil && !left
	anyOrder := a.world.anyOrder(a.reader)
	matched := false
	var want []string
	for _, d := range a.allowed() {
		want = d.model(a.reader, a.world.orderOf(a.reader), !anyOrder)
		if matched = matches(a.rows, want, complete, anyOrder, a.reader.Limit); matched {
			break
		}
	}
	if !matched {
		a.wrong("%s: wrong rows (complete: %t, error: %v): it has %d\n%s\nwant %d\n%s", a.name, complete, failure, len(a.rows), strings.Join(a.rows, "\n"), len(want), strings.Join(want, "\n"))
	}
	r := stream.Receipt()
	switch {
	case r.Complete != complete:
		a.wrong("%s: the receipt says complete: %t, but the error is %v, left: %t", a.name, r.Complete, failure, left)
	case failure != nil && r.Error != failure.Error() || failure == nil && r.Error != "":
		a.wrong("%s: the receipt says %q, but the error is %v", a.name, r.Error, failure)
	case r.TotalRows != int64(len(a.rows)) || r.Rows != int64(len(a.rows))-a.base:
		a.wrong("%s: the receipt says %d rows of %d, but the reader has %d of %d", a.name, r.Rows, r.TotalRows, int64(len(a.rows))-a.base, len(a.rows))
	case a.reader.NoDigests && !r.Digest.IsZero():
		a.wrong("%s: the receipt has a digest", a.name)
	case !a.reader.NoDigests && len(a.rows) > 0 && r.Digest != a.sum:
		a.wrong("%s: the digest of the receipt, of %d rows, is not that of the reader's %d rows", a.name, r.Digest.Rows(), a.sum.Rows())
	case r.PeakBytes > r.LimitBytes:
		a.wrong("%s: it held %d bytes of its %d", a.name, r.PeakBytes, r.LimitBytes)
	case !stream.Status().Ended():
		a.wrong("%s: its status at the end is %s", a.name, stream.Status())
	}
}

// matches reports whether rows are what is wanted: all of it, or the first of it.
func matches(rows, want []string, complete, anyOrder bool, limit int64) bool {
	whole := len(want)
	if anyOrder {
		if limit > 0 {
			whole = min(whole, int(limit))
		}
		rows, want = slices.Sorted(slices.Values(rows)), slices.Sorted(slices.Values(want))
		i := 0
		for _, row := range rows { // each row once
			for i < len(want) && want[i] < row {
				i++
			}
			if i == len(want) || want[i] != row {
				return false
			}
			i++
		}
		return len(rows) == whole || !complete && len(rows) < whole
	}
	return len(rows) <= whole && slices.Equal(rows, want[:len(rows)]) && (!complete || len(rows) == whole)
}

// checkClosing checks an error of closing a stream: the source must have caused it.
func (a *simulation) checkClosing(name string, err error) {
	for _, f := range a.world.Faults {
		if f.Op == "close" {
			return
		}
	}
	a.wrong("%s: close: %v", name, err)
}

// explain checks that the world explains an error.
func (a *attempt) explain(err error) {
	kind := sources.KindOf(err)
	a.mu.Lock()
	caused := a.causes[kind] > 0
	canceled := !a.canceled[a.number].IsZero()
	unavailable := a.causes[sources.Unavailable]
	a.mu.Unlock()
	w, r := a.world, a.reader
	switch kind {
	case sources.Canceled:
		caused = canceled || r.Timeout > 0
	case sources.Exhausted: // the world is short of memory
		caused = caused || w.Memory > 0 || r.Memory > 0 || r.Hold > 0
	case sources.Unavailable:
		caused = caused || w.Source.Sessions > 0 && w.Source.Slow > 0 // a wait for a session counts as a call
		if caused && unavailable <= retry.DefaultMaxRetries && !r.NoRetry && w.Breaker == 0 && w.resumes() {
			caused = false // retries are enough
		}
	}
	if !caused {
		a.wrong("%s: nothing explains: %v", a.name, err)
	}
}

// promptly is how long a reader may take to end once it is canceled: a step of the
// source, one of closing each session, and the reader's time with a chunk.
const promptly = time.Second

// atAll is how long a stream may take in any world: less than the longest call that
// ignores the end of its context, and more than all timeouts and retries together.
const atAll = 20 * time.Minute

// late reports whether the source ignores the end of a context.
func (w world) late() bool {
	return slices.ContainsFunc(w.Faults, func(f fault) bool { return f.What == "late" })
}

// resumes reports whether every scan of the world's source can go on after a fault, and
// no timeout is shorter than what the world may take.
func (w world) resumes() bool {
	lacks := w.Source.Without
	if w.Source.Sessions > 0 || w.Source.Fleeting && !lacks.Has(sources.CapSnapshot) || lacks.Has(sources.CapStable) && lacks.Has(sources.CapResume) {
		return false
	}
	for _, f := range w.Faults {
		if f.What == "stall" || f.What == "late" || f.What == "disorder" {
			return false
		}
	}
	for _, r := range w.Readers {
		if r.CallLimit > 0 || r.StallLimit > 0 {
			return false
		}
	}
	return true
}
