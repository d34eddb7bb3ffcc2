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

// Result is the outcome of checking one rule.
type Result struct {
	Rule    string // the short name of the rule
	Table   string // the checked table; empty if the rule is about the whole source
	Skipped string // why the rule was not checked; empty if it was
	Err     error  // how the source breaks the rule, with the text of the rule; otherwise nil
}

// TestSource checks a source against the specification in package sources. It returns
// an error that lists the broken rules and quotes them, or nil. It reads about twenty
// thousand rows or 8 MiB of each table a few dozen times. A rule for which a plan or a
// scan takes more than a minute is skipped, and so are all rules for a table that may
// not be read. The source must be idle, and its data
// must not change during the test. TestSource does not close the source.
func TestSource(ctx context.Context, source sources.Source) error {
	return Check(ctx, source, func(Result) {})
}

// Check does the same as [TestSource], and calls report for each rule and each table
// that the rule is about.
func Check(ctx context.Context, source sources.Source, report func(Result)) error {
	s := &suite{ctx: ctx, source: timed{source}}
	var faults []error
	try := func(table string, r rule, run func() error) {
		err := guardRule(run)
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
	try("", rule{"goroutines", "Scan is lazy; all resources are released when the range loop ends, for whatever reason. Close releases the session's resources."}, s.goroutines)
	return errors.Join(faults...)
}

// guardRule runs a rule. A panic of the source outside of a scan breaks the rule.
func guardRule(run func() error) error {
	_, err := sources.GuardCall("", "", func() (struct{}, error) { return struct{}{}, run() })
	var e *sources.Error
	if errors.As(err, &e) && e == err && e.Op == "" && e.Err != nil {
		return e.Err
	}
	return err
}

// rule is a rule of the specification: a short name and its text.
type rule struct{ name, text string }

type sourceRule struct {
	rule
	run func(*suite) error
}

type tableRule struct {
	rule
	run func(*table) error
}

// skipped is why a rule cannot be checked.
type skipped string

func (s skipped) Error() string { return string(s) }

// suite is one check of a source.
type suite struct {
	ctx     context.Context
	source  sources.Source
	catalog *sources.Catalog
	// readable is a table whose plain scan succeeds; empty if there is none yet.
	readable string
}

// patience is how long the suite waits for something that must end. It does not measure
// the speed of the source.
const patience = 10 * time.Second

// settle calls check until it returns nil or the patience is over.
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
	{rule{"catalog", "Two calls return equal catalogs unless the structure of the data has changed in between."}, (*suite).checkCatalog},
	{rule{"not found", "If a table or column does not exist, the error is of kind NotFound."}, (*suite).missing},
	{rule{"session", "A second Close does nothing."}, (*suite).session},
}

func (s *suite) checkCatalog() error {
	first, err := s.source.Catalog(s.ctx)
	if err != nil {
		return err
	}
	if first == nil {
		return errors.New("the catalog is nil")
	}
	second, err := s.source.Catalog(s.ctx)
	if err != nil {
		return err
	}
	s.catalog = first
	if a, b := describe(first), describe(second); a != b {
		return fmt.Errorf("the catalogs differ:\n%s\n%s", a, b)
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	names := map[string]bool{}
	for i := range first.Tables {
		t := &first.Tables[i]
		if t.Name == "" || names[t.Name] {
			fault("the table name %q is empty or a duplicate", t.Name)
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
					fault("table %s: %s refers to the column %q of %q, which does not exist", t.Name, what, c, table)
				}
			}
		}
		columns := map[string]bool{}
		for _, f := range t.Schema.Fields() {
			if columns[f.Name] {
				fault("table %s has a duplicate column %q", t.Name, f.Name)
			}
			columns[f.Name] = true
		}
		for c := range t.Denied {
			if columns[c] {
				fault("table %s has the column %q, which may not be read", t.Name, c)
			}
		}
		checkMeanings(t, fault)
		has("the key", t.Name, t.Key)
		for _, u := range t.Unique {
			has("a unique key", t.Name, u)
		}
		for _, l := range t.Lookups {
			has("a lookup", t.Name, l.Columns)
		}
		for c := range t.Filters {
			has("a filter", t.Name, []string{c})
		}
		for _, r := range t.Relations {
			if columns[r.Name] {
				fault("table %s: the relation %q has the name of a column or of another relation", t.Name, r.Name)
			}
			columns[r.Name] = true
			if r.Unusable != "" {
				continue // it may name a table or a column that does not exist
			}
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
			fault("table %s: Rows must be at least -1 (got %d), and MaxScans at least 0 (got %d)", t.Name, t.Rows, t.MaxScans)
		}
	}
	return errors.Join(faults...)
}

// describe returns a catalog as text.
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
		text := fmt.Sprintf("%s %v %q %s %v %s %v", r.Name, r.Aliases, r.Unusable, r.Kind, r.Columns, r.TargetTable, r.TargetColumns)
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

// goroutines runs scans that stop early and checks that no goroutines remain. Goroutines
// that serve all sessions have started before; the source may keep a few idle ones.
func (s *suite) goroutines() error {
	if s.readable == "" {
		return skipped("the source has no table that can be read")
	}
	const sessions = 12
	before := runtime.NumGoroutine()
	for range sessions {
		err := s.begin(sources.Env{Page: small}, func(session sources.Session) error {
			for _, err := range session.Scan(s.ctx, &sources.Query{Table: s.readable}) {
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
			return fmt.Errorf("there were %d goroutines, and there are %d after %d more sessions", before, now, sessions)
		}
		return nil
	})
}

func (s *suite) session() error {
	return s.begin(sources.Env{}, func(session sources.Session) error { return session.Close() })
}

// begin runs a rule in a session with a counting allocator, closes the session, and
// checks that all memory was freed.
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
