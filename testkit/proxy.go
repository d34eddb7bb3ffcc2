package testkit

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
)

// Damage is what a [Proxy] does to one connection, by the bytes that the server
// sends: nothing below After, which counts from 0. The zero value does nothing.
type Damage struct {
	After int64
	Cut   bool // closes the connection there, in both directions
	Flip  byte // is xored to the byte there; 0 leaves it
}

// Proxy stands between a client and a server and damages what passes, each
// connection as its plan says. It is safe for concurrent use.
type Proxy struct {
	listener net.Listener
	network  string
	address  string
	plan     func(connection int) Damage

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	count  int
	closed bool
	work   sync.WaitGroup
}

// NewProxy begins to listen where on and at say, as [net.Listen] does, for a
// server at an address. The plan is asked for each connection, counted from 0.
// The caller closes the proxy.
func NewProxy(on, at, network, address string, plan func(connection int) Damage) (*Proxy, error) {
	listener, err := net.Listen(on, at)
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, network: network, address: address, plan: plan, conns: map[net.Conn]struct{}{}}
	p.work.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() net.Addr { return p.listener.Addr() }

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(p.network, p.address)
		if err != nil {
			_ = client.Close() // the client sees a server that is not there
			continue
		}
		p.mu.Lock()
		damage := p.plan(p.count)
		p.count++
		if p.closed {
			p.mu.Unlock()
			_ = errors.Join(client.Close(), server.Close())
			return
		}
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		end := func() { p.end(client, server) }
		p.work.Go(func() {
			defer end()
			// Its end is the connection's. The wrapper keeps the copy out of the
			// kernel, whose pipes would stay open for the next one.
			_, _ = io.Copy(struct{ io.Writer }{server}, client)
		})
		p.work.Go(func() {
			defer end()
			_, _ = io.Copy(&damaged{to: client, Damage: damage}, server)
		})
	}
}

func (p *Proxy) end(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if _, open := p.conns[c]; open {
			delete(p.conns, c)
			_ = c.Close() // both ends are told
		}
	}
}

// Cut closes all connections that there are.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // those who copy see it, and clean up
	}
}

// Close ends the proxy and its connections, and waits for its goroutines.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Cut()
	p.work.Wait()
	return err
}

var errCut = errors.New("the proxy cut the connection")

// damaged is a connection on its way to the client.
type damaged struct {
	Damage
	to   net.Conn
	sent int64
}

func (d *damaged) Write(b []byte) (int, error) {
	at := d.After - d.sent
	here := at >= 0 && at < int64(len(b))
	if here && d.Cut {
		n, _ := d.to.Write(b[:at])
		d.sent += int64(n)
		return n, errCut
	}
	if here && d.Flip != 0 {
		b = bytes.Clone(b)
		b[at] ^= d.Flip
	}
	n, err := d.to.Write(b)
	d.sent += int64(n)
	return n, err
}
