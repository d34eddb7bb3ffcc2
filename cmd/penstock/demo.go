package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/penstock-data/penstock/testkit"
)

func newDemo() *cobra.Command {
	shop := testkit.Shop{Seed: 1, Orders: 1000}
	c := &cobra.Command{
		Use:   "demo DIR",
		Short: "Write an example shop as CSV files",
		Long: `Write an example shop as CSV files with a datapackage.json: customers, products,
orders and more, related to each other. The same seed and number of orders always
give the same files. An earlier demo in DIR is replaced; a directory that
contains anything else is an error.`,
		Example: "  penstock demo shop --orders 100000",
		Args:    wantArgs(1, "DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if shop.Orders < 0 {
				return usagef("--orders must not be negative (got %d)", shop.Orders)
			}
			if err := demoMayWrite(args[0], shop.Tables()); err != nil {
				return err
			}
			if err := shop.WriteCSV(c.Context(), args[0]); err != nil {
				return fmt.Errorf("writing the demo: %w", err)
			}
			_, err := fmt.Fprintf(c.ErrOrStderr(), "wrote %d tables with %d orders to %s\n", len(shop.Tables()), shop.Orders, args[0])
			return err
		},
	}
	c.Flags().IntVar(&shop.Orders, "orders", shop.Orders, "number of orders, with about 4 order lines each")
	c.Flags().Uint64Var(&shop.Seed, "seed", shop.Seed, "seed of the random data")
	return c
}

// demoMayWrite returns an error if a directory contains anything but an earlier demo.
func demoMayWrite(dir string, tables []string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) == 0:
		return nil
	}
	for _, e := range entries {
		name := e.Name()
		isTable := filepath.Ext(name) == ".csv" && slices.Contains(tables, name[:len(name)-len(".csv")])
		if !isTable && name != "datapackage.json" {
			return fmt.Errorf("%s contains %s, which is not part of a demo: choose an empty or a new directory", dir, name)
		}
	}
	if !isDemoPackage(filepath.Join(dir, "datapackage.json"), tables) {
		return fmt.Errorf("%s contains files that are not a demo: choose an empty or a new directory", dir)
	}
	return nil
}

// isDemoPackage reports whether a file describes exactly the demo's tables.
func isDemoPackage(file string, tables []string) bool {
	data, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	var described struct {
		Resources []struct {
			Name string `json:"name"`
		} `json:"resources"`
	}
	if json.Unmarshal(data, &described) != nil || len(described.Resources) != len(tables) {
		return false
	}
	for _, r := range described.Resources {
		if !slices.Contains(tables, r.Name) {
			return false
		}
	}
	return true
}
