package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/internal/display"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

func newCatalog() *cobra.Command {
	var f sourceFlags
	var asJSON, describe, all bool
	c := &cobra.Command{
		Use:   "catalog SOURCE [TABLE]",
		Short: "List tables with their columns, keys and relations",
		Long: `List the tables of a source with their columns, keys and relations.

A line with an arrow is a relation: its name for --load, its kind, the table and columns that
it leads to, and after = its qualified name, which never changes its meaning. X__by__C is the
row of table X that column C refers to; X__with__C are the rows of X whose column C refers to
this table; X__through__J are rows of X that are reached through table J. The capabilities
are what the source does itself; Penstock does the rest.

The columns of CSV files are found out by reading them. Of more than 20 files only the names
are listed, unless TABLE or --all is given.

` + sourceHelp,
		Example: `  penstock catalog csv:shop
  penstock catalog csv:shop orders --json
  penstock catalog 'csv:shop?relations=names' --write-datapackage`,
		Args: wantArgs(1, "SOURCE", "TABLE"),
		RunE: func(c *cobra.Command, args []string) error {
			if describe {
				return writePackage(c, args)
			}
			return f.open(c, args[0], func(ctx context.Context, source *host.Source) error {
				tables, unreadable, err := tablesOf(ctx, source, args[1:], all)
				if err != nil {
					return err
				}
				for _, t := range unreadable {
					c.PrintErrf("table %s cannot be read: %s: %s\n", display.Printable(t.Table), t.Kind, display.Printable(t.Reason))
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
	c.Flags().BoolVar(&all, "all", false, "describe all tables, however many files must be read for that")
	c.Flags().BoolVar(&describe, "write-datapackage", false, "describe CSV files in a new datapackage.json in the same directory, to be edited by hand")
	return c
}

// maxUnasked is the most tables that are read to describe them without being asked for.
const maxUnasked = 20

// tablesOf returns the named table, or all, with those that cannot be read. If the source would have to read more than a
// few tables to describe them, these are pending, unless all are to be described.
func tablesOf(ctx context.Context, source *host.Source, name []string, all bool) ([]sources.Table, []sources.TableError, error) {
	catalog, err := source.Catalog(sources.ForTables(ctx, name...))
	if err != nil {
		return nil, nil, err
	}
	if len(name) == 1 {
		table, err := findTable(catalog, name[0])
		if err != nil {
			return nil, nil, err
		}
		return []sources.Table{*table}, nil, nil
	}
	pending := 0
	for i := range catalog.Tables {
		if catalog.Tables[i].Pending {
			pending++
		}
	}
	if pending > 0 && (all || pending <= maxUnasked) {
		if catalog, err = source.Catalog(ctx); err != nil {
			return nil, nil, err
		}
	}
	return catalog.Tables, catalog.Unreadable, nil
}

// writePackage writes the datapackage.json of CSV files. It runs in this process,
// because an isolated source cannot write files.
func writePackage(c *cobra.Command, args []string) error {
	name, config, err := host.ParseURI(args[0])
	if err != nil || name != "csv" || len(args) > 1 {
		return usagef("--write-datapackage needs a directory or a file of CSV and no TABLE: write csv:DIR")
	}
	file, err := csv.WritePackage(c.Context(), config)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), file)
	return err
}
