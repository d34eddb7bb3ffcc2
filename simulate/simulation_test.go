package simulate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

// simulation is a world that runs.
type simulation struct {
	world   world
	started time.Time
	source  *source // one for all streams, as they share scans of the same source only
	catalog *sources.Catalog
	pool    chan struct{} // has an element for each open session; nil if any number may be open
	budget  *budget.Budget
	cache   *cache.Cache // nil if there is none
	store   *store       // nil if there is none
	breaker *retry.Breaker
	host    *host.Host // nil if the engine is used alone
	opened  *host.Source

	mu       sync.Mutex
	version  int // of the tables now
	data     map[int]*data
	changes  []moment // when the tables changed, or results were invalidated
	counts   map[string]int
	scansOf  map[string]int
	disorder map[string]int // how scans will lie when they are repeated; see turned
	sessions map[*session]bool
	closed   bool
	causes   map[sources.Kind]int // the kinds of errors that the world has caused
	streams  map[int]*core.Stream // of the readers now
	aborts   map[int]func()       // ends the context of a reader
	canceled map[int]time.Time    // when an event has ended a reader
	_        map[int]bool         // readers that an event has canceled
	faults   []string             // what is wrong
	notes    []string             // what happened, if tracing
	tracing  bool
}

// moment is when the tables changed to a version; or, with version -1, when results were
// invalidated.
type moment struct {
	at      time.Time
	version int
}

// patience is how long the world may take after its last event. Everything in it ends
// much sooner by its own timeouts.
const patience = 6 * time.Hour

const plenty = 64 << 20

// run runs a world in a bubble and returns what went wrong, one fault a line, and what
// happened if trace is set.
func run(t *testing.T, w world, trace bool) (faults, notes []string) {
	s := &simulation{
		world: w, version: 1, data: map[int]*data{}, counts: map[string]int{}, scansOf: map[string]int{}, disorder: map[string]int{}, sessions: map[*session]bool{},
		causes: map[sources.Kind]int{}, streams: map[int]*core.Stream{}, canceled: map[int]time.Time{}, aborts: map[int]func(){}, tracing: trace,
	}
	defer func() {
		if blocked := recover(); blocked != nil {
			s.wrongLocked("blocked: %v\n%s", blocked, bubbleStacks())
		}
		faults, notes = s.faults, s.notes
	}()
	synctest.Test(t, func(*testing.T) { s.run() })
	return
}

// bubbleStacks returns the stacks of the goroutines in bubbles.
func bubbleStacks() string {
	text := make([]byte, 1<<20)
	text = text[:runtime.Stack(text, true)]
	var all []string
	for _, stack := range strings.Split(string(text), "\n\n") {
		if head, _, _ := strings.Cut(stack, "\n"); strings.Contains(head, "synctest") {
			all = append(all, stack)
		}
	}
	return strings.Join(all, "\n\n")
}

// run is the main goroutine of the bubble.
func (s *simulation) run() {
	s.started = time.Now()
	if err := s.build(); err != nil {
		s.wrong("build: %v", err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range s.world.Readers {
		own, abort := context.WithCancel(ctx)
		s.aborts[i] = abort
		all.Go(func() { s.read(own, i) })
	}
	for _, e := range s.world.Events {
		all.Go(func() {
			time.Sleep(milliseconds(e.At) + time.Duration(s.world.mix(e.What, e.At)%1000))
			s.happen(e)
		})
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		s.wrong("hang: some reader has not ended after %s\n%s", patience, bubbleStacks())
	}
	cancel()
	<-done
	time.Sleep(patience) // calls that were late have returned
	s.end()
}

// build makes the source, the cache, and the host or what stands for it.
func (s *simulation) build() (err error) {
	w := s.world
	s.source, s.catalog = &source{s}, w.newCatalog(s.dataLocked(1))
	if w.Source.Sessions > 0 {
		s.pool = make(chan struct{}, w.Source.Sessions)
	}
	memory := w.Memory
	if memory == 0 {
		memory = plenty
	}
	breaker := retry.BreakerOptions{Failures: w.Breaker, Cooldown: 100 * time.Millisecond}
	if w.Breaker == 0 {
		breaker.Failures = -1
	}
	if w.Host {
		o := host.Options{Sources: map[string]sources.Open{"sim": func(context.Context, sources.Config) (sources.Source, error) { return s.source, nil }}, Memory: memory, Breaker: breaker, PluginPath: []string{}}
		if c := w.Cache; c != nil {
			o.Cache = &host.Cache{MaxBytes: c.MaxBytes, MaxEntries: c.MaxEntries, TTL: milliseconds(c.TTL)}
		}
		if s.host, err = host.New(o); err != nil {
			return err
		}
		s.budget, s.cache = s.host.Budget(), s.host.Cache()
		s.opened, err = s.host.Open(context.Background(), "sim:")
		return err
	}
	if s.budget, err = budget.New("all", memory, nil); err != nil {
		return err
	}
	s.breaker = retry.NewBreaker(breaker)
	if c := w.Cache; c != nil {
		if c.Store {
			s.store = newStore(s)
		}
		s.cache, err = s.newCache()
	}
	return err
}

// newCache returns a cache for the engine alone.
func (s *simulation) newCache() (*cache.Cache, error) {
	c := s.world.Cache
	o := cache.Options{Budget: s.budget, MaxBytes: c.MaxBytes, MaxEntries: c.MaxEntries, TTL: milliseconds(c.TTL)}
	if s.store != nil {
		o.Store = s.store
	}
	return cache.New(o)
}

// restart closes the cache, which streams may still use, and makes another one with the
// same store, as a program does that starts again.
func (s *simulation) restart() {
	if s.host != nil || s.cache == nil {
		return
	}
	next, err := s.newCache()
	if err != nil {
		s.wrong("restart: %v", err)
		return
	}
	s.mu.Lock()
	old := s.cache
	s.cache = next
	s.mu.Unlock()
	if err := old.Close(); err != nil {
		s.wrong("restart: %v", err)
	}
}

// longRuns are the texts of wide rows.
var longRuns = regexp.MustCompile("x{20,}")

var sourceID = query.Identify("simulated")

// open opens a stream, through the host if there is one.
func (s *simulation) open(ctx context.Context, q core.Query, o core.Options) (*core.Stream, error) {
	if s.host != nil {
		return s.opened.Stream(ctx, q, o)
	}
	s.mu.Lock()
	r := core.Resources{Budget: s.budget, Breaker: s.breaker, Cache: s.cache, SourceID: sourceID}
	s.mu.Unlock()
	return core.Open(ctx, s.source, q, o, r)
}

// happen makes an event happen.
func (s *simulation) happen(e happened) {
	s.note("event %s of reader %d", e.What, e.Reader)
	s.mu.Lock()
	stream := s.streams[e.Reader]
	s.mu.Unlock()
	if stream != nil { // whoever watches a stream never disturbs it
		stream.Progress()
		stream.Receipt()
		stream.Status()
		stream.MemoryByOwner()
	}
	switch e.What {
	case "change":
		if s.world.changes() {
			s.mu.Lock()
			s.version++
			s.changes = append(s.changes, moment{time.Now(), s.version})
			s.mu.Unlock()
		}
	case "restart":
		s.restart()
	case "invalidate":
		s.mu.Lock()
		held := s.cache
		s.mu.Unlock()
		if held != nil {
			held.Clear()
			s.mu.Lock()
			s.changes = append(s.changes, moment{time.Now(), -1})
			s.mu.Unlock()
		}
	case "press":
		s.press(e)
	case "cancel", "close", "abort":
		s.mu.Lock()
		if s.canceled[e.Reader].IsZero() && (stream != nil || e.What == "abort") {
			s.canceled[e.Reader] = time.Now()
		}
		abort := s.aborts[e.Reader]
		s.mu.Unlock()
		switch running := s.running(stream); {
		case e.What == "abort":
			abort()
		case stream == nil:
		case e.What == "close":
			if err := stream.Close(); err != nil {
				s.checkClosing("close", err)
			}
		case running != nil:
			running.Cancel(nil)
		default:
			stream.Cancel(nil)
		}
	case "pause":
		if stream == nil {
			return
		}
		running := s.running(stream)
		if running != nil {
			running.Pause()
		} else {
			stream.Pause()
		}
		time.Sleep(milliseconds(e.For))
		if running != nil {
			running.Resume()
		} else {
			stream.Resume()
		}
	}
}

// running returns the host's handle to a stream, or nil if there is no host.
func (s *simulation) running(stream *core.Stream) *host.Running {
	if s.host == nil || stream == nil {
		return nil
	}
	return s.host.Stream(stream.Name())
}

// press takes memory from the streams and the cache for some time, if there is any.
func (s *simulation) press(e happened) {
	other, err := budget.New("other", plenty, s.budget)
	if err != nil {
		s.wrong("press: %v", err)
		return
	}
	defer other.Close()
	s.cause(sources.Exhausted)
	buffer, err := sources.GuardCall("press", "", func() ([]byte, error) { return other.Allocate(e.Bytes), nil })
	if err == nil {
		time.Sleep(milliseconds(e.For))
		other.Free(buffer)
	}
}

// end closes everything and checks that nothing is left.
func (s *simulation) end() {
	s.mu.Lock()
	for open := range s.sessions {
		s.wrongLocked("a session of %s is open at the end", open.env.Stream)
	}
	s.mu.Unlock()
	if s.host != nil {
		for _, running := range s.host.Streams() {
			if !running.Receipt().Complete && running.Receipt().Elapsed == 0 {
				s.wrong("the host lists %s as open", running.Name)
			}
		}
		if held := s.host.MemoryByOwner().Total(); held != 0 {
			s.wrong("the host's streams hold %d bytes at the end", held)
		}
	}
	if s.cache != nil {
		s.cache.Clear()
		if held := s.cache.Budget().Held(); held != 0 {
			s.wrong("the cleared cache holds %d bytes", held)
		}
	}
	var err error
	switch {
	case s.host != nil:
		err = s.host.Close()
	case s.cache != nil:
		err = errors.Join(s.cache.Close(), s.source.Close())
		if s.store != nil {
			s.store.end()
		}
	}
	if err != nil {
		s.checkClosing("the end", err)
	}
	if held := s.budget.Held(); held != 0 {
		s.wrong("%d bytes are held at the end", held)
	}
	s.budget.Close()
}

// dataLocked returns the tables in a version. The caller holds the lock, or runs alone.
func (s *simulation) dataLocked(version int) *data {
	d := s.data[version]
	if d == nil {
		d = s.world.newData(version)
		s.data[version] = d
	}
	return d
}

// cause notes that the world causes errors of that kind.
func (s *simulation) cause(kind sources.Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.causes[kind]++
}

// wrong notes what is wrong.
func (s *simulation) wrong(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrongLocked(format, args...)
}

func (s *simulation) wrongLocked(format string, args ...any) {
	text := longRuns.ReplaceAllStringFunc(fmt.Sprintf(format, args...), func(run string) string { return fmt.Sprintf("x*%d", len(run)) })
	if !slices.Contains(s.faults, text) {
		s.faults = append(s.faults, text)
	}
	s.noteLocked("WRONG: %s", text)
}

// note notes what happens, if tracing.
func (s *simulation) note(format string, args ...any) {
	if s.tracing {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.noteLocked(format, args...)
	}
}

func (s *simulation) noteLocked(format string, args ...any) {
	if s.tracing {
		s.notes = append(s.notes, fmt.Sprintf("%12s ", time.Since(s.started))+fmt.Sprintf(format, args...))
	}
}
