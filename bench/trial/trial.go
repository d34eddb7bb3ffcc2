// Package trial compares contestants that do the same job. Each run is a process of its
// own, and the contestants take turns. All must read the same rows: the trial fails if
// the number of rows or the checksum of a run differs from the first contestant's.
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

// Outcome is the result that a run reports.
type Outcome struct {
	Rows     int64              // number of rows read
	Checksum string             // of their values; not compared if empty
	First    time.Duration      // until the first rows arrived; 0 if not applicable
	Wall     time.Duration      // the trial measures it if it is 0
	Server   time.Duration      // processor time of the server, if any
	Extra    map[string]float64 // other figures, by name
}

// Contestant is one way to do the job. Its Run is called once in each process.
type Contestant struct {
	Name string
	Run  func(ctx context.Context) (Outcome, error)
	// Sampled means that the contestant does only part of the job, and that its outcome
	// is not compared.
	Sampled bool
}

// Run has the outcome and the resource use of one process.
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

// Main runs a trial as a command: it parses the flags and writes a table. The caller
// defines its own flags before. Main calls setup once, in the measuring process, to make
// the data that contestants read. The env that setup returns is added to the environment
// of the contestants. After a failure, Main exits.
func Main(title string, contestants []Contestant, setup func(ctx context.Context) (env []string, cleanup func(), err error)) {
	runs := flag.Int("runs", 5, "runs of each contestant")
	only := flag.String("only", "", "comma-separated names of the contestants to run (default: all)")
	asJSON := flag.Bool("json", false, "write the results as JSON")
	one := flag.String("one", "", "run this contestant once and write its outcome; used by the command itself")
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

// runOne runs one contestant, and writes the result to standard output.
func runOne(ctx context.Context, contestants []Contestant, name string) error {
	i := slices.IndexFunc(contestants, func(c Contestant) bool { return c.Name == name })
	if i < 0 {
		return fmt.Errorf("no contestant is named %q", name)
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

// PeakRSS returns the peak resident memory of this process, or of the largest of its
// children that have ended, whichever is larger, in bytes.
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
		// This includes memory that a child inherits from the process that starts it.
		peak = max(peak, children.Maxrss<<10)
	}
	return peak
}

// Turns runs each contestant the given number of times, in turn, and compares what they
// read. It passes the caller's own flags to each run.
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
				return nil, fmt.Errorf("%s read %d rows, but %s read %d", c.Name, r.Rows, contestants[0].Name, truth.Rows)
			case truth.Checksum == "":
				truth.Checksum = r.Checksum
			case r.Checksum != "" && r.Checksum != truth.Checksum:
				return nil, fmt.Errorf("%s has the checksum %s, want %s", c.Name, r.Checksum, truth.Checksum)
			}
			results[j].Name = c.Name
			results[j].Runs = append(results[j].Runs, r)
		}
	}
	return results, nil
}

// Median returns the median, minimum and maximum of the values that f returns for the
// runs.
func Median[T cmp.Ordered](runs []Run, f func(Run) T) (median, least, most T) {
	values := make([]T, len(runs))
	for i, r := range runs {
		values[i] = f(r)
	}
	slices.Sort(values)
	return values[len(values)/2], values[0], values[len(values)-1]
}

// Write writes the results as a Markdown table. A ratio is the wall time of a run divided
// by that of the first contestant's run in the same turn.
func Write(w io.Writer, title string, results []Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n| contestant | wall s | min to max | ratio | min to max | first ms | cpu s | server cpu s | peak RSS MiB | rows | checksum | other |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|\n", title)
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

// besides lists the medians of the runs' other figures.
func besides(runs []Run) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(runs[0].Extra)) {
		value, _, _ := Median(runs, func(r Run) float64 { return r.Extra[name] })
		all = append(all, fmt.Sprintf("%s %.6g", name, value))
	}
	return strings.Join(all, ", ")
}
