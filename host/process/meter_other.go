//go:build !linux

package process

// privateMemory is not supported on this system: see [wall.Options].
func privateMemory(int) (read func() (held, highest int64, ok bool), closeFile func(), ok bool) {
	return nil, nil, false
}
