// Package penstock holds the module's packages apart: see sources, core and
// host. The test here says who may import whom.
package penstock

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/penstock-data/penstock"

// rule lists what the files of a folder may import beside the standard library. It
// also applies to folders below it that have no rule of their own. An entry that
// ends in "..." includes everything below it.
type rule struct {
	may   []string
	never []string // excluded from may and from the standard library
	tests []string // what tests may import beside may
}

// heavyArrow is the part of Arrow, kernels and parquet, that would add megabytes to
// a guest or a browser.
var heavyArrow = []string{
	"github.com/apache/arrow-go/v18/arrow/compute...",
	"github.com/apache/arrow-go/v18/arrow/scalar",
	"github.com/apache/arrow-go/v18/arrow/extensions",
	"github.com/apache/arrow-go/v18/parquet...",
}

// system lists packages that the engine must not use: it also runs without an
// operating system.
var system = []string{"os...", "net", "net/http...", "syscall...", "plugin"}

const arrow = "github.com/apache/arrow-go/v18/arrow..."

var testTools = []string{
	"github.com/google/go-cmp/cmp...", "go.uber.org/goleak", "pgregory.net/rapid", arrow,
	module + "/sources...", module + "/core...", module + "/testkit",
}

var rules = map[string]rule{
	"":        {},
	"sources": {may: []string{arrow}, never: append(heavyArrow, system...)},
	"sources/wire": {
		may:   []string{arrow, "github.com/google/flatbuffers/go", module + "/sources"},
		never: append(heavyArrow, system...),
	},
	"sources/serve": {
		may: []string{
			arrow, module + "/sources", module + "/sources/wire",
			"github.com/hashicorp/go-plugin", "github.com/hashicorp/go-hclog", "google.golang.org/grpc...", "google.golang.org/protobuf...", "golang.org/x/sys/unix",
		},
		never: heavyArrow,
	},
	"sources/wall": {may: []string{module + "/sources"}},
	// The engine's packages, from the bottom to the top: each imports only what
	// stands above it here, and core the rest.
	"core/budget":        {may: []string{arrow, module + "/sources"}, never: append(heavyArrow, system...)},
	"core/internal/rows": {may: []string{arrow, module + "/sources", module + "/core/budget", "github.com/zeebo/xxh3"}, never: append(heavyArrow, system...)},
	"core/internal/lock": {},
	"core/digest":        {may: []string{arrow, module + "/core/internal/rows", "github.com/zeebo/xxh3"}, never: append(heavyArrow, system...)},
	"core/query": {
		may:   []string{arrow, module + "/sources", module + "/core/budget", module + "/core/internal/rows"},
		never: append(heavyArrow, system...),
	},
	"core/retry": {
		may:   []string{module + "/sources", module + "/core/budget", module + "/core/digest", "github.com/failsafe-go/failsafe-go..."},
		never: append(heavyArrow, system...),
	},
	"core/cache": {
		may:   []string{arrow, module + "/sources", module + "/core/budget", module + "/core/digest", module + "/core/internal/lock", module + "/core/internal/rows", module + "/core/query", "github.com/elastic/go-freelru"},
		never: append(heavyArrow, system...),
	},
	"core/relation": {
		may:   []string{arrow, module + "/sources", module + "/core/budget", module + "/core/internal/lock", module + "/core/internal/rows", module + "/core/query", module + "/core/cache"},
		never: append(heavyArrow, system...),
	},
	"core": {
		may:   []string{arrow, module + "/sources", module + "/core...", "github.com/zeebo/xxh3"},
		never: append(heavyArrow, system...),
	},
	"core/internal/coretest": {
		may:   []string{arrow, module + "/sources", module + "/core...", module + "/testkit", "go.uber.org/goleak"},
		never: heavyArrow,
	},
	"outputs": {
		may:   []string{arrow, module + "/sources", module + "/internal/display"},
		never: append(heavyArrow, system...),
	},
	"celfilter": {
		may:   []string{arrow, module + "/sources", module + "/internal/display", "cel.dev/cel-go/..."},
		never: append(heavyArrow, system...),
	},
	"outputs/file":     {may: []string{module + "/core...", module + "/sources", module + "/internal/fsync", "github.com/gofrs/flock"}},
	"internal/fsync":   {},
	"internal/display": {may: []string{"golang.org/x/text/width"}, never: system},
	"wasm": {
		may:   []string{arrow, module + "/sources", module + "/sources/wall", module + "/sources/wire", "github.com/tetratelabs/wazero...", "golang.org/x/sys/..."},
		never: heavyArrow,
		tests: []string{module + "/plugins/..."},
	},
	"wasm/testdata": {may: []string{arrow, module + "/sources...", module + "/plugins/..."}, never: heavyArrow},
	"host/process": {
		may: []string{
			arrow, module + "/sources...", module + "/host/process/internal/...",
			"github.com/hashicorp/go-plugin...", "github.com/hashicorp/go-hclog", "google.golang.org/grpc...", "google.golang.org/protobuf...", "golang.org/x/sys/...",
		},
		never: heavyArrow,
		tests: []string{module + "/plugins/..."},
	},
	"host": {
		may:   []string{arrow, module + "/core...", module + "/sources", module + "/sources/wall"},
		never: heavyArrow,
		tests: []string{module + "/plugins/...", module + "/host", module + "/host/process", module + "/host/cachedir", module + "/wasm", module + "/testkit/pgtest", module + "/celfilter", module + "/outputs...", "github.com/jackc/pgx/v5"},
	},
	"host/cachedir": {
		may:   []string{arrow, module + "/core...", module + "/sources", module + "/sources/wire", "github.com/klauspost/compress/zstd"},
		never: heavyArrow,
		tests: []string{module + "/host", module + "/plugins/csv"},
	},
	"host/telemetry": {
		may: []string{
			module + "/core...", module + "/host", "go.opentelemetry.io/otel/attribute", "go.opentelemetry.io/otel/codes",
			"go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/trace",
		},
		tests: []string{"go.opentelemetry.io/otel...", module + "/host/telemetry"},
	},
	"host/telemetry/prometheus": {
		may: []string{
			module + "/host", module + "/host/telemetry", "go.opentelemetry.io/otel/sdk/metric", "go.opentelemetry.io/otel/exporters/prometheus",
			"github.com/prometheus/client_golang/...",
		},
		tests: []string{module + "/host/telemetry/prometheus"},
	},
	"host/testdata":      {may: []string{module + "/core...", module + "/host", module + "/plugins/...", module + "/sources"}},
	"host/testdata/app":  {may: []string{module + "/core...", module + "/host", module + "/host/process", module + "/plugins/...", module + "/sources", module + "/sources/wall"}},
	"host/testdata/bare": {may: []string{module + "/core...", module + "/host", module + "/host/process", module + "/plugins/...", module + "/sources", module + "/sources/wall"}},
	"host/testdata/walls": {may: []string{
		module + "/core...", module + "/host", module + "/host/process", module + "/wasm", module + "/plugins/...", module + "/sources", module + "/sources/wall", module + "/testkit",
	}},
	"plugins/csv":             {may: []string{arrow, module + "/sources", module + "/internal/fsync", "github.com/klauspost/compress/zstd", "github.com/zeebo/xxh3"}, never: heavyArrow},
	"plugins/csv/plugin":      {may: []string{module + "/plugins/csv", module + "/sources/serve"}},
	"plugins/postgres":        {may: []string{arrow, module + "/sources", "github.com/jackc/pgx/v5..."}, never: heavyArrow, tests: []string{module + "/testkit/pgtest"}},
	"plugins/postgres/plugin": {may: []string{module + "/plugins/postgres", module + "/sources/serve"}},
	"testkit":                 {may: []string{arrow, module + "/sources", module + "/core..."}, never: heavyArrow, tests: []string{module + "/testkit...", module + "/host..."}},
	"testkit/pgtest":          {may: []string{"github.com/jackc/pgx/v5..."}},
	"chaos": {
		may: []string{
			arrow, module + "/sources", module + "/sources/wall", module + "/core...", module + "/host", module + "/host/process", module + "/host/cachedir", module + "/wasm", module + "/celfilter", module + "/chaos/unruly", module + "/testkit...",
			module + "/plugins/csv", module + "/plugins/postgres", "github.com/jackc/pgx/v5", "golang.org/x/sys/unix",
		},
	},
	"chaos/storm": {
		may: []string{
			arrow, module + "/sources", module + "/sources/wall", module + "/core...", module + "/host", module + "/host/process", module + "/wasm", module + "/testkit...", module + "/plugins/csv", module + "/plugins/postgres",
		},
	},
	"simulate":            {tests: []string{module + "/host"}},
	"chaos/unruly":        {may: []string{arrow, module + "/sources", module + "/plugins/csv", module + "/testkit"}, never: heavyArrow},
	"chaos/unruly/plugin": {may: []string{module + "/chaos/unruly", module + "/sources/serve"}},
	"chaos/unruly/liar":   {},
	"cmd/penstock": {
		may: []string{
			arrow, module + "/sources", module + "/sources/wall", module + "/core...", module + "/host", module + "/host/process", module + "/host/cachedir", module + "/wasm",
			module + "/celfilter", module + "/outputs...", module + "/internal/display", module + "/testkit", module + "/plugins/csv", module + "/plugins/postgres",
			"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term",
		},
		tests: []string{module + "/testkit/pgtest", "github.com/rogpeppe/go-internal/testscript"},
	},
}

// testOnly are the packages that only tests may import, whatever the rules say.
var testOnly = []string{module + "/core/internal/coretest"}

func matches(list []string, name string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		prefix, all := strings.CutSuffix(entry, "...")
		prefix = strings.TrimSuffix(prefix, "/")
		return name == prefix || all && strings.HasPrefix(name, prefix+"/")
	})
}

// TestImports checks the imports of every file of the module, whatever system it is
// for.
func TestImports(t *testing.T) {
	used := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if file == "." {
				return nil
			}
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil || strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		case filepath.Ext(file) != ".go":
			return nil
		}
		folder := strings.TrimSuffix(path.Dir(filepath.ToSlash(file)), ".")
		for folder != "" && folder != "." {
			if _, ok := rules[folder]; ok {
				break
			}
			folder = strings.TrimSuffix(path.Dir(folder), ".")
		}
		used[folder] = true
		r := rules[folder]
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		test := strings.HasSuffix(file, "_test.go")
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			std := !strings.Contains(strings.Split(name, "/")[0], ".")
			switch {
			case !test && matches(testOnly, name):
				t.Errorf("%s imports %s, which only tests may import", file, name)
			case test && (std || matches(r.may, name) || matches(r.tests, name) || matches(testTools, name) || name == module+"/"+path.Dir(filepath.ToSlash(file))):
			case std && !matches(r.never, name):
			case matches(r.may, name) && !matches(r.never, name):
			default:
				t.Errorf("%s imports %s, which the rule for %q in imports_test.go does not allow", file, name, folder)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for folder := range rules {
		if !used[folder] {
			t.Errorf("the rule for %q applies to no file: delete it", folder)
		}
	}
}

// testHelpers are the packages that only tests and commands may import, with the
// commands that may.
var testHelpers = map[string][]string{
	module + "/testkit...":        {"chaos", "chaos/storm", "chaos/unruly", "cmd/penstock", "core/internal/coretest", "host/testdata/walls", "testkit"},
	module + "/testkit/pgtest...": {"chaos", "chaos/storm"},
}

// TestRules checks the rules themselves: which folders may import what, beyond a
// single file's imports.
func TestRules(t *testing.T) {
	for folder, r := range rules {
		for _, entry := range r.may {
			name := strings.TrimSuffix(strings.TrimSuffix(entry, "..."), "/")
			for helper, users := range testHelpers {
				if matches([]string{helper}, name) && !slices.Contains(users, folder) {
					t.Errorf("the rule for %q lets code that is no test import %s", folder, entry)
				}
			}
		}
	}
	for _, pair := range [][2]string{{"host/process", "wasm"}, {"wasm", "host/process"}, {"host", "host/process"}, {"host", "wasm"}, {"host/process", "host"}, {"wasm", "host"}} {
		if matches(rules[pair[0]].may, module+"/"+pair[1]) {
			t.Errorf("the rule for %q lets it import %s", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"host/process", "wasm"}, {"wasm", "host/process"}} {
		if matches(rules[pair[0]].tests, module+"/"+pair[1]) {
			t.Errorf("the rule for %q lets its tests import %s", pair[0], pair[1])
		}
	}
}

// The limits of a program that links package host and one source, without walls.
const (
	maxPackages = 250
	maxBytes    = 10_000_000
)

// TestLightHost builds a program that embeds package host and reads CSV files, and
// checks that it carries no wall: its size and its packages.
func TestLightHost(t *testing.T) {
	const program = "./host/testdata/inproc"
	file := filepath.Join(t.TempDir(), "inproc")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, program)
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxBytes {
		t.Errorf("the program has %d bytes, want at most %d", info.Size(), maxBytes)
	}
	names := dependencies(t, program, "", "")
	if len(names) > maxPackages {
		t.Errorf("the program has %d packages, want at most %d", len(names), maxPackages)
	}
	t.Logf("%d bytes, %d packages", info.Size(), len(names))
	walls := []string{"google.golang.org/grpc...", "google.golang.org/protobuf...", "github.com/hashicorp/...", "github.com/tetratelabs/wazero...",
		"github.com/apache/arrow-go/v18/arrow/flight...", module + "/host/process...", module + "/wasm...", module + "/sources/serve..."}
	for _, name := range names {
		if matches(walls, name) {
			t.Errorf("the program carries %s", name)
		}
	}
}

// dependencies returns all packages that a package imports, directly or not, and
// the package itself.
func dependencies(t *testing.T, pkg, goos, goarch string) []string {
	t.Helper()
	list := exec.Command("go", "list", "-deps", pkg)
	list.Env = append(list.Environ(), "CGO_ENABLED=0")
	if goos != "" {
		list.Env = append(list.Env, "GOOS="+goos, "GOARCH="+goarch)
	}
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pkg, err)
	}
	return strings.Fields(string(out))
}

// TestLight checks everything that the contract and the engine import, directly or
// not: an embedder and a guest carry all of it.
func TestLight(t *testing.T) {
	for _, c := range []struct{ pkg, goos, goarch string }{
		{"./sources", "", ""}, {"./core", "", ""}, {"./outputs", "", ""}, {"./outputs", "wasip1", "wasm"},
		{"./sources", "wasip1", "wasm"}, {"./core", "js", "wasm"}, {"./plugins/csv/plugin", "wasip1", "wasm"},
	} {
		heavy := append([]string{"net/http...", "google.golang.org/grpc...", "github.com/hashicorp/go-plugin..."}, heavyArrow...)
		for _, name := range dependencies(t, c.pkg, c.goos, c.goarch) {
			if matches(heavy, name) {
				t.Errorf("%s (%s) imports %s", c.pkg, c.goos, name)
			}
		}
	}
}
