package file_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/outputs/file"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// exportIDs writes the ids of all orders to dir/ids.txt. It continues where an earlier
// call has saved its progress. It fails after failAfter chunks, if that is positive.
func exportIDs(source sources.Source, dir string, failAfter int) error {
	export, err := file.NewExport(file.ExportOptions{
		Output: filepath.Join(dir, "ids.txt"), Checkpoint: filepath.Join(dir, "checkpoint"), Format: "text",
	})
	if err != nil {
		return err
	}
	defer export.Close()
	if export.Complete() {
		return export.Finish()
	}
	if err := export.Open(); err != nil {
		return err
	}
	q, _ := export.Continue(core.Query{Table: "orders", Columns: []string{"id"}})
	stream, err := core.Open(context.Background(), source, q, core.Options{ChunkRows: 4, Tokens: true}, core.Resources{})
	if err != nil {
		return err
	}
	offset := export.Offset()
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return err
		}
		n, err := fmt.Fprintln(export, chunk.Record.Column(0))
		if err != nil {
			return err
		}
		if err := export.Advance(chunk.Token, chunk.Record.NumRows()); err != nil {
			return err
		}
		offset += int64(n)
		if err := export.Save(offset); err != nil { // or only if export.Due()
			return err
		}
		if failAfter--; failAfter == 0 {
			return errors.New("interrupted")
		}
	}
	return export.Finish()
}

// The output appears when it is complete. Until then, each run continues where the
// one before it saved its progress.
func ExampleExport() {
	source, err := testkit.Shop{Seed: 1, Orders: 10}.Memory()
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	dir, err := os.MkdirTemp("", "export")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	fmt.Println("first run:", exportIDs(source, dir, 2))
	_, err = os.Stat(filepath.Join(dir, "ids.txt"))
	fmt.Println("output exists:", err == nil)

	fmt.Println("second run:", exportIDs(source, dir, -1))
	text, err := os.ReadFile(filepath.Join(dir, "ids.txt"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
	// Output:
	// first run: interrupted
	// output exists: false
	// second run: <nil>
	// [1 2 3 4]
	// [5 6 7 8]
	// [9 10]
}
