package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
)

// cacheFlags are those of a command whose answers may be remembered.
type cacheFlags struct {
	dir, mode, size string
	ttl             time.Duration
}

func (f *cacheFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.dir, "cache-dir", "", "remember answers in this directory, and give those that are there already")
	flags.StringVar(&f.mode, "cache", "use", "with --cache-dir: use, refresh (ask the source, and remember what it says) or bypass")
	flags.DurationVar(&f.ttl, "cache-ttl", 0, "for how long an answer is good, from when it was asked (default 5m)")
	flags.StringVar(&f.size, "cache-size", "", "how much the directory holds, as in 200MB (default 1 GB)")
}

// parse returns what the host remembers, nil for nothing, and how the stream uses
// it.
func (f *cacheFlags) parse(c *cobra.Command) (*host.Cache, cache.Policy, error) {
	var caching cache.Policy
	if f.dir == "" {
		for _, name := range []string{"cache", "cache-ttl", "cache-size"} {
			if c.Flags().Changed(name) {
				return nil, caching, usagef("--%s goes with --cache-dir", name)
			}
		}
		return nil, caching, nil
	}
	modes := []cache.Mode{cache.ModeUse, cache.ModeRefresh, cache.ModeBypass}
	i := slices.IndexFunc(modes, func(m cache.Mode) bool { return m.String() == f.mode })
	if i < 0 {
		return nil, caching, usagef("--cache is %q: it is one of use, refresh and bypass", f.mode)
	}
	if c.Flags().Changed("cache-ttl") && f.ttl <= 0 {
		return nil, caching, usagef("--cache-ttl is %s: it must be more than nothing", f.ttl)
	}
	caching.Mode = modes[i]
	cache := &host.Cache{Dir: f.dir, TTL: f.ttl}
	if f.size != "" {
		bytes, err := parseSize(f.size)
		if err != nil {
			return nil, caching, err
		}
		cache.DirBytes = bytes
	}
	return cache, caching, nil
}

func newCache() *cobra.Command {
	c := &cobra.Command{
		Use:   "cache",
		Short: "Look at a directory of remembered answers, or empty it",
		Long: `Look at the directory that penstock read --cache-dir remembers answers in, or empty it.
An answer is remembered once it was read to its end, for --cache-ttl, for the same user, source and
question. Where a source tells that its table has changed, as csv does, the answer is not given any more.`,
		Example: `  penstock cache stats --cache-dir ~/.cache/penstock
  penstock cache clear --cache-dir ~/.cache/penstock`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCacheStats(), newCacheClear())
	return c
}

// openCache opens the directory of the flag, which every command here wants.
func openCache(dir string) (*host.CacheDir, error) {
	if dir == "" {
		return nil, usagef("--cache-dir is missing")
	}
	return host.FindCacheDir(dir, nil)
}

func newCacheStats() *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:     "stats",
		Short:   "Say what a directory of remembered answers holds",
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
				_, tableErr := fmt.Fprintf(c.OutOrStdout(), "  %-30s %d\n", table, s.Tables[table])
				err = errors.Join(err, tableErr)
			}
			return err
		},
	}
	c.Flags().StringVar(&dir, "cache-dir", "", "the directory")
	c.Flags().BoolVar(&asJSON, "json", false, "write one JSON object")
	return c
}

func newCacheClear() *cobra.Command {
	var dir, table string
	c := &cobra.Command{
		Use:     "clear",
		Short:   "Remove the answers of a directory, and nothing else that is there",
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
	c.Flags().StringVar(&dir, "cache-dir", "", "the directory")
	c.Flags().StringVar(&table, "table", "", "only those of tables with this name")
	return c
}
