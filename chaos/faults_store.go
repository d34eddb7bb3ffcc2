//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/cachedir"
)

// storeFaults happen to what is kept on a disk from one run to the next: answers of the
// cache, and indexes of CSV files. The data itself may change in between.
//
// The clock of the machine cannot be set without its owner's rights. What depends on it
// are the times of files, which these faults set to the past and the future.
var storeFaults = []fault{
	{name: "cache", on: anywhere, harmless: true, run: func(p *plan, ctx context.Context) outcome {
		return p.rounds(ctx, kept{cache: true})
	}},
	{name: "cache, damaged", on: anywhere, harmless: true, run: func(p *plan, ctx context.Context) outcome {
		return p.rounds(ctx, kept{cache: true, damage: true})
	}},
	{name: "cache, hosts killed", on: func(p *plan) bool { return sandboxed(p) }, run: func(p *plan, ctx context.Context) outcome {
		return p.rounds(ctx, kept{cache: true, kill: true})
	}},
	{name: "index", on: indexed, harmless: true, run: func(p *plan, ctx context.Context) outcome {
		return p.rounds(ctx, kept{index: true})
	}},
	{name: "index, damaged", on: indexed, harmless: true, run: func(p *plan, ctx context.Context) outcome {
		return p.rounds(ctx, kept{index: true, damage: true})
	}},
	{name: "index, plugins killed", on: func(p *plan) bool { return indexed(p) && sandboxed(p) }, run: func(p *plan, ctx context.Context) outcome {
		return p.rounds(ctx, kept{index: true, kill: true})
	}},
	{name: "files change", on: files, harmless: true, run: (*plan).change},
}

// indexed reports whether a run can use indexes in a directory: it looks up keys, and sees the
// directory.
func indexed(p *plan) bool {
	return files(p) && p.wall != host.Module && (p.question.load != "" || len(p.question.optional) > 0)
}

// kept is what a run keeps on the disk, and what happens to it.
type kept struct{ cache, index, damage, kill bool }

// rounds reads some questions in several rounds. In each, one to three hosts share the
// directories and read at once. Between rounds the files are damaged.
func (p *plan) rounds(ctx context.Context, k kept) (o outcome) {
	questions := []question{p.question}
	for range 2 {
		if q := ask(p.rng, p.question.source); !k.index || q.load != "" {
			questions = append(questions, q)
		}
	}
	for _, q := range questions {
		if _, err := p.world.answer(ctx, q); err != nil {
			return outcome{wrong: err, category: isWrong}
		}
	}
	uri := p.uri
	directory := filepath.Join(p.dir, "kept")
	if k.index {
		if err := os.Mkdir(directory, 0o777); err != nil {
			return outcome{wrong: err, category: isWrong}
		}
		uri += "?index=" + directory
	}
	// A small directory is emptied while others read it.
	size := []int64{0, 0, 64 << 10, 1}[p.rng.IntN(4)]
	o.whole = true
	for range 3 {
		var parts []outcome
		var work sync.WaitGroup
		var mu sync.Mutex
		for range 1 + p.rng.IntN(3) {
			rng := rand.New(rand.NewPCG(p.seed, p.rng.Uint64()))
			work.Go(func() {
				part := p.round(ctx, rng, k, uri, directory, size, questions)
				mu.Lock()
				defer mu.Unlock()
				parts = append(parts, part)
			})
		}
		work.Wait()
		for _, part := range parts {
			o.join(part)
		}
		if k.damage {
			o.blameIf(isWrong, damageFiles(p.rng, directory))
		}
	}
	if k.index {
		entries, err := os.ReadDir(directory)
		o.blameIf(isWrong, err)
		o.hits += len(entries)
	}
	return o
}

// round reads the questions in one host, once or twice.
func (p *plan) round(ctx context.Context, rng *rand.Rand, k kept, uri, directory string, size int64, questions []question) (o outcome) {
	source, end, err := p.openHost(ctx, uri, func(h *host.Options) {
		if !k.cache {
			return
		}
		store, err := cachedir.Open(directory, cachedir.Options{Bytes: size})
		if err != nil {
			o.blame(isWrong, "%w", err)
			return
		}
		// Little memory makes the cache use the directory.
		h.Cache = &host.Cache{Store: store, MaxBytes: 1 << (16 + rng.IntN(8)), MaxEntryBytes: 1 << 16}
		if rng.IntN(2) == 0 {
			h.Cache = &host.Cache{Store: store}
		}
	})
	if end != nil {
		defer end(&o)
	}
	r := reading{plan: p, options: p.options()}
	if err != nil {
		r.judge(&o, err)
		return o
	}
	at := rng.IntN(6)
	r.each = func(_ context.Context, n int, _ *core.Chunk, _ *core.Stream) error {
		if k.kill && n == at {
			return p.signal(source, syscall.SIGKILL)
		}
		return nil
	}
	o.whole = true
	for range 1 + rng.IntN(2) {
		for _, q := range questions {
			if rng.IntN(3) == 0 {
				continue
			}
			r.question, r.truth = q, p.world.known(q)
			o.join(r.read(ctx, source))
		}
	}
	return o
}

// damageFiles damages some files of a directory, as disks, power failures and clumsy
// administrators do.
func damageFiles(rng *rand.Rand, directory string) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(directory, e.Name())
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
			continue
		}
		if err := damageFile(rng, directory, name, info.Size()); err != nil {
			return fmt.Errorf("damaging %s: %w", name, err)
		}
	}
	return nil
}

func damageFile(rng *rand.Rand, directory, name string, size int64) (err error) {
	at := rng.Int64N(size)
	what := rng.IntN(9)
	switch what {
	case 0:
		return nil
	case 1:
		return os.Truncate(name, at)
	case 2:
		return os.Remove(name)
	case 3: // the content of another file
		others, err := filepath.Glob(filepath.Join(directory, "*"))
		if err != nil {
			return err
		}
		text, err := os.ReadFile(others[rng.IntN(len(others))])
		if err != nil {
			return err
		}
		return os.WriteFile(name, text, 0o600)
	case 4: // the clock was wrong, or is
		moved := time.Now().Add(time.Duration(rng.Int64N(2_000_000)-1_000_000) * time.Hour / 100)
		return os.Chtimes(name, moved, moved)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	switch what {
	case 5: // a page of zeros
		_, err = f.WriteAt(make([]byte, min(4096, size-at&^4095)), at&^4095)
	case 6: // bytes after the end
		_, err = f.WriteAt([]byte(strings.Repeat("more ", 1+rng.IntN(1000))), size)
	default: // a bit
		one := make([]byte, 1)
		if _, err = f.ReadAt(one, at); err == nil {
			one[0] ^= 1 << rng.IntN(8)
			_, err = f.WriteAt(one, at)
		}
	}
	return err
}

// settleTime is how long a CSV source remembers nothing of a file after a change: its times
// do not yet identify its contents.
const settleTime = 2*time.Second + 100*time.Millisecond

// change reads files that change between the rounds, with a cache and an index that remember
// earlier contents. The times of the files are set to what they were, or to the past or the
// future, as after a jump of the clock.
func (p *plan) change(ctx context.Context) (o outcome) {
	shop, index := filepath.Join(p.dir, "shop"), filepath.Join(p.dir, "index")
	err := os.CopyFS(shop, os.DirFS(p.world.shop))
	if err = errors.Join(err, os.Mkdir(index, 0o777)); err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	uri := "csv:" + shop
	if p.wall != host.Module {
		uri += "?index=" + index
	}
	o.whole = true
	for range 3 {
		if p.rng.IntN(3) > 0 {
			time.Sleep(settleTime)
		}
		truth, err := answerAt(ctx, "csv:"+shop, p.question)
		if err != nil {
			return outcome{wrong: err, category: isWrong}
		}
		for range 2 { // the second one from what the first has remembered
			o.join(p.readChanged(ctx, uri, truth))
		}
		for _, name := range []string{p.question.table, "orders", "customers", "order_lines", "products"} {
			if p.rng.IntN(2) == 0 {
				o.blameIf(isWrong, swapRecords(p.rng, filepath.Join(shop, name+".csv")))
			}
		}
	}
	return o
}

func (p *plan) readChanged(ctx context.Context, uri string, truth *truth) (o outcome) {
	source, end, err := p.openHost(ctx, uri, func(h *host.Options) {
		store, err := cachedir.Open(filepath.Join(p.dir, "kept"), cachedir.Options{})
		if err != nil {
			o.blame(isWrong, "%w", err)
			return
		}
		h.Cache = &host.Cache{Store: store}
	})
	if end != nil {
		defer end(&o)
	}
	r := reading{plan: p, question: p.question, truth: truth, options: p.options()}
	if err != nil {
		r.judge(&o, err)
		return o
	}
	o.whole = true
	o.join(r.read(ctx, source))
	return o
}

// swapRecords exchanges two neighboring records of a CSV file, so that its size stays, but
// not its contents and the positions of its records. It sets the time of the file.
func swapRecords(rng *rand.Rand, name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var ends []int
	quoted := false
	for i, b := range text {
		if b == '"' {
			quoted = !quoted
		} else if b == '\n' && !quoted {
			ends = append(ends, i+1)
		}
	}
	if len(ends) < 4 {
		return fmt.Errorf("%s has too few records", name)
	}
	at := rng.IntN(len(ends) - 2)
	a, b, c := ends[at], ends[at+1], ends[at+2]
	changed := slices.Concat(text[:a], text[b:c], text[a:b], text[c:])
	if rng.IntN(2) == 0 { // a new file
		if err := os.WriteFile(name+".new", changed, 0o666); err != nil {
			return err
		}
		err = os.Rename(name+".new", name)
	} else {
		err = os.WriteFile(name, changed, 0o666)
	}
	if err != nil {
		return err
	}
	then := []time.Time{info.ModTime(), time.Now(), time.Now().Add(24 * time.Hour), time.Unix(0, 0)}[rng.IntN(4)]
	return os.Chtimes(name, then, then)
}
