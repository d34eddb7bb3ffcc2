package core_test

import (
	"context"
	"fmt"
	"log"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// An explanation tells what the source does, what the engine does, and which look-ups
// the relations take. It reads no rows.
func ExampleExplain() {
	source, err := testkit.Shop{Seed: 1, Orders: 1000}.Memory()
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	q := core.Query{
		Table:   "orders",
		Columns: []string{"id", "freight"},
		OrderBy: []sources.Sort{{Column: "freight", Desc: true}},
		Limit:   10,
	}
	q.Load.Required = []query.Branch{{Name: "customer", Columns: []string{"name"}}}
	explanation, err := core.Explain(context.Background(), source, q, core.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(explanation)
	// Output:
	// orders: about 10 rows, 320 B
	// │ source: columns id, freight, customer_id; order by freight desc; limit 10
	// │ engine: columns id, freight
	// │ reads memory
	// │ selective, depth at most 3, chunks of 1000 rows, 1 session
	// └─ customer: belongs_to on customer_id = customers.id, depth 1, for each chunk about 10 rows, 280 B
	//      looks up customers by id, any number of keys at once
	//      for each chunk at most 10 keys in 1 look-up, fewer if rows are cached
	//      source: columns name, id
	//      reads memory
}
