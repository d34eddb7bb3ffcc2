package testkit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// NewMeanings returns a source in memory whose columns have every [sources.Meaning]:
//
//	members  key nick, which is compared without regard to case by the source alone;
//	         team is ordered so, but equal only if it is the same text; balance holds
//	         exact numbers in text; level has labels in a declared order
//	posts    author refers to members in other cases, is NULL or dangles; score holds
//	         numbers in other texts, and refers to scores
//	scores   key value, exact numbers in text
//	likes    joins members and posts, many to many
func NewMeanings() (sources.Source, error) {
	text := func(name string, nullable bool, m sources.Meaning) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: nullable, Metadata: arrow.MetadataFrom(m.Metadata())}
	}
	folded := sources.Meaning{Equality: sources.BySource, Order: sources.BySource}
	number := sources.Meaning{Equality: sources.ByNumber, Order: sources.ByNumber}
	level := text("level", true, sources.Meaning{Order: sources.ByLabels, Labels: []string{"new", "known", "admin", "Admin"}})
	id := arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int64}
	members := [][]any{
		{"Mark", "red", "9.50", "known"}, {"ANNA", "Red", "25", "admin"}, {"zoe", "blue", "100", "new"},
		{"Émile", nil, "1000.00", nil}, {"bob", "RED", "NaN", "Admin"}, {"Carl", "Blue", "-Infinity", "new"}, {"dora", "green", nil, "known"},
	}
	scores := [][]any{{"1.0"}, {"2.50"}, {"-3"}, {"100"}, {"NaN"}}
	authors := []any{"mark", "MARK", "anna", nil, "nobody", "Mark", "ÉMILE", "ZOE"}
	given := []any{"1", "2.5", "-3.000", "1e2", nil, "NaN", "1.00", "2.500000000000000001"}
	var posts, likes [][]any
	for i := range 40 {
		posts = append(posts, []any{int64(i), authors[i%len(authors)], given[(i*3)%len(given)]})
		likes = append(likes, []any{authors[(i*5)%len(authors)], int64(i % 11)})
	}
	liked := map[string]bool{} // the key of likes is unique without regard to case
	likes = slices.DeleteFunc(likes, func(row []any) bool {
		key := strings.ToLower(fmt.Sprint(row...))
		again := liked[key]
		liked[key] = true
		return row[0] == nil || again
	})
	schema := func(fields ...arrow.Field) *arrow.Schema { return arrow.NewSchema(fields, nil) }
	source, err := NewMemory([]MemoryTable{
		{Name: "members", Key: []string{"nick"}, Rows: slices.Values(members), Schema: schema(
			text("nick", false, folded), text("team", true, sources.Meaning{Order: sources.BySource}), text("balance", true, number), level)},
		{Name: "posts", Key: []string{"id"}, Rows: slices.Values(posts), Schema: schema(id, text("author", true, folded), text("score", true, number))},
		{Name: "scores", Key: []string{"value"}, Rows: slices.Values(scores), Schema: schema(text("value", false, number))},
		{Name: "likes", Key: []string{"nick", "post"}, Rows: slices.Values(likes), Schema: schema(
			text("nick", false, folded), arrow.Field{Name: "post", Type: arrow.PrimitiveTypes.Int64})},
	}, []sources.ForeignKey{
		{Table: "posts", Columns: []string{"author"}, TargetTable: "members"},
		{Table: "posts", Columns: []string{"score"}, TargetTable: "scores"},
		{Table: "likes", Columns: []string{"nick"}, TargetTable: "members"},
		{Table: "likes", Columns: []string{"post"}, TargetTable: "posts"},
	})
	if err != nil {
		return nil, fmt.Errorf("testkit: %w", err)
	}
	return source, nil
}
