package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/sources"
)

// slowBegin is a source whose sessions begin when release is closed.
type slowBegin struct {
	sources.Source
	entered, release chan struct{}
}

func (s *slowBegin) Begin(context.Context, sources.Env) (sources.Session, error) {
	close(s.entered)
	<-s.release
	return nil, sources.Errorf(sources.Unavailable, "begin", "", "not today")
}

// TestSandboxMemoryDuringBegin tests that whoever watches a stream does not wait for a
// session that is beginning.
func TestSandboxMemoryDuringBegin(t *testing.T) {
	mem, err := budget.New("test", 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	source := &slowBegin{entered: make(chan struct{}), release: make(chan struct{})}
	session := cache.NewSession(source, source, &sources.Table{Name: "t"}, sources.Env{}, mem)
	begun, reported := make(chan error, 1), make(chan struct{})
	go func() { begun <- session.Begin(t.Context()) }()
	<-source.entered
	go func() {
		session.SandboxMemory()
		close(reported)
	}()
	select {
	case <-reported:
	case <-time.After(10 * time.Second):
		t.Error("SandboxMemory waits for the session to begin")
	}
	close(source.release)
	if err := <-begun; sources.KindOf(err) != sources.Unavailable {
		t.Error(err)
	}
	<-reported
}

// TestWaitForBeginIsCanceled tests that a call which waits for another one to begin the
// session ends with its context.
func TestWaitForBeginIsCanceled(t *testing.T) {
	mem, err := budget.New("test", 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	source := &slowBegin{entered: make(chan struct{}), release: make(chan struct{})}
	session := cache.NewSession(source, source, &sources.Table{Name: "t"}, sources.Env{}, mem)
	begun, waited := make(chan error, 1), make(chan error, 1)
	go func() { begun <- session.Begin(t.Context()) }()
	<-source.entered
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := session.Plan(ctx, &sources.Query{Table: "t"})
		waited <- err
	}()
	cancel()
	select {
	case err := <-waited:
		if sources.KindOf(err) != sources.Canceled {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the call waits on after its context has ended")
	}
	close(source.release)
	if err := <-begun; sources.KindOf(err) != sources.Unavailable {
		t.Error(err)
	}
}
