package query_test

import (
	"fmt"
	"log"

	"github.com/penstock-data/penstock/core/query"
)

// A dot leads to the relations of the related table, and parentheses hold options.
func ExampleParseLoad() {
	branches, err := query.ParseLoad("customer, order_lines(order: [line:desc], limit: 5).product")
	if err != nil {
		log.Fatal(err)
	}
	for _, branch := range branches {
		fmt.Println(branch.Name, query.OrderText(branch.OrderBy), branch.Limit)
		for _, below := range branch.Below {
			fmt.Println("-", below.Name)
		}
	}

	_, err = query.ParseLoad("customer, order_lines(limit: many)")
	fmt.Println(err)
	// Output:
	// customer  0
	// order_lines line desc 5
	// - product
	// load: invalid: "customer, order_lines(limit: many)", character 30: the limit must be a number of at least 1 (got "many")
}

// FormatLoad writes branches as text, for example for a log.
func ExampleFormatLoad() {
	fmt.Println(query.FormatLoad([]query.Branch{
		{Name: "customer", Columns: []string{"name", "country"}},
		{Name: "order_lines", Condition: "quantity > 1", Limit: 5, Below: []query.Branch{{Name: "product"}}},
	}))
	// Output:
	// customer(columns: [name, country]),order_lines(where: quantity > 1, limit: 5).product
}
