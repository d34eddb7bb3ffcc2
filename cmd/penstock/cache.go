package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/cachedir"
	"github.com/penstock-data/penstock/internal/display"
)

// cacheFlags are the flags of a command whose answers may be cached.
type cacheFlags struct {
	dir, mode, size string
	ttl             time.Duration
}

func (f *cacheFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.dir, "cache-dir", "", "cache answers in this directory")
	flags.StringVar(&f.mode, "cache", "use", "with --cache-dir: use, refresh (ask the source and replace the cached answer) or bypass")
	flags.DurationVar(&f.ttl, "cache-ttl", 0, "use an answer for at most this long (default 5m)")
	flags.StringVar(&f.size, "cache-size", "", "the most that the directory holds, such as 200MB (default 1 GB)")
}

// cacheConfig is a cache in a directory.
type cacheConfig struct {
	dir   string
	bytes int64
	ttl   time.Duration
}

// open returns the cache for a host; of nil, it is nil.
func (c *cacheConfig) open(logger *slog.Logger) (*host.Cache, error) {
	if c == nil {
		return nil, nil
	}
	store, err := cachedir.Open(c.dir, cachedir.Options{Bytes: c.bytes, Logger: logger})
	if err != nil {
		return nil, err
	}
	return &host.Cache{Store: store, TTL: c.ttl}, nil
}

// parse returns the cache of the flags, nil for none, and how the stream uses it.
func (f *cacheFlags) parse(c *cobra.Command) (*cacheConfig, cache.Policy, error) {
	var caching cache.Policy
	if f.dir == "" {
		for _, name := range []string{"cache", "cache-ttl", "cache-size"} {
			if c.Flags().Changed(name) {
				return nil, caching, usagef("--%s needs --cache-dir", name)
			}
		}
		return nil, caching, nil
	}
	modes := []cache.Mode{cache.ModeUse, cache.ModeRefresh, cache.ModeBypass}
	i := slices.IndexFunc(modes, func(m cache.Mode) bool { return m.String() == f.mode })
	if i < 0 {
		return nil, caching, usagef("--cache must be use, refresh or bypass (got %q)", f.mode)
	}
	if c.Flags().Changed("cache-ttl") && f.ttl <= 0 {
		return nil, caching, usagef("--cache-ttl must be positive (got %s)", f.ttl)
	}
	caching.Mode = modes[i]
	cache := &cacheConfig{dir: f.dir, ttl: f.ttl}
	if f.size != "" {
		bytes, err := parseSize(f.size)
		if err != nil {
			return nil, caching, err
		}
		cache.bytes = bytes
	}
	return cache, caching, nil
}

func newCache() *cobra.Command {
	c := &cobra.Command{
		Use:   "cache",
		Short: "Inspect or clear a cache directory",
		Long: `Inspect or clear the directory that penstock read --cache-dir caches answers in.
An answer is cached once it was read to its end. It is used for --cache-ttl, for the same
user, source and query, while the program, the role and the settings of the source are the
same. If a source can tell that a table has changed, as csv can, answers from before the
change are not used. Files that changed less than two seconds ago are not cached, nor are
sources that do not say what their answers depend on. A penstock that was built from files
with uncommitted changes uses no directory.`,
		Example: `  penstock cache stats --cache-dir ~/.cache/penstock
  penstock cache clear --cache-dir ~/.cache/penstock`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCacheStats(), newCacheClear())
	return c
}

// openCache opens the directory of --cache-dir.
func openCache(dir string) (*cachedir.Dir, error) {
	if dir == "" {
		return nil, usagef("--cache-dir is missing")
	}
	return cachedir.Find(dir, nil)
}

func newCacheStats() *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:     "stats",
		Short:   "Show what a cache directory holds",
		Example: "  penstock cache stats --cache-dir ~/.cache/penstock --json",
		Args:    wantArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := openCache(dir)
			if err != nil {
				return err
			}
			s := d.Stats()
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(s)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d answers in %s, of which %d have expired and %d are damaged\n",
				s.Dir, s.Answers, budget.FormatBytes(s.Bytes), s.Expired, s.Damaged)
			var tables []string
			for table := range s.Tables {
				tables = append(tables, table)
			}
			slices.Sort(tables)
			for _, table := range tables {
				_, tableErr := fmt.Fprintf(c.OutOrStdout(), "  %-30s %d\n", display.Printable(table), s.Tables[table])
				err = errors.Join(err, tableErr)
			}
			return err
		},
	}
	c.Flags().StringVar(&dir, "cache-dir", "", "the cache directory")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func newCacheClear() *cobra.Command {
	var dir, table string
	c := &cobra.Command{
		Use:     "clear",
		Short:   "Remove the answers from a cache directory; other files stay",
		Example: "  penstock cache clear --cache-dir ~/.cache/penstock --table orders",
		Args:    wantArgs(0),
		RunE: func(*cobra.Command, []string) error {
			d, err := openCache(dir)
			if err != nil {
				return err
			}
			d.Invalidate(query.Fingerprint{}, table)
			return nil
		},
	}
	c.Flags().StringVar(&dir, "cache-dir", "", "the cache directory")
	c.Flags().StringVar(&table, "table", "", "remove only answers of tables with this name")
	return c
}
