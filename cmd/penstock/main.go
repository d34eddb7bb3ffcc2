// Command penstock reads tables from data sources inside a memory budget.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

func main() {
	host.Main(linked) // which does not return where this process is a source
	// The runtime kills a program that writes to a closed standard output. Being
	// told of the signal turns that into a write's error; ignoring it would pass
	// on to child processes.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default is back, so that a second one kills.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program: it returns the exit code. A context that ends is an
// interrupt.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	return exit(ctx, command, err, stderr)
}

// exit reports an error on one line, or with a caret below it, and returns the
// exit code. A reader that went away has had enough, so that is no fault.
func exit(ctx context.Context, command *cobra.Command, err error, stderr io.Writer) int {
	var usage *usageError
	var last *afterError
	if errors.As(err, &last) {
		defer last.after(stderr)
	}
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrClosedPipe):
		return exitGood
	case ctx.Err() != nil && !errors.As(err, &usage):
		return exitInterrupted
	}
	text := "penstock: " + err.Error() + "\n"
	if !errors.As(err, &usage) {
		// The error of a plugin may have several lines; the terminal gets one.
		text = "penstock: " + strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ") + "\n"
	} else if usage.detail == "" {
		hint := usage.hint
		if hint == "" {
			hint = command.CommandPath() + " --help"
		}
		text += "try: " + hint + "\n"
	}
	// There is nowhere left to report that standard error is closed.
	_, _ = io.WriteString(stderr, text)
	if usage != nil {
		return exitUsage
	}
	return exitFailed
}

const rootHelp = `Penstock streams related records out of any data source, inside a memory budget.

Exit codes:
  0    good; also when the reader of a pipe had enough and closed it
  1    failed
  2    the command was typed wrong
  130  interrupted: Ctrl-C or SIGTERM; a second one kills`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "penstock",
		Short: "Stream related records out of any data source, inside a memory budget",
		Long:  rootHelp,
		Example: `  penstock demo shop               write a made-up shop to read from
  penstock catalog csv:shop        show its tables
  penstock read csv:shop orders    read one of them`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			var names []string
			for _, sub := range c.Commands() {
				names = append(names, sub.Name())
			}
			return usagef("there is no command %q%s", args[0], sources.Suggest(args[0], names))
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newRead(), newExplain(), newCatalog(), newCheck(), newCache(), newDemo(), newVersion())
	return root
}

// flagError says what is wrong with a flag, and names the nearest to one that
// does not exist.
func flagError(c *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) || len(missing.GetSpecifiedName()) < 2 {
		return &usageError{message: err.Error()}
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	name := "--" + missing.GetSpecifiedName()
	return usagef("there is no flag %s%s", name, sources.Suggest(name, names))
}

// wantArgs checks the number of a command's arguments, whose names are in
// order; the last ones may be left out.
func wantArgs(least int, names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s is missing", strings.Join(names[len(args):least], " and "))
		case len(args) > len(names):
			return usagef("%q is one argument too many", args[len(names)])
		}
		return nil
	}
}
