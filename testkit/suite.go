package testkit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// Result is the outcome of one rule for one table, or for the source as a whole
// where Table is empty.
type Result struct {
	Rule    string // its short name
	Table   string
	Skipped string // why the rule was not tried; empty where it was
	Err     error  // what breaks the rule, with the contract's words; nil where nothing does
}

// TestSource holds a source against every rule of the contract, and returns
// what it breaks, with the contract's own words, or nil. It reads at most some
// twenty thousand rows of each table a few dozen times. The source should be
// open, idle, and without anyone who changes its data.
func TestSource(ctx context.Context, source sources.Source) error {
	return Check(ctx, source, func(Result) {})
}

// Check does what [TestSource] does, and reports each rule as it goes.
func Check(ctx context.Context, source sources.Source, report func(Result)) error {
	s := &suite{ctx: ctx, source: source}
	var faults []error
	try := func(table string, r rule, run func() error) {
		err := sourcesCall(run)
		result := Result{Rule: r.name, Table: table}
		var skip skipped
		switch {
		case errors.As(err, &skip):
			result.Skipped = string(skip)
		case err != nil:
			where := "the source"
			if table != "" {
				where = "table " + table
			}
			result.Err = fmt.Errorf("%s breaks the rule %q of the contract (%s): %w", where, r.text, r.name, err)
			faults = append(faults, result.Err)
		}
		report(result)
	}
	for _, r := range sourceRules {
		try("", r.rule, func() error { return r.run(s) })
	}
	if s.catalog == nil {
		return errors.Join(faults...)
	}
	for i := range s.catalog.Tables {
		t := &table{suite: s, Table: &s.catalog.Tables[i]}
		for _, r := range tableRules {
			if ctx.Err() != nil {
				return errors.Join(append(faults, context.Cause(ctx))...)
			}
			if t.broken != "" {
				report(Result{Rule: r.name, Table: t.Name, Skipped: t.broken})
				continue
			}
			try(t.Name, r.rule, func() error { return r.run(t) })
		}
	}
	try("", rule{"goroutines", "Scan is lazy, and everything is undone when the range ends, however it ends. Close frees what the session held."}, s.goroutines)
	return errors.Join(faults...)
}

// sourcesCall runs a rule. What panics in the source outside of a scan breaks
// the rule and not the program.
func sourcesCall(run func() error) error {
	_, err := sources.GuardCall("", "", func() (struct{}, error) { return struct{}{}, run() })
	var e *sources.Error
	if errors.As(err, &e) && e == err && e.Op == "" && e.Err != nil {
		return e.Err
	}
	return err
}

// rule is a sentence of the contract.
type rule struct{ name, text string }

type sourceRule struct {
	rule
	run func(*suite) error
}

type tableRule struct {
	rule
	run func(*table) error
}

// skipped is why a rule cannot be tried.
type skipped string

func (s skipped) Error() string { return string(s) }

// suite is one run over a source.
type suite struct {
	ctx     context.Context
	source  sources.Source
	catalog *sources.Catalog
}

// patience is how long a source may take to end something: not a measure of its
// speed, but of whether it ends at all.
const patience = 10 * time.Second

// settle waits until check has no more to say.
func settle(check func() error) error {
	for deadline := time.Now().Add(patience); ; {
		err := check()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
}

var sourceRules = []sourceRule{
	{rule{"catalogue", "Two calls without a change of the data's structure between them give equal catalogues."}, (*suite).catalogue},
	{rule{"not found", "The query is checked: a missing table or column is of kind NotFound."}, (*suite).missing},
	{rule{"session", "A second Close does nothing."}, (*suite).session},
}

func (s *suite) catalogue() error {
	first, err := s.source.Catalog(s.ctx)
	if err != nil {
		return err
	}
	if first == nil {
		return errors.New("the catalogue is nil")
	}
	second, err := s.source.Catalog(s.ctx)
	if err != nil {
		return err
	}
	s.catalog = first
	if a, b := describe(first), describe(second); a != b {
		return fmt.Errorf("the catalogues differ:\n%s\n%s", a, b)
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	names := map[string]bool{}
	for i := range first.Tables {
		t := &first.Tables[i]
		if t.Name == "" || names[t.Name] {
			fault("the table name %q is empty or there twice", t.Name)
		}
		names[t.Name] = true
		if t.Schema == nil {
			fault("table %s has no schema", t.Name)
			continue
		}
		has := func(what, table string, columns []string) {
			other := first.Table(table)
			for _, c := range columns {
				if other == nil || other.Column(c) < 0 {
					fault("table %s: %s names the column %q of %q, which is not there", t.Name, what, c, table)
				}
			}
		}
		columns := map[string]bool{}
		for _, f := range t.Schema.Fields() {
			if columns[f.Name] {
				fault("table %s has the column %q twice", t.Name, f.Name)
			}
			columns[f.Name] = true
		}
		has("the key", t.Name, t.Key)
		for _, u := range t.Unique {
			has("a unique key", t.Name, u)
		}
		for _, l := range t.Lookups {
			has("a look-up", t.Name, l.Columns)
		}
		for c := range t.Filters {
			has("a filter", t.Name, []string{c})
		}
		for _, r := range t.Relations {
			if columns[r.Name] {
				fault("table %s: the relation %q has the name of a column or of another relation", t.Name, r.Name)
			}
			columns[r.Name] = true
			has("relation "+r.Name, t.Name, r.Columns)
			has("relation "+r.Name, r.TargetTable, r.TargetColumns)
			if r.Through != nil {
				has("relation "+r.Name, r.Through.Table, append(slices.Clone(r.Through.Near), r.Through.Far...))
			}
			if (r.Through != nil) != (r.Kind == sources.ManyToMany) {
				fault("table %s: relation %s of kind %s has a wrong Through", t.Name, r.Name, r.Kind)
			}
		}
		if t.Rows < -1 || t.MaxScans < 0 {
			fault("table %s: Rows is %d, Scans is %d", t.Name, t.Rows, t.MaxScans)
		}
	}
	return errors.Join(faults...)
}

// describe writes a catalogue in full.
func describe(c *sources.Catalog) string {
	var b strings.Builder
	for _, t := range c.Tables {
		fmt.Fprintf(&b, "%s %v %v %v %s %v %v %d %d %s\n", t.Name, t.Key, t.Unique, relations(t.Relations), t.Capabilities, t.Filters, t.Lookups, t.MaxScans, t.Rows, t.Comment)
		if t.Schema != nil {
			fmt.Fprintln(&b, t.Schema)
		}
	}
	return b.String()
}

func relations(rs []sources.Relation) (all []string) {
	for _, r := range rs {
		text := fmt.Sprintf("%s %s %v %s %v", r.Name, r.Kind, r.Columns, r.TargetTable, r.TargetColumns)
		if r.Through != nil {
			text += fmt.Sprintf(" %+v", *r.Through)
		}
		all = append(all, text)
	}
	return all
}

func (s *suite) missing() error {
	return s.begin(sources.Env{}, func(session sources.Session) error {
		q := &sources.Query{Table: "there is no such table"}
		if _, err := session.Plan(s.ctx, q); sources.KindOf(err) != sources.NotFound {
			return fmt.Errorf("Plan of a missing table returns %v", err)
		}
		if _, err := collect(session.Scan(s.ctx, q), most); sources.KindOf(err) != sources.NotFound {
			return fmt.Errorf("a scan of a missing table ends with %v", err)
		}
		return nil
	})
}

// goroutines begins sessions, leaves scans early, and looks for what remains. By
// then the source has long started those that serve all sessions, and it may
// keep a few idle ones.
func (s *suite) goroutines() error {
	if len(s.catalog.Tables) == 0 {
		return skipped("the source has no tables")
	}
	const sessions = 12
	before := runtime.NumGoroutine()
	for range sessions {
		err := s.begin(sources.Env{Page: small}, func(session sources.Session) error {
			for _, err := range session.Scan(s.ctx, &sources.Query{Table: s.catalog.Tables[0].Name}) {
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return settle(func() error {
		if now := runtime.NumGoroutine(); now >= before+sessions/2 {
			return fmt.Errorf("%d goroutines were running, and %d are after %d sessions more", before, now, sessions)
		}
		return nil
	})
}

func (s *suite) session() error {
	return s.begin(sources.Env{}, func(session sources.Session) error { return session.Close() })
}

// begin runs a rule in a session with a counting allocator, and closes it.
func (s *suite) begin(env sources.Env, run func(sources.Session) error) (err error) {
	counted := &counting{}
	if env.Mem == nil {
		env.Mem = counted
	}
	session, err := s.source.Begin(s.ctx, env)
	if err != nil {
		return err
	}
	err = run(session)
	if closing := session.Close(); closing != nil && err == nil {
		err = fmt.Errorf("closing the session: %w", closing)
	}
	if err != nil {
		return err
	}
	return counted.empty()
}
