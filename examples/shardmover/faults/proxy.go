package faults

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"migrationlog/examples/shardmover/wire"
)

// Proxy forwards the connections between two sites. Connections within a site, and those of
// clients, do not go through it.
type Proxy struct {
	listener net.Listener
	network  *wire.Network

	mu    sync.Mutex
	links map[link]state
	conns map[net.Conn]link
}

// link is the connection of two sites, in both directions. a is before b.
type link struct{ a, b string }

func linkOf(a, b string) link {
	if a > b {
		a, b = b, a
	}
	return link{a, b}
}

// state is the state of a link. The zero state forwards everything at once.
type state struct {
	cut   bool          // no connection can be made, and the open ones have ended
	mute  bool          // bytes are dropped silently
	delay time.Duration // before bytes are forwarded
}

// Start starts a proxy, and announces it in the directory.
func Start(d wire.Directory) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		listener: listener, network: wire.NewNetwork(d, wire.ProxyName, false),
		links: map[link]state{}, conns: map[net.Conn]link{},
	}
	go p.serve()
	return p, d.Announce(wire.ProxyName, listener.Addr().String())
}

// Close ends all connections.
func (p *Proxy) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.Close()
	}
	return p.listener.Close()
}

func (p *Proxy) serve() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go p.forward(conn)
		}
	}
}

// set changes the state of a link. If the link is cut, or if it was mute before, its connections
// end, because a stream with missing bytes must not continue.
func (p *Proxy) set(l link, s state) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.cut || p.links[l].mute && !s.mute {
		for conn, of := range p.conns {
			if of == l {
				conn.Close()
				delete(p.conns, conn)
			}
		}
	}
	p.links[l] = s
}

func (p *Proxy) state(l link) state {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.links[l]
}

// track adds a connection, unless its link is cut.
func (p *Proxy) track(l link, conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.links[l].cut {
		return false
	}
	for _, conn := range conns {
		p.conns[conn] = l
	}
	return true
}

func (p *Proxy) untrack(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		delete(p.conns, conn)
		conn.Close()
	}
}

// forward forwards one connection.
func (p *Proxy) forward(from net.Conn) {
	defer from.Close()
	header, err := wire.ReadHeader(from)
	if err != nil {
		return
	}
	l := linkOf(wire.Site(header.From), wire.Site(header.To))
	if p.state(l).cut {
		return
	}
	to, err := p.network.Dial(context.Background(), header.To, header.Service)
	if err != nil {
		return
	}
	if !p.track(l, from, to) {
		to.Close()
		return
	}
	defer p.untrack(from, to)
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			p.copy(l, pair[1], pair[0])
			done <- struct{}{}
		}()
	}
	<-done // the other direction ends with the connections
}

// copy forwards the bytes of one direction.
func (p *Proxy) copy(l link, to, from net.Conn) {
	for buffer := make([]byte, 64<<10); ; {
		n, err := from.Read(buffer)
		s := p.state(l)
		if s.delay > 0 {
			time.Sleep(s.delay)
		}
		if n > 0 && !s.mute {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
