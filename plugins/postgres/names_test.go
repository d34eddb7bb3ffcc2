package postgres

import "testing"

// TestShownNames checks that different tables have different names.
func TestShownNames(t *testing.T) {
	parts := []string{"a", "b", "public", "a.b", `"a`, `b"`, `"a"`, `"b"`, `"a.b"`, `a"."b`, `"a"."b"`, ".", `"`, `""`}
	seen := map[string][2]string{}
	for _, schema := range parts {
		for _, name := range parts {
			shown := shownName(schema, name, "public")
			if other, ok := seen[shown]; ok {
				t.Errorf("%q is %q and %q", shown, other, [2]string{schema, name})
			}
			seen[shown] = [2]string{schema, name}
		}
	}
	for _, c := range [][3]string{{"public", "orders", "orders"}, {"sales", "orders", "sales.orders"}, {"public", "sales.orders", `"sales.orders"`}, {"s.t", "u", `"s.t"."u"`}} {
		if got := shownName(c[0], c[1], "public"); got != c[2] {
			t.Errorf("%s and %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
}
