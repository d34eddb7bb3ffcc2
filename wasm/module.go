package wasm

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/penstock-data/penstock/sources"
)

// module is a compiled module, which all instances of a source share. It is freed
// once it is closed and its last instance has ended, because instances run its
// code.
type module struct {
	options  Options
	name     string
	runtime  wazero.Runtime
	cache    wazero.CompilationCache
	compiled wazero.CompiledModule
	grants   *grants

	mu     sync.Mutex
	users  int // running instances
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
			return sources.Errorf(sources.KindOf(err), "", "", "cache of compiled modules: %w", err)
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
		return sources.Errorf(sources.Invalid, "", "", "%s is not a WebAssembly module: %w", m.name, err)
	}
	m.compiled = compiled
	return m.check()
}

// check returns an error for a module that cannot run. The runtime's own errors
// would be less clear.
func (m *module) check() error {
	for _, f := range m.compiled.ImportedFunctions() {
		if from, name, _ := f.Import(); from != wasi_snapshot_preview1.ModuleName {
			return sources.Errorf(sources.Denied, "", "", "%s imports the function %s of %q: a source can import only the functions of %s", m.name, name, from, wasi_snapshot_preview1.ModuleName)
		}
	}
	if len(m.compiled.ImportedMemories()) > 0 {
		return sources.Errorf(sources.Invalid, "", "", "%s imports another module's memory: a source must have its own", m.name)
	}
	if _, ok := m.compiled.ExportedFunctions()["_start"]; !ok {
		return sources.Errorf(sources.Invalid, "", "", "%s is not a WASI command: it exports no _start", m.name)
	}
	for _, memory := range m.compiled.ExportedMemories() {
		if initial := int64(memory.Min()) * pageSize; initial > m.options.Memory {
			return sources.Errorf(sources.Invalid, "", "", "%s needs %s of memory to start, and its limit is %s: raise the limit", m.name, mebibytes(initial), mebibytes(m.options.Memory))
		}
	}
	return nil
}

// start starts an instance, which runs until its input ends.
func (m *module) start() (*instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, sources.Errorf(sources.Invalid, "", "", "the source is closed")
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
			_ = mod.Close(ctx) // err has the exit code
		}
		i.ended(err)
		m.release()
	}()
	return i, nil
}

// tick is the resolution of elapsed time for a module without a clock.
const tick = time.Millisecond

// elapsed returns a function that returns the nanoseconds since the call of elapsed.
// A guest needs it because Go's garbage collector paces its work by time: if time
// stands still, the heap grows as fast as the guest allocates.
func elapsed() sys.Nanotime {
	begun := time.Now()
	return func() int64 { return int64(time.Since(begun).Truncate(tick)) }
}

// release records that an instance has ended.
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

// free releases the module's resources. It has nobody to return an error to, and
// only a bug of the runtime could cause one.
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

// Precompile compiles a module into Options.CacheDir, so that its first Open is as
// fast as later ones. It does not run the module. Installers can use it.
func Precompile(ctx context.Context, o Options) error {
	o, err := o.validate()
	if err != nil {
		return err
	}
	if o.CacheDir == "" {
		return sources.Errorf(sources.Invalid, "open", "", "CacheDir must be set: compiled modules are kept there")
	}
	m, err := compile(ctx, o)
	if err != nil {
		return err
	}
	m.close()
	return nil
}
