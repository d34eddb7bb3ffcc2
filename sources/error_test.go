package sources

import (
	"errors"
	"testing"
)

// TestWithOp tests that no text says an operation, a table or a kind twice.
func TestWithOp(t *testing.T) {
	full := Errorf(Exhausted, "scan", "orders", "full")
	bare := Errorf(Exhausted, "", "", "full")
	for _, c := range []struct {
		err  error
		want string
	}{
		{full, "scan orders: exhausted: full"},
		{bare, "load t: exhausted: full"},
		{errors.Join(bare, nil), "load t: exhausted: full"},
		{errors.Join(full, nil), "scan orders: exhausted: full"},
		{errors.New("odd"), "load t: internal: odd"},
		{errors.Join(bare, errors.New("odd")), "load t: exhausted: exhausted: full\nodd"},
	} {
		if got := WithOp("load", "t", c.err); got.Error() != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if err := WithOp("load", "t", nil); err != nil {
		t.Errorf("%v, want nil", err)
	}
}
