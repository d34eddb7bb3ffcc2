package main

import (
	"context"
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"github.com/penstock-data/penstock/host"
)

func newExplain() *cobra.Command {
	var f queryFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "explain SOURCE TABLE",
		Short: "Show how a table would be read, without reading rows",
		Long: `Show how a table would be read, without reading rows: what the source is asked for, what
Penstock does itself, and which look-ups each chunk of rows needs for its relations.

` + sourceHelp + `

` + whereHelp + `

` + loadHelp,
		Example: `  penstock explain csv:shop orders --load customer,order_lines.product
  penstock explain postgres://localhost/shop orders --where 'rush' --load customer --json`,
		Args: wantArgs(2, "SOURCE", "TABLE"),
		RunE: func(c *cobra.Command, args []string) error {
			q, o, err := f.parse(c, args[1])
			if err != nil {
				return err
			}
			return f.open(c, args[0], func(ctx context.Context, source *host.Source) error {
				if err := f.compile(ctx, c, source, &q); err != nil {
					return err
				}
				e, err := source.Explain(ctx, q, o)
				if err != nil {
					return err
				}
				if asJSON {
					encoder := json.NewEncoder(c.OutOrStdout())
					encoder.SetEscapeHTML(false)
					return encoder.Encode(e)
				}
				_, err = io.WriteString(c.OutOrStdout(), e.String())
				return err
			})
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
