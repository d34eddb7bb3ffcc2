//go:build unix

package host_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

func init() { linked["variables"] = openVariables }

// openVariables opens a source whose only table has the variables of its process.
func openVariables(context.Context, sources.Config) (sources.Source, error) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "variable", Type: arrow.BinaryTypes.String}}, nil)
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "variables", Schema: schema, Rows: -1}}}
	return sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return sources.FromRows(env, schema, func(yield func(sources.Row, error) bool) {
			for _, variable := range os.Environ() {
				if !yield(sources.Row{Values: []any{variable}}, nil) {
					return
				}
			}
		})
	}), nil
}

// variables returns the variables that the process of a source gets.
func variables(t *testing.T, o host.Options, uri string) (all []string) {
	t.Helper()
	h, err := host.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer closeHost(t, h)
	source, err := h.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := source.Stream(t.Context(), core.Query{Table: "variables"}, core.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		for i := range chunk.Record.NumRows() {
			all = append(all, chunk.Record.Column(0).ValueStr(int(i)))
		}
	}
	return all
}

// TestVariablesOfAProcess checks that a source's process gets the variables that it needs and
// those that are granted to the source, and no other: it may be anybody's program, and they
// may be secrets.
func TestVariablesOfAProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"csv", "postgres", "postgresql", "other"} {
		script := fmt.Sprintf("#!/bin/sh\n%s=variables exec %q\n", wall.SelfVariable, self)
		if err := os.WriteFile(filepath.Join(dir, "penstock-source-"+name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("penstock-source-other", filepath.Join(dir, "nameless")); err != nil {
		t.Fatal(err)
	}
	always := []string{"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_MONETARY"}
	secrets := []string{"PGPASSWORD", "PGUSER", "SSL_CERT_FILE", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "PENSTOCK_OTHER", "LC", "GITHUB_TOKEN"}
	for _, name := range append(always, secrets...) {
		if name != "PATH" && name != "TMPDIR" {
			t.Setenv(name, "value of "+name)
		}
	}
	t.Setenv("TMPDIR", t.TempDir())
	grants := map[string][]string{"other": {"AWS_*", "LC"}, "plugin": {"GITHUB_TOKEN"}, "variables": {"AWS_REGION"}}
	postgres := []string{"PGPASSWORD", "PGUSER", "SSL_CERT_FILE"}
	path := func(name string) string { return "plugin:" + filepath.Join(dir, name) }
	for uri, want := range map[string][]string{
		"csv:":                           nil,
		"postgres:":                      postgres,
		"postgresql:":                    postgres,
		"other:":                         {"AWS_SECRET_ACCESS_KEY", "AWS_REGION", "LC"},
		"variables:":                     {"AWS_REGION"}, // a copy of this program
		path("nameless"):                 {"GITHUB_TOKEN"},
		path("penstock-source-other"):    {"GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "LC"},
		path("penstock-source-postgres"): append([]string{"GITHUB_TOKEN"}, postgres...),
	} {
		t.Run(strings.ReplaceAll(uri, dir, ""), func(t *testing.T) {
			o := host.Options{Walls: walls, PluginPath: []string{dir}, Sandboxes: host.SandboxOptions{Environment: grants}}
			if uri == "variables:" {
				o.Sources, o.Isolation = linked, host.Process
			}
			got := map[string]string{}
			for _, variable := range variables(t, o, uri) {
				name, value, _ := strings.Cut(variable, "=")
				got[name] = value
			}
			for _, name := range append(want, always...) {
				if got[name] != os.Getenv(name) {
					t.Errorf("%s is %q, want %q", name, got[name], os.Getenv(name))
				}
				delete(got, name)
			}
			for _, name := range append(secrets, "PENSTOCK_SUPERVISE") {
				if value, ok := got[name]; ok {
					t.Errorf("the process gets %s=%s", name, value)
				}
			}
		})
	}
}

func TestBadEnvironment(t *testing.T) {
	for _, name := range []string{"", "A=B", "A*B", "**", "A\x00"} {
		_, err := host.New(host.Options{Sandboxes: host.SandboxOptions{Environment: map[string][]string{"csv": {name}}}})
		if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), `Sandboxes.Environment["csv"]`) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
