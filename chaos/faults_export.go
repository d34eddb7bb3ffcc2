//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/penstock-data/penstock/host"
)

// exportFaults happen to the command line while it writes a file.
var exportFaults = []fault{
	{name: "export: device full", on: exported, run: (*plan).full},
	{name: "export: no space", on: exported, run: (*plan).noSpace},
	{name: "export: killed", on: exported, run: (*plan).killExport},
	{name: "export: overlap", on: exported, run: (*plan).overlap},
}

func exported(p *plan) bool { return p.world.penstock != "" }

// export is a command that writes a file.
type export struct {
	*plan
	args       []string // without the files
	out, state string   // the output and the checkpoint; state is empty without one
}

// newExport returns the export of the run's question to a directory.
func (p *plan) newExport(directory string, checkpoint bool) export {
	format := "ndjson"
	if p.question.load == "" && len(p.question.optional) == 0 && p.rng.IntN(2) == 0 {
		format = "csv"
	}
	args := append([]string{"read", p.uri, "--isolation", string(p.wall), "--memory", "4MiB", "--format", format}, p.question.flags()...)
	if p.parallel > 1 && len(p.question.order) > 0 {
		args = append(args, "--parallel", fmt.Sprint(p.parallel))
	}
	if p.noPushdown {
		args = append(args, "--no-pushdown")
	}
	e := export{plan: p, args: args, out: filepath.Join(directory, "out."+format)}
	if checkpoint {
		e.state = filepath.Join(directory, "state")
	}
	return e
}

// command returns the command of the export. It writes to the output e.out.
func (e export) command(ctx context.Context, more ...string) *exec.Cmd {
	args := append(slices.Clone(e.args), "-o", e.out)
	if e.state != "" {
		args = append(args, "--checkpoint", e.state)
	}
	c := exec.CommandContext(ctx, e.world.penstock, append(args, more...)...)
	c.Env = append(os.Environ(), "PENSTOCK_PLUGIN_PATH="+e.world.plugins)
	return c
}

// truth returns what the file must contain, from an undisturbed export without isolation.
func (e export) truth(ctx context.Context) ([]byte, error) {
	e.args = slices.Clone(e.args)
	e.args[slices.Index(e.args, "--isolation")+1] = string(host.InProcess)
	key := strings.Join(e.args, "\x00") + fmt.Sprint(e.state != "")
	if text, ok := e.world.exports[key]; ok {
		return text, nil
	}
	directory, err := os.MkdirTemp(e.dir, "truth")
	if err != nil {
		return nil, err
	}
	e.out = filepath.Join(directory, "out")
	if e.state != "" {
		e.state = filepath.Join(directory, "state")
	}
	if out, err := e.command(ctx).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the undisturbed export: %w: %s", err, out)
	}
	text, err := os.ReadFile(e.out)
	e.world.exports[key] = text
	return text, err
}

// check compares the output of an export that has succeeded with what it must be.
func (e export) check(o *outcome, want []byte) {
	got, err := os.ReadFile(e.out)
	switch {
	case err != nil:
		o.blame(isWrong, "the export succeeded, but its output cannot be read: %w", err)
	case !bytes.Equal(got, want):
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		o.blame(isWrong, "WRONG FILE: %d bytes, want %d; the first difference is at byte %d", len(got), len(want), at)
	}
}

// checkFiles checks that a directory has the output, the locks, and nothing else.
func (e export) checkFiles(o *outcome) {
	entries, err := os.ReadDir(filepath.Dir(e.out))
	if err != nil {
		o.blame(isWrong, "%w", err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name != filepath.Base(e.out) && !strings.HasSuffix(name, ".lock") {
			o.blame(isLeak, "the export leaves the file %s", name)
		}
	}
}

// finish runs the export to its end, as a user would do after a failure.
func (e export) finish(ctx context.Context, o *outcome, want []byte) {
	text, err := e.command(ctx).CombinedOutput()
	if flag := "--resume-across-snapshots"; err != nil && strings.Contains(string(text), flag) {
		text, err = e.command(ctx, flag).CombinedOutput()
	}
	if err != nil {
		o.blame(isWrong, "the export cannot be finished: %w: %s", err, text)
		return
	}
	e.check(o, want)
	e.checkFiles(o)
	o.whole = o.wrong == nil
}

// full exports to a device without space.
func (p *plan) full(ctx context.Context) (o outcome) {
	e := p.newExport(p.dir, false)
	want, err := e.truth(ctx)
	if err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	e.out = "/dev/full"
	text, err := e.command(ctx).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case len(want) == 0 && err == nil:
	case !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(text), "no space left"):
		o.blame(isWrong, "the command line does not report a full disk: %w: %s", err, text)
	}
	o.err = err
	return o
}

// noSpace exports to a file system that becomes full, and then again with enough space. If
// this process may not mount one, a limit of the size of files stands for it.
func (p *plan) noSpace(ctx context.Context) (o outcome) {
	directory := filepath.Join(p.dir, "small")
	if err := os.Mkdir(directory, 0o777); err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	e := p.newExport(directory, p.rng.IntN(2) == 0)
	want, err := e.truth(ctx)
	if err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	c := e.command(ctx)
	kilobytes := 8 + p.rng.IntN(max(len(want)>>10, 1))
	script := `trap '' XFSZ; ulimit -f ` + fmt.Sprint(2*kilobytes) + `; "$@"`
	mount := e.world.mounts && p.rng.IntN(4) > 0
	if mount {
		script = fmt.Sprintf(`dir=%s; mount -t tmpfs -o size=%dk none $dir || exit 99; "$@"; code=$?
			if [ $code = 0 ]; then cp -a $dir $dir.copy; exit 0; fi
			mount -o remount,size=1g $dir || exit 99; "$@" || "$@" --resume-across-snapshots || exit 98; cp -a $dir $dir.copy; exit $code`, directory, kilobytes)
		c.Args = append([]string{"unshare", "-rm", "sh", "-c", script, "sh"}, c.Args...)
	} else {
		c.Args = append([]string{"sh", "-c", script, "sh"}, c.Args...)
	}
	if c.Path, err = exec.LookPath(c.Args[0]); err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	text, err := c.CombinedOutput()
	var exit *exec.ExitError
	reason := strings.Contains(string(text), "no space left") || strings.Contains(string(text), "file too large")
	switch {
	case err == nil:
	case !errors.As(err, &exit) || exit.ExitCode() != 1 || !reason:
		o.blame(isWrong, "the command line does not report that there is no space: %w: %s", err, text)
	default:
		o.err = err
	}
	if mount {
		e.out = filepath.Join(directory+".copy", filepath.Base(e.out))
		e.check(&o, want)
		e.checkFiles(&o)
	} else {
		e.finish(ctx, &o, want)
	}
	return o
}

// killExport kills the command line at random moments, and finishes the export then.
func (p *plan) killExport(ctx context.Context) (o outcome) {
	directory := filepath.Join(p.dir, "killed")
	if err := os.Mkdir(directory, 0o777); err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	e := p.newExport(directory, p.rng.IntN(4) > 0)
	want, err := e.truth(ctx)
	if err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	for range 1 + p.rng.IntN(3) {
		c := e.command(ctx)
		if err := c.Start(); err != nil {
			return outcome{wrong: err, category: isWrong}
		}
		time.Sleep(time.Duration(p.rng.IntN(400)) * time.Millisecond)
		_ = c.Process.Kill() // it may have ended
		_ = c.Wait()
	}
	e.finish(ctx, &o, want)
	p.emptyScratch(&o) // killed programs leave their sockets
	return o
}

// overlap runs two exports with a file in common at once.
func (p *plan) overlap(ctx context.Context) (o outcome) {
	directory := filepath.Join(p.dir, "overlap")
	if err := os.Mkdir(directory, 0o777); err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	first := p.newExport(directory, p.rng.IntN(4) > 0)
	second := first
	if first.state != "" {
		switch p.rng.IntN(4) {
		case 0:
			second.state += "2"
		case 1:
			second.state = ""
		}
	}
	want, err := first.truth(ctx)
	if err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	if text, err := second.truth(ctx); err != nil || !bytes.Equal(text, want) {
		return outcome{wrong: fmt.Errorf("the order of the table is not that of its key: %w", err), category: isWrong}
	}
	var commands [2]*exec.Cmd
	var texts [2]bytes.Buffer
	for i, e := range []export{first, second} {
		commands[i] = e.command(ctx)
		commands[i].Stdout, commands[i].Stderr = &texts[i], &texts[i]
		if err := commands[i].Start(); err != nil {
			return outcome{wrong: err, category: isWrong}
		}
		time.Sleep(time.Duration(p.rng.IntN(100)) * time.Millisecond)
	}
	succeeded := 0
	for i, c := range commands {
		err := c.Wait()
		other := fmt.Sprint(commands[1-i].Process.Pid)
		switch {
		case err == nil:
			succeeded++
		case !strings.Contains(texts[i].String(), other):
			o.blame(isWrong, "an export that overlaps with that of process %s fails without naming it: %w: %s", other, err, texts[i].String())
		default:
			o.err = err
		}
	}
	if succeeded == 0 {
		o.blame(isWrong, "both exports failed: %s%s", texts[0].String(), texts[1].String())
		return o
	}
	first.check(&o, want)
	first.checkFiles(&o)
	first.finish(ctx, &o, want) // what is left behind must not prevent another run
	return o
}
