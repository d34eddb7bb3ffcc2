package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/testkit"
)

func newCheck() *cobra.Command {
	var f sourceFlags
	c := &cobra.Command{
		Use:   "check SOURCE",
		Short: "Hold a source against the contract for sources",
		Long: `Hold a source against the contract for sources, table by table and rule by rule.
It reads each table some dozen times, at most some twenty thousand rows of it.
What is broken is told with the contract's own words, and ends in exit code 1.
With -v it also tells what it tried, and what it left out and why.

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

// check runs the suite, and reports what it finds on standard output.
func check(ctx context.Context, c *cobra.Command, source *host.Source, verbose bool) error {
	out := c.OutOrStdout()
	tried, skipped, broken := 0, 0, 0
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
		}
		switch {
		case r.Err != nil:
			broken++
			say("broken   %-20s %s\n         %v\n", where, r.Rule, r.Err)
		case r.Skipped != "":
			if skipped++; verbose {
				say("skipped  %-20s %s: %s\n", where, r.Rule, r.Skipped)
			}
		default:
			if tried++; verbose {
				say("good     %-20s %s\n", where, r.Rule)
			}
		}
	})
	switch {
	case ctx.Err() != nil:
		return err
	case writing != nil:
		return writing
	}
	say("%d tables: %d rules hold, %d are broken, %d do not apply\n", len(tables), tried, broken, skipped)
	if broken > 0 {
		return fmt.Errorf("the source breaks %d rules of the contract", broken)
	}
	return writing
}
