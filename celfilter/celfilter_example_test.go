package celfilter_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/celfilter"
	"github.com/penstock-data/penstock/sources"
)

// orders is the table that the conditions are about.
var orders = &sources.Table{
	Name: "orders",
	Schema: arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "city", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "total", Type: &arrow.Decimal128Type{Precision: 9, Scale: 2}},
	}, nil),
}

// The table orders has the columns id, city and total. The literal 19.90 becomes a
// decimal, as the column total is one.
func ExampleParse() {
	where, err := celfilter.Parse(orders, `total > 19.90 && (city == "Oslo" || id in [1, 2])`)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(where) // for the Where of a core.Query
	// Output:
	// (total > 19.90 and (city = "Oslo" or id in (1, 2)))
}

// The error of a condition that is not valid has the place of the mistake, and shows it.
func ExampleError() {
	_, err := celfilter.Parse(orders, `total > 19.90 && citty == "Oslo"`)
	fmt.Println(err)

	var fault *celfilter.Error
	if errors.As(err, &fault) {
		fmt.Println(fault.Line, fault.Column)
	}
	// Output:
	// line 1, column 18: table "orders" has no column "citty"; the nearest is "city"
	//   total > 19.90 && citty == "Oslo"
	//                    ^
	// 1 18
}
