package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

func newCatalog() *cobra.Command {
	var f sourceFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "catalog SOURCE [TABLE]",
		Short: "Show what there is to read: tables, columns, keys and relations",
		Long: `Show what there is to read: tables with their columns, keys and relations.

` + sourceHelp,
		Example: `  penstock catalog csv:shop
  penstock catalog csv:shop orders --json`,
		Args: wantArgs(1, "SOURCE", "TABLE"),
		RunE: func(c *cobra.Command, args []string) error {
			return f.open(c, args[0], func(ctx context.Context, source *host.Source) error {
				catalog, err := source.Catalog(ctx)
				if err != nil {
					return err
				}
				tables := catalog.Tables
				if len(args) == 2 {
					table, err := findTable(catalog, args[1])
					if err != nil {
						return err
					}
					tables = []sources.Table{*table}
				}
				if asJSON {
					return writeCatalogJSON(c.OutOrStdout(), tables)
				}
				return writeCatalogText(c.OutOrStdout(), tables)
			})
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
