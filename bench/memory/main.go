// Command memory measures how well Penstock's memory limit holds. It reads files of
// growing size with several limits behind each wall, and compares the peak of the host's
// resident memory, and of the sandbox's private memory, with the limit. Every run must
// return all rows with the same digest.
//
// It writes a table and a plot.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

var (
	bin     = flag.String("bin", "../bin", "directory of penstock and csv.wasm")
	data    = flag.String("data", "", "directory to generate the files in, and to reuse them from (default: a temporary one)")
	to      = flag.String("to", "../docs", "directory to write memory.md and memory.svg to")
	rows    = flag.String("rows", "100000,1000000,10000000", "numbers of narrow rows")
	fatRows = flag.String("fat", "10000,100000", "numbers of rows of 10 KiB")
	limits  = flag.String("limits", "32,64,128,256", "memory limits, in MiB")
	walls   = flag.String("walls", "inproc,process,wasm", "walls")
)

// subject is a file to read.
type subject struct {
	shape string // narrow or fat
	rows  int64
	uri   string
	table string
}

// result is one run.
type result struct {
	subject
	Wall     string
	Consumer string
	Limit    int64 // bytes
	Base     int64 // bytes: the peak of the host when it reads ten rows
	Host     int64 // bytes: VmHWM of the host process
	Elapsed  time.Duration
	receipt
}

// receipt has the fields of Penstock's receipt that are used here.
type receipt struct {
	Complete   bool  `json:"complete"`
	Rows       int64 `json:"rows"`
	Bytes      int64 `json:"bytes"`
	Peak       int64 `json:"peak_bytes"`
	Isolate    int64 `json:"isolate_peak_bytes"`
	IsolateCap int64 `json:"isolate_limit_bytes"`
	Levels     int   `json:"level_changes"`
	Digest     struct {
		Ordered string `json:"ordered"`
	} `json:"digest"`
	Error       string `json:"error"`
	LevelEvents []any  `json:"events"`
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "memory:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := *data
	if dir == "" {
		made, err := os.MkdirTemp("", "penstock-memory-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(made) }()
		dir = made
	}
	subjects, err := files(dir)
	if err != nil {
		return err
	}
	var all []result
	sums := map[string]string{} // by file
	for _, wall := range strings.Split(*walls, ",") {
		for _, text := range strings.Split(*limits, ",") {
			mib, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return err
			}
			base := int64(0)
			for _, s := range subjects {
				for _, consumer := range []string{"fast", "slow"} {
					if consumer == "slow" && s.rows > 1_000_000 {
						continue // it would take an hour, with no other difference
					}
					if base == 0 || consumer == "fast" {
						ten, err := measure(s, wall, "fast", mib<<20, 10)
						if err != nil {
							return err
						}
						base = ten.Host
					}
					r, err := measure(s, wall, consumer, mib<<20, 0)
					if err != nil {
						return err
					}
					r.Base = base
					if !r.Complete || r.Rows != s.rows {
						return fmt.Errorf("%s rows, %s consumer, %s, %d MiB: incomplete after %d rows: %s", s.shape, consumer, wall, mib, r.Rows, r.Error)
					}
					if sums[s.uri] == "" {
						sums[s.uri] = r.Digest.Ordered
					}
					if sums[s.uri] != r.Digest.Ordered {
						return fmt.Errorf("%s, %s, %d MiB: digest %s, want %s", s.uri, wall, mib, r.Digest.Ordered, sums[s.uri])
					}
					fmt.Fprintf(os.Stderr, "%-7s %3d MiB %-6s %-4s %8d rows: host %5.1f MiB (ten rows %5.1f), counted %5.1f, sandbox %5.1f, %s\n",
						wall, mib, s.shape, consumer, s.rows, inMiB(r.Host), inMiB(r.Base), inMiB(r.Peak), inMiB(r.Isolate), r.Elapsed.Round(time.Millisecond))
					all = append(all, r)
				}
			}
		}
	}
	if err := os.MkdirAll(*to, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(*to, "memory.md"), report(all), 0o644); err != nil {
		return err
	}
	return drawTo(all, filepath.Join(*to, "memory.svg"))
}

// files generates the files to read: order lines of a made-up shop, and tables whose
// rows have a text of 10 KiB each, which is 1 % of the largest page.
func files(dir string) (all []subject, err error) {
	for _, text := range strings.Split(*rows, ",") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, "narrow-"+text+".csv")
		if err := generate(path, n, func(w *bufio.Writer, i int64) {
			fmt.Fprintf(w, "%d,%d,%d,%d,%d.%02d,2026-02-%02d\n", i/4+1, i%4+1, i*7919%20000+1, i%9+1, i%1000, i%100, i%28+1)
		}, "order_id,line,product_id,quantity,price,shipped\n"); err != nil {
			return nil, err
		}
		all = append(all, subject{"narrow", n, "csv:" + path, "narrow-" + text})
	}
	fat := strings.Repeat("what a row holds is not what it costs. ", 1+10<<10/39)[:10<<10-20]
	for _, text := range strings.Split(*fatRows, ",") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, "fat-"+text+".csv")
		if err := generate(path, n, func(w *bufio.Writer, i int64) {
			fmt.Fprintf(w, "%d,%s%d\n", i, fat, i)
		}, "id,text\n"); err != nil {
			return nil, err
		}
		all = append(all, subject{"fat", n, "csv:" + path, "fat-" + text})
	}
	return all, nil
}

func generate(path string, n int64, row func(w *bufio.Writer, i int64), header string) (err error) {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	f, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	w.WriteString(header)
	for i := range n {
		row(w, i)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

// slowRate is how fast a slow consumer reads, in bytes per second.
const slowRate = 100 << 20

// measure reads a file once with the penstock command.
func measure(s subject, wall, consumer string, limit, most int64) (result, error) {
	r := result{subject: s, Wall: wall, Consumer: consumer, Limit: limit}
	args := []string{"read", s.uri, s.table, "--memory", fmt.Sprintf("%dB", limit), "--isolation", wall, "--format", "arrow", "--stats=json"}
	if most > 0 {
		args = append(args, "--limit", fmt.Sprint(most))
	}
	c := exec.Command(filepath.Join(*bin, "penstock"), args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := c.Start(); err != nil {
		return r, err
	}
	watched := make(chan int64)
	stop := make(chan struct{})
	go func() { watched <- watch(c.Process.Pid, stop) }()
	if consumer == "slow" {
		_, err = io.CopyBuffer(io.Discard, &slow{Reader: out, began: began}, make([]byte, 256<<10))
	} else {
		_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{out}, make([]byte, 256<<10))
	}
	close(stop)
	r.Host = <-watched
	if waited := c.Wait(); waited != nil {
		return r, fmt.Errorf("penstock %s: %w: %s", strings.Join(args, " "), waited, stderr.String())
	}
	r.Elapsed = time.Since(began)
	if err != nil {
		return r, err
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	return r, json.Unmarshal([]byte(lines[len(lines)-1]), &r.receipt)
}

type slow struct {
	io.Reader
	began time.Time
	read  int64
}

func (s *slow) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.read += int64(n)
	time.Sleep(time.Until(s.began.Add(time.Duration(float64(s.read) / slowRate * float64(time.Second)))))
	return n, err
}

// watch polls a process until it ends, and returns the peak of its resident memory, as
// the kernel reports it (VmHWM).
func watch(pid int, stop chan struct{}) (peak int64) {
	for {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
			for line := range strings.Lines(string(text)) {
				if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
					kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
					peak = max(peak, kib<<10)
				}
			}
		}
		select {
		case <-stop:
			return peak
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func inMiB(n int64) float64 { return float64(n) / (1 << 20) }
