package host_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/cachedir"
	"github.com/penstock-data/penstock/sources/wall"
)

// TestEnvironmentOfAPlugin: a plugin whose rows depend on a variable gives nobody the rows of
// another, whether or not it says so.
func TestEnvironmentOfAPlugin(t *testing.T) {
	for _, isolation := range []host.Isolation{host.InProcess, host.Process} {
		for source, identified := range map[string]bool{"tenant": false, "namedtenant": true} {
			t.Run(fmt.Sprint(source, " ", isolation), func(t *testing.T) {
				t.Setenv("TENANT", "one")
				q := question{uri: func() string { return source + ":" }, isolation: isolation}
				checkChange(t, q, identified, true, func() { t.Setenv("TENANT", "two") })
			})
		}
	}
}

// TestEnvironmentStaysTheSame: all processes of an open source have the environment that it was
// opened in.
func TestEnvironmentStaysTheSame(t *testing.T) {
	t.Setenv("TENANT", "one")
	h, err := host.New(host.Options{Sources: linked, Walls: walls, Isolation: host.Process, Sandboxes: host.SandboxOptions{MaxIdle: -1, Environment: granted.Environment}})
	if err != nil {
		t.Fatal(err)
	}
	defer closeHost(t, h)
	source, err := h.Open(t.Context(), "tenant:")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TENANT", "two")
	stream, err := source.Stream(t.Context(), core.Query{Table: "people"}, core.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		if got := chunk.Record.Column(0).ValueStr(0); got != "one" {
			t.Errorf("a process that started later has the tenant %q", got)
		}
	}
}

// TestUnidentifiedSourcesShare: streams of one open source share results, although its catalog has
// no identity.
func TestUnidentifiedSourcesShare(t *testing.T) {
	store, err := cachedir.Open(t.TempDir(), cachedir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	q := question{}
	h := q.host(t, &host.Cache{Store: store})
	defer closeHost(t, h)
	source, err := h.Open(t.Context(), "tenant:")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{cache.Miss, cache.Hit} {
		stream, err := source.Stream(t.Context(), core.Query{Table: "people"}, core.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
		}
		if r := stream.Receipt(); r.Cache != want {
			t.Errorf("a %s, want a %s", r.Cache, want)
		}
	}
	if s := store.Stats(); s.Answers != 0 {
		t.Errorf("%d answers are in the directory", s.Answers)
	}
}

// TestRebuiltPlugin: the contents of the executable that answers are part of the identity, and
// its name and times are not.
func TestRebuiltPlugin(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the plugin is a script")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, same := range map[string]bool{"other code": false, "touched": true, "copied": true} {
		t.Run(name, func(t *testing.T) {
			f := files{t, t.TempDir()}
			plugin := func(tenant string) {
				f.write("new", fmt.Sprintf("#!/bin/sh\n%s=onetenant TENANT=%s exec %q\n", wall.SelfVariable, tenant, self))
				f.must(os.Chmod(f.path("new"), 0o700))
				f.must(os.Rename(f.path("new"), f.path("penstock-source-rented")))
			}
			plugin("one")
			q := question{uri: func() string { return "rented:" }, plugins: f.dir}
			checkChange(t, q, true, !same, func() {
				switch name {
				case "other code":
					plugin("two") // of the same size and time
				case "touched":
					f.must(os.Chtimes(f.path("penstock-source-rented"), longAgo.Add(time.Hour), longAgo.Add(time.Hour)))
				default:
					plugin("one")
				}
			})
		})
	}
}

// TestRebuiltWhileOpen: if the executable changes while a source of it is open, the next process
// runs other code, so that nothing of it is cached.
func TestRebuiltWhileOpen(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the plugin is a script")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := files{t, t.TempDir()}
	plugin := func(tenant string) {
		f.write("new", fmt.Sprintf("#!/bin/sh\n%s=onetenant TENANT=%s exec %q\n", wall.SelfVariable, tenant, self))
		f.must(os.Chmod(f.path("new"), 0o700))
		f.must(os.Rename(f.path("new"), f.path("penstock-source-rented")))
	}
	plugin("one")
	q := question{plugins: f.dir}
	h := q.host(t, &host.Cache{})
	defer closeHost(t, h)
	source, err := h.Open(t.Context(), "rented:")
	f.must(err)
	for i, want := range []string{cache.Miss, cache.Hit, cache.Bypassed} {
		if i == 2 {
			plugin("two")
		}
		stream, err := source.Stream(t.Context(), core.Query{Table: "people"}, core.Options{})
		f.must(err)
		for _, err := range stream.Chunks() {
			f.must(err)
		}
		if r := stream.Receipt(); r.Cache != want {
			t.Errorf("question %d: a %s, want a %s", i, r.Cache, want)
		}
	}
}
