package sources

import "context"

// ContextError returns nil while ctx is live. Once ctx has ended it returns an
// [*Error] of kind [Canceled] about op and table, whose cause is the context's.
func ContextError(ctx context.Context, op, table string) error {
	if ctx.Err() == nil {
		return nil
	}
	return NewError(Canceled, op, table, context.Cause(ctx))
}
