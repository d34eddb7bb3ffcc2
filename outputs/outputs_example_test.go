package outputs_test

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/outputs"
)

// orders returns a record with the columns id and city.
func orders(json string) arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "city", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(json))
	if err != nil {
		log.Fatal(err)
	}
	return record
}

// The same two rows in three formats. Here orders makes a record from JSON; usually
// records come from the chunks of a stream.
func Example() {
	record := orders(`[{"id": 1, "city": "Oslo"}, {"id": 2, "city": null}]`)
	defer record.Release()

	for _, name := range []string{"table", "ndjson", "csv"} {
		format, ok := outputs.Lookup(name)
		if !ok {
			log.Fatal("no format ", name)
		}
		w, err := format.NewWriter(os.Stdout, record.Schema(), outputs.Options{})
		if err != nil {
			log.Fatal(err)
		}
		if err := w.Write(record); err != nil {
			log.Fatal(err)
		}
		if err := w.Close(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// id  city
	// ──  ────
	//  1  Oslo
	//  2  NULL
	// {"id":1,"city":"Oslo"}
	// {"id":2,"city":null}
	// id,city
	// 1,Oslo
	// 2,
}

// An interrupted output continues where it was last flushed: a second writer gets the
// length of the output as its Offset, and omits the header.
func ExampleOptions_offset() {
	first, second := orders(`[{"id": 1, "city": "Oslo"}]`), orders(`[{"id": 2, "city": "Bonn"}]`)
	defer first.Release()
	defer second.Release()
	csv, _ := outputs.Lookup("csv")

	var out bytes.Buffer
	w, err := csv.NewWriter(&out, first.Schema(), outputs.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Write(first); err != nil {
		log.Fatal(err)
	}
	offset, err := w.Flush()
	if err != nil {
		log.Fatal(err)
	}
	w.Abort() // as if the program had failed here

	w, err = csv.NewWriter(&out, second.Schema(), outputs.Options{Offset: offset})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Write(second); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Print(out.String())
	// Output:
	// id,city
	// 1,Oslo
	// 2,Bonn
}

// NextPart divides the rows among several outputs, here two. Each is complete in
// itself: a CSV part begins with the header.
func ExampleWriter_nextPart() {
	record := orders(`[{"id": 1, "city": "Oslo"}]`)
	defer record.Release()
	csv, _ := outputs.Lookup("csv")
	if !csv.Parts {
		log.Fatal("csv cannot be divided")
	}

	var parts [2]bytes.Buffer
	w, err := csv.NewWriter(&parts[0], record.Schema(), outputs.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort()
	if err := w.Write(record); err != nil {
		log.Fatal(err)
	}
	if err := w.NextPart(&parts[1]); err != nil {
		log.Fatal(err)
	}
	if err := w.Write(record); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Print(parts[0].String(), "\n", parts[1].String())
	// Output:
	// id,city
	// 1,Oslo
	//
	// id,city
	// 1,Oslo
}
