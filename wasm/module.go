package wasm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/penstock-data/penstock/sources"
)

// module is a compiled module: what every instance of a source shares. It is
// freed when it was closed and the last instance has ended, for the code must
// outlive whoever runs it.
type module struct {
	options  Options
	name     string
	runtime  wazero.Runtime
	cache    wazero.CompilationCache
	compiled wazero.CompiledModule
	grants   *grants

	mu     sync.Mutex
	users  int
	closed bool
}

func compile(ctx context.Context, o Options) (*module, error) {
	b, err := o.read()
	if err != nil {
		return nil, err
	}
	m := &module{options: o, name: o.name()}
	if m.grants, err = openGrants(o.Dirs, o.Logger.With("module", m.name)); err != nil {
		return nil, err
	}
	if err := m.compile(ctx, b); err != nil {
		m.free()
		return nil, sources.WithOp("open", "", err)
	}
	return m, nil
}

func (m *module) compile(ctx context.Context, b []byte) error {
	config := wazero.NewRuntimeConfig().WithCloseOnContextDone(m.options.Interruptible).WithDebugInfoEnabled(false)
	if m.options.CacheDir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(m.options.CacheDir)
		if err != nil {
			return &sources.Error{Kind: sources.KindOf(err), Err: fmt.Errorf("the cache of compiled modules: %w", err)}
		}
		m.cache = cache
		config = config.WithCompilationCache(cache)
	}
	m.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, m.runtime); err != nil {
		return err
	}
	compiled, err := m.runtime.CompileModule(ctx, b)
	if err != nil {
		return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("%s is not a WebAssembly module: %w", m.name, err)}
	}
	m.compiled = compiled
	return m.check()
}

// check refuses a module that could never run, in words of its own rather than
// in the runtime's.
func (m *module) check() error {
	for _, f := range m.compiled.ImportedFunctions() {
		if from, name, _ := f.Import(); from != wasi_snapshot_preview1.ModuleName {
			return &sources.Error{Kind: sources.Denied, Err: fmt.Errorf("%s wants the function %s of %q; a source gets those of %s alone", m.name, name, from, wasi_snapshot_preview1.ModuleName)}
		}
	}
	if len(m.compiled.ImportedMemories()) > 0 {
		return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("%s wants another module's memory; a source is a command with its own", m.name)}
	}
	if _, ok := m.compiled.ExportedFunctions()["_start"]; !ok {
		return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("%s is not a command: it exports no _start", m.name)}
	}
	for _, memory := range m.compiled.ExportedMemories() {
		if least := int64(memory.Min()) * pageSize; least > m.options.Memory {
			return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("%s starts with %s of memory, its limit is %s; raise the limit", m.name, mebibytes(least), mebibytes(m.options.Memory))}
		}
	}
	return nil
}

// start runs an instance until its input ends.
func (m *module) start() (*instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, &sources.Error{Kind: sources.Invalid, Err: errors.New("the source is closed")}
	}
	m.users++
	i := newInstance(m)
	config := wazero.NewModuleConfig().WithName("").
		WithArgs(append([]string{m.name}, m.options.Args...)...).
		WithStdin(i.in).WithStdout(i.out).WithStderr(i.err).
		WithRandSource(rand.Reader).
		WithFSConfig(m.grants.fs)
	if m.options.Clock {
		config = config.WithSysWalltime().WithSysNanotime().WithSysNanosleep()
	} else {
		config = config.WithNanotime(elapsed(), sys.ClockResolution(tick))
	}
	ctx := experimental.WithMemoryAllocator(i.ctx, i.memory)
	go func() {
		mod, err := m.runtime.InstantiateModule(ctx, m.compiled, config)
		if mod != nil {
			_ = mod.Close(ctx) // its exit code is in err
		}
		i.ended(err)
		m.release()
	}()
	return i, nil
}

// tick is how finely a module without a clock sees time pass.
const tick = time.Millisecond

// elapsed returns the time since it was made, in nanoseconds. A guest's garbage
// collector divides its work by time: one written in Go, whose time stands still,
// does not keep up, and grows by a hundred megabytes for each hundred that pass.
func elapsed() sys.Nanotime {
	begun := time.Now()
	return func() int64 { return int64(time.Since(begun).Truncate(tick)) }
}

// release ends a use of the module.
func (m *module) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users--; m.closed && m.users == 0 {
		m.free()
	}
}

func (m *module) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	if m.closed = true; m.users == 0 {
		m.free()
	}
}

// free gives everything back. Nothing of it can be told to anyone, and nothing
// of it fails but by a fault of the runtime.
func (m *module) free() {
	ctx := context.Background()
	if m.runtime != nil {
		_ = m.runtime.Close(ctx)
	}
	if m.cache != nil {
		_ = m.cache.Close(ctx)
	}
	m.grants.close()
}

// Precompile compiles the module into the cache, so that the first Open of it
// is as quick as the others: for installers. It runs nothing of it.
func Precompile(ctx context.Context, o Options) error {
	o, err := o.validate()
	if err != nil {
		return err
	}
	if o.CacheDir == "" {
		return &sources.Error{Op: "open", Kind: sources.Invalid, Err: errors.New("there is no cache to compile into: set CacheDir")}
	}
	m, err := compile(ctx, o)
	if err != nil {
		return err
	}
	m.close()
	return nil
}
