package wasm

import (
	"context"
	"io"
	"sync"
)

// inbox is a module's standard input. Writes never block: there are few lines, and a
// busy module may not read for a while.
type inbox struct {
	mu     sync.Mutex
	filled sync.Cond
	data   []byte
	closed bool
}

func newInbox() *inbox {
	i := new(inbox)
	i.filled.L = &i.mu
	return i
}

func (i *inbox) Write(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return 0, io.ErrClosedPipe
	}
	i.data = append(i.data, p...)
	i.filled.Signal()
	return len(p), nil
}

func (i *inbox) Read(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(i.data) == 0 && !i.closed {
		i.filled.Wait()
	}
	if len(i.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, i.data)
	if i.data = i.data[n:]; len(i.data) == 0 {
		i.data = nil
	}
	return n, nil
}

// close ends the input: the module reads the remaining bytes, then io.EOF.
func (i *inbox) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	i.filled.Broadcast()
}

// outbox is a module's standard output. A write blocks until every byte was read,
// so the module waits between pages. The bytes are copied once, from the module's
// memory into the reader's buffer.
//
// A read whose context ends loses nothing: the next read continues at the same
// byte.
type outbox struct {
	offer chan []byte
	taken chan int
	done  chan struct{}
	once  sync.Once
	err   error           // returned by reads once done is closed
	ctx   context.Context // of the current read; used only by the reader
}

func newOutbox() *outbox {
	return &outbox{offer: make(chan []byte), taken: make(chan int), done: make(chan struct{}), ctx: context.Background()}
}

func (o *outbox) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		select {
		case o.offer <- p:
			n := <-o.taken
			p = p[n:]
			written += n
		case <-o.done:
			return written, io.ErrClosedPipe
		}
	}
	return written, nil
}

func (o *outbox) Read(p []byte) (int, error) {
	select {
	case <-o.done: // takes precedence over bytes that are offered
		return 0, o.err
	default:
	}
	select {
	case b := <-o.offer:
		n := copy(p, b)
		o.taken <- n
		return n, nil
	case <-o.ctx.Done():
		return 0, context.Cause(o.ctx)
	case <-o.done:
		return 0, o.err
	}
}

// close makes reads return err and the module's writes fail.
func (o *outbox) close(err error) {
	o.once.Do(func() {
		o.err = err
		close(o.done)
	})
}
