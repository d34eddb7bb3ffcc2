// Package trial measures contestants side by side. Every run is a process of its
// own, the contestants take turns, and what they read must be the same: a run
// whose rows or checksum differ from the first contestant's fails the trial.
package trial

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Outcome is what one run tells of itself.
type Outcome struct {
	Rows     int64         // that were read
	Checksum string        // over what they hold; empty is not compared
	First    time.Duration // until the first rows were there; 0 where that means nothing
	Wall     time.Duration // filled in by the trial where it is 0
	Server   time.Duration // processor time of a server, where there is one
	Extra    map[string]float64
}

// Contestant is one way to do the job. Run is called once in a process of its
// own.
type Contestant struct {
	Name string
	Run  func(ctx context.Context) (Outcome, error)
	// Sampled says that the contestant does a part of the job, and that its
	// outcome is not compared.
	Sampled bool
}

// Run is the measure of one process.
type Run struct {
	Outcome
	CPU time.Duration // user and system, of the process and its children
	RSS int64         // bytes: the process's own peak (VmHWM), or the largest child's
}

// Result has all runs of a contestant, in their order.
type Result struct {
	Name string
	Runs []Run
}

// Main runs a trial as a command: it parses the flags -runs and -only, and writes
// a table. Flags of the caller's own are defined before; setup is called once in
// the measuring process alone and makes what the contestants read, and its result
// says what to put into their environment. It does not return after a failure.
func Main(title string, contestants []Contestant, setup func(ctx context.Context) (env []string, cleanup func(), err error)) {
	runs := flag.Int("runs", 5, "runs of each contestant")
	only := flag.String("only", "", "comma-separated names of the contestants to run; empty is all")
	asJSON := flag.Bool("json", false, "write the figures as JSON")
	one := flag.String("one", "", "run this contestant once and write its outcome; for the command itself")
	flag.Parse()
	ctx := context.Background()
	if *one != "" {
		fail(runOne(ctx, contestants, *one))
		return
	}
	fail(func() error {
		var env []string
		if setup != nil {
			made, cleanup, err := setup(ctx)
			if cleanup != nil {
				defer cleanup()
			}
			if err != nil {
				return err
			}
			env = made
		}
		chosen := contestants
		if *only != "" {
			names := strings.Split(*only, ",")
			chosen = slices.DeleteFunc(slices.Clone(contestants), func(c Contestant) bool { return !slices.Contains(names, c.Name) })
		}
		results, err := Turns(ctx, chosen, *runs, env)
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(os.Stdout).Encode(results)
		}
		return Write(os.Stdout, title, results)
	}())
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runOne is the process of one run.
func runOne(ctx context.Context, contestants []Contestant, name string) error {
	i := slices.IndexFunc(contestants, func(c Contestant) bool { return c.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no contestant %q", name)
	}
	started := time.Now()
	outcome, err := contestants[i].Run(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if outcome.Wall == 0 {
		outcome.Wall = time.Since(started)
	}
	return json.NewEncoder(os.Stdout).Encode(Run{Outcome: outcome, RSS: PeakRSS()})
}

// PeakRSS is the most memory that this process, or the largest of its children
// that have ended, had in memory at once, in bytes.
func PeakRSS() int64 {
	var peak int64
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
				peak = kib << 10
			}
		}
	}
	var children syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_CHILDREN, &children) == nil {
		// What a child inherits from the process that starts it counts here too.
		peak = max(peak, children.Maxrss<<10)
	}
	return peak
}

// Turns runs each contestant so many times, in turn, and compares what they read.
// The caller's own flags are passed on.
func Turns(ctx context.Context, contestants []Contestant, runs int, env []string) ([]Result, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var own []string
	flag.Visit(func(f *flag.Flag) {
		if !slices.Contains([]string{"runs", "only", "one", "json"}, f.Name) {
			own = append(own, "-"+f.Name+"="+f.Value.String())
		}
	})
	results := make([]Result, len(contestants))
	var truth *Run
	for i := range runs {
		for j, c := range contestants {
			fmt.Fprintf(os.Stderr, "run %d of %d: %s\n", i+1, runs, c.Name)
			var out bytes.Buffer
			command := exec.CommandContext(ctx, self, append(own, "-one", c.Name)...)
			command.Env = append(os.Environ(), env...)
			command.Stdout, command.Stderr = &out, os.Stderr
			started := time.Now()
			if err := command.Run(); err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
			r := Run{}
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				return nil, errors.Join(fmt.Errorf("%s wrote %q after %s", c.Name, out.String(), time.Since(started)), err)
			}
			r.CPU = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
			switch {
			case c.Sampled:
			case truth == nil:
				truth = &r
			case r.Rows != truth.Rows:
				return nil, fmt.Errorf("%s read %d rows where %s read %d", c.Name, r.Rows, contestants[0].Name, truth.Rows)
			case truth.Checksum == "":
				truth.Checksum = r.Checksum
			case r.Checksum != "" && r.Checksum != truth.Checksum:
				return nil, fmt.Errorf("%s has the checksum %s where another has %s", c.Name, r.Checksum, truth.Checksum)
			}
			results[j].Name = c.Name
			results[j].Runs = append(results[j].Runs, r)
		}
	}
	return results, nil
}

// Median is the middle of the values that f gives of the runs, with the least
// and the most.
func Median[T cmp.Ordered](runs []Run, f func(Run) T) (median, least, most T) {
	values := make([]T, len(runs))
	for i, r := range runs {
		values[i] = f(r)
	}
	slices.Sort(values)
	return values[len(values)/2], values[0], values[len(values)-1]
}

// Write writes the results as a Markdown table. The ratio is of wall times, run
// by run against the first contestant.
func Write(w io.Writer, title string, results []Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n| contestant | wall s | min to max | ratio | min to max | first ms | cpu s | server cpu s | peak RSS MiB | rows | checksum | besides |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|\n", title)
	for _, r := range results {
		wall, least, most := Median(r.Runs, func(r Run) float64 { return r.Wall.Seconds() })
		paired := make([]float64, len(r.Runs))
		for i := range r.Runs {
			paired[i] = r.Runs[i].Wall.Seconds() / math.Max(results[0].Runs[i].Wall.Seconds(), 1e-9)
		}
		slices.Sort(paired)
		first, _, _ := Median(r.Runs, func(r Run) float64 { return float64(r.First.Microseconds()) / 1000 })
		cpu, _, _ := Median(r.Runs, func(r Run) float64 { return r.CPU.Seconds() })
		server, _, _ := Median(r.Runs, func(r Run) float64 { return r.Server.Seconds() })
		_, _, rss := Median(r.Runs, func(r Run) int64 { return r.RSS })
		fmt.Fprintf(&b, "| %s | %.3f | %.3f to %.3f | %.2f | %.2f to %.2f | %.1f | %.2f | %.2f | %.1f | %d | %s | %s |\n",
			r.Name, wall, least, most, paired[len(paired)/2], paired[0], paired[len(paired)-1], first, cpu, server,
			float64(rss)/(1<<20), r.Runs[0].Rows, r.Runs[0].Checksum, besides(r.Runs))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// besides lists the medians of what runs tell besides.
func besides(runs []Run) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(runs[0].Extra)) {
		value, _, _ := Median(runs, func(r Run) float64 { return r.Extra[name] })
		all = append(all, fmt.Sprintf("%s %.6g", name, value))
	}
	return strings.Join(all, ", ")
}
