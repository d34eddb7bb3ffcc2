package testkit

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
)

// Damage is what a [Proxy] does to one connection at one byte that the server sends.
// The zero value does nothing.
type Damage struct {
	After int64 // the offset of the byte among those that the server sends, from 0
	Cut   bool  // close the connection before the byte
	Flip  byte  // XOR the byte with this value
}

// Proxy forwards connections to a server and damages them. It is safe for concurrent
// use.
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

// NewProxy returns a proxy that listens on the network on and the address at, as in
// [net.Listen], and connects to the given network and address. It calls plan with the
// number of each connection, from 0. The caller must close the proxy.
func NewProxy(on, at, network, address string, plan func(connection int) Damage) (*Proxy, error) {
	listener, err := net.Listen(on, at)
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, network: network, address: address, plan: plan, conns: map[net.Conn]struct{}{}}
	p.work.Go(p.accept)
	return p, nil
}

// Addr returns the address on which the proxy listens.
func (p *Proxy) Addr() net.Addr { return p.listener.Addr() }

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(p.network, p.address)
		if err != nil {
			_ = client.Close() // the client sees that there is no server
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
			// An error ends the connection. The wrapper prevents copying by splice, whose
			// pipes would stay open in a pool.
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
			_ = c.Close() // both ends see it
		}
	}
}

// Cut closes all current connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // the copying goroutines see it and clean up
	}
}

// Close closes the proxy and its connections, and waits for its goroutines.
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

// damaged writes to a client and applies the damage.
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
