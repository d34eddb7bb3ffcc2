package csv_test

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

// pipes is a file system whose files cannot seek and, if slow is set, yield one piece of
// their text at a time, each after a wait. Then Read fails with err, if it is not nil.
type pipes struct {
	fstest.MapFS
	slow  atomic.Bool
	wait  time.Duration
	piece int // bytes; 0 means a line
	err   error
}

func (p *pipes) Open(name string) (fs.File, error) {
	f, err := p.MapFS.Open(name)
	if err != nil || name == "." {
		return f, err
	}
	return &pipe{File: f, pipes: p, rest: string(p.MapFS[name].Data)}, nil
}

type pipe struct {
	fs.File
	pipes *pipes
	rest  string
}

func (p *pipe) Read(b []byte) (int, error) {
	n := len(p.rest)
	if p.pipes.slow.Load() {
		time.Sleep(p.pipes.wait)
		if n == 0 && p.pipes.err != nil {
			return 0, p.pipes.err
		}
		if n = min(n, p.pipes.piece); p.pipes.piece == 0 {
			n = strings.Index(p.rest, "\n") + 1
		}
	}
	if n = copy(b, p.rest[:n]); n == 0 {
		return 0, io.EOF
	}
	p.rest = p.rest[n:]
	return n, nil
}

// TestDuePages tests when a scan hands on rows of a file that comes slowly.
func TestDuePages(t *testing.T) {
	var good strings.Builder
	good.WriteString("id,text\n")
	for i := range 9 {
		fmt.Fprintf(&good, "%d,text%d\n", i+1, i+1) // 8 bytes
	}
	bad := strings.NewReplacer("4,text4", "4,a,b,c", "5,text5", "5,a,b,c").Replace(good.String())
	first := sources.Comparison{Column: "id", Op: sources.OpLe, Value: sources.Int(1)}
	for name, c := range map[string]struct {
		text  string
		wait  time.Duration
		piece int
		query sources.Query
		flush time.Duration
		err   error
		want  []string
	}{
		"lines":         {text: good.String(), wait: 30 * time.Millisecond, want: []string{"120ms: 3 rows, due", "240ms: 4 rows, due", "330ms: 2 rows"}},
		"halves":        {text: good.String(), wait: 15 * time.Millisecond, piece: 4, want: []string{"105ms: 2 rows, due", "210ms: 4 rows, due", "315ms: 3 rows"}},
		"very slow":     {text: good.String(), wait: time.Minute, query: sources.Query{Limit: 2}, want: []string{"2m0s: 1 rows, due", "3m0s: 1 rows"}},
		"no more match": {text: good.String(), wait: 30 * time.Millisecond, query: sources.Query{Where: first}, want: []string{"120ms: 1 rows, due"}},
		// To find the line of a record that it skips, the scan reads the file again.
		"skipped": {text: bad, wait: time.Minute, query: sources.Query{Limit: 4}, want: []string{"2m0s: 1 rows, due", "3m0s: 1 rows, due", "4m0s: 1 rows, due", "10m0s: 0 rows, due, 1 skipped", "17m0s: 0 rows, due, 1 skipped", "18m0s: 1 rows"}},
		"never":   {text: good.String(), wait: time.Minute, flush: -1, want: []string{"11m0s: 9 rows"}},
		"a fault": {text: good.String(), wait: 30 * time.Millisecond, err: sources.NewError(sources.Unavailable, "", "", io.ErrClosedPipe), want: []string{"120ms: 3 rows, due", "240ms: 4 rows, due", "330ms: unavailable"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
				defer mem.AssertSize(t, 0)
				files := &pipes{MapFS: fstest.MapFS{"t.csv": {Data: []byte(c.text)}}, wait: c.wait, piece: c.piece, err: c.err}
				src, err := csv.New(files, csv.Options{SkipBad: true})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := src.Catalog(t.Context()); err != nil { // reads the file
					t.Fatal(err)
				}
				ses, err := src.Begin(t.Context(), sources.Env{Mem: mem, FlushAfter: c.flush})
				if err != nil {
					t.Fatal(err)
				}
				files.slow.Store(true)
				c.query.Table = "t"
				started := time.Now()
				var got []string
				for page, err := range ses.Scan(t.Context(), &c.query) {
					if err != nil {
						got = append(got, fmt.Sprintf("%s: %s", time.Since(started), sources.KindOf(err)))
						break
					}
					text := fmt.Sprintf("%s: %d rows", time.Since(started), page.Record.NumRows())
					if page.Due {
						text += ", due"
					}
					if page.Skipped.Records > 0 {
						text += fmt.Sprintf(", %d skipped", page.Skipped.Records)
					}
					got = append(got, text)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if err := ses.Close(); err != nil {
					t.Error(err)
				}
				if err := src.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
