// Command penstock reads tables from data sources within a memory budget.
//
// Its exit codes are 0 for success, 1 for a failure, 2 for a usage error and 130
// when it was interrupted.
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

	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/internal/display"
	"github.com/penstock-data/penstock/sources"
)

func main() {
	process.Main(linked, walls...) // does not return if this process serves a source
	// By default SIGPIPE kills a program that writes to a closed standard output.
	// Catching the signal makes the write return an error instead. Ignoring the
	// signal would do that too, but child processes would inherit it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal, a second one has its default effect and kills.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs the program and returns its exit code. A context that ends counts as an
// interrupt. Everything that the program prints may come from a source, so it is escaped
// for a terminal, except for rows: see [rowsOutput].
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(display.NewWriter(stdout))
	stderr = display.NewWriter(stderr)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	return exit(ctx, command, err, stderr)
}

// exit prints an error, on one line or with a caret below it, and returns the exit
// code. A closed output pipe is a success: its reader needed no more.
func exit(ctx context.Context, command *cobra.Command, err error, stderr io.Writer) int {
	var usage *usageError
	var last *afterError
	if errors.As(err, &last) {
		defer last.after(stderr)
	}
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrClosedPipe):
		return exitSuccess
	case ctx.Err() != nil && !errors.As(err, &usage):
		return exitInterrupted
	}
	text := "penstock: " + oneLine(err.Error()) + "\n"
	switch {
	case !errors.As(err, &usage):
	case usage.detail != "":
		text = "penstock: " + oneLine(strings.TrimSuffix(err.Error(), usage.detail)) + "\n" + usage.detail + "\n"
	default:
		hint := usage.hint
		if hint == "" {
			hint = command.CommandPath() + " --help"
		}
		text += "try: " + hint + "\n"
	}
	// If standard error is closed, there is nowhere to report that.
	_, _ = io.WriteString(stderr, text)
	if usage != nil {
		return exitUsage
	}
	return exitFailure
}

// oneLine returns the beginning of a text with its lines joined into one: a plugin's error
// may have several, and must not look like the program's own.
func oneLine(text string) string {
	lines := strings.FieldsFunc(sources.Clip(text, sources.MaxErrorText), func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines, "; ")
}

const rootHelp = `Penstock streams related records from any data source within a memory budget.

Exit codes:
  0    success (also if the output pipe is closed early)
  1    failure
  2    usage error
  130  interrupted by Ctrl-C or SIGTERM; a second one kills the program`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "penstock",
		Short: "Stream related records from any data source within a memory budget",
		Long:  rootHelp,
		Example: `  penstock demo shop               write an example shop
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

// flagError returns the usage error for a flag; for an unknown flag it names the
// nearest.
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

// wantArgs returns a check of a command's arguments, given their names in order. The
// first required ones must be there.
func wantArgs(required int, names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < required:
			return usagef("%s is missing", strings.Join(names[len(args):required], " and "))
		case len(args) > len(names):
			return usagef("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}
