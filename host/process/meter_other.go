//go:build !linux

package process

// family is not supported on this system: see [wall.Options].
type family struct{}

func newFamily(int, bool) (*family, bool) { return nil, false }

func (*family) close()                              {}
func (*family) sum() (held, highest int64, ok bool) { return 0, 0, false }
func (*family) exact(sum int64) int64               { return sum }
func (*family) kill()                               {}
