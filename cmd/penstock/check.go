package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/internal/display"
	"github.com/penstock-data/penstock/testkit"
)

func newCheck() *cobra.Command {
	var f sourceFlags
	c := &cobra.Command{
		Use:   "check SOURCE",
		Short: "Check that a source meets the source contract",
		Long: `Check that a source meets the source contract, for each table and each rule.
Each table is read a few dozen times, up to about twenty thousand rows of it.
Violations quote the rule that they break and lead to exit code 1.
A table that may not be read is listed as skipped. So is a rule for which a statement
takes more than a minute, with -v; then the rules that passed and those that do not
apply are listed too.

` + sourceHelp,
		Example: "  penstock check csv:shop",
		Args:    wantArgs(1, "SOURCE"),
		RunE: func(c *cobra.Command, args []string) error {
			return f.open(c, args[0], func(ctx context.Context, source *host.Source) error {
				return check(ctx, c, source, f.verbose)
			})
		},
	}
	f.add(c)
	return c
}

// check runs the contract's tests and prints their results.
func check(ctx context.Context, c *cobra.Command, source *host.Source, verbose bool) error {
	out := c.OutOrStdout()
	passed, skipped, failed := 0, 0, 0
	tables := map[string]bool{}
	var writing error
	say := func(format string, args ...any) {
		if _, err := fmt.Fprintf(out, format, args...); writing == nil {
			writing = err
		}
	}
	err := testkit.Check(ctx, source, func(r testkit.Result) {
		where := r.Table
		if where == "" {
			where = "(source)"
		} else {
			tables[r.Table] = true
			where = display.Printable(where)
		}
		switch {
		case r.Err != nil:
			failed++
			say("failed   %-20s %s\n         %s\n", where, r.Rule, oneLine(r.Err.Error()))
		case r.Skipped != "":
			if skipped++; verbose || r.Rule == "scan" { // without a scan, all rules are skipped
				say("skipped  %-20s %s: %s\n", where, r.Rule, oneLine(r.Skipped))
			}
		default:
			if passed++; verbose {
				say("passed   %-20s %s\n", where, r.Rule)
			}
		}
	})
	switch {
	case ctx.Err() != nil:
		return err
	case writing != nil:
		return writing
	}
	say("%d tables: %d checks passed, %d failed, %d do not apply\n", len(tables), passed, failed, skipped)
	if failed > 0 {
		return fmt.Errorf("the source breaks the contract in %d checks", failed)
	}
	return writing
}
