package wire

import (
	"errors"
	"net"
	"sync"
)

// APIService is the service with the API of a process.
const APIService = "api"

// Mux is the listener of one endpoint. It passes each connection to the service that the header
// names, and closes connections to a service that is not there.
type Mux struct {
	listener net.Listener
	mu       sync.Mutex
	services map[string]*Service
}

// Listen starts the listener of an endpoint, and announces its address.
func Listen(d Directory, endpoint string) (*Mux, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &Mux{listener: listener, services: map[string]*Service{}}
	go m.serve()
	return m, d.Announce(endpoint, listener.Addr().String())
}

func (m *Mux) serve() {
	for {
		conn, err := m.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go m.pass(conn)
		}
	}
}

// pass passes a connection to its service.
func (m *Mux) pass(conn net.Conn) {
	header, err := ReadHeader(conn)
	if err != nil {
		conn.Close()
		return
	}
	m.mu.Lock()
	service := m.services[header.Service]
	m.mu.Unlock()
	if service == nil || !service.offer(conn) {
		conn.Close()
	}
}

// Service adds a service. It implements net.Listener. Closing it removes it.
func (m *Mux) Service(name string) *Service {
	s := &Service{mux: m, name: name, conns: make(chan net.Conn), closed: make(chan struct{}), open: map[net.Conn]bool{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.services[name] = s
	return s
}

// Close closes the listener. The services stay open.
func (m *Mux) Close() error { return m.listener.Close() }

// Service is one service of an endpoint.
type Service struct {
	mux    *Mux
	name   string
	conns  chan net.Conn
	closed chan struct{}

	mu      sync.Mutex
	refuses bool
	open    map[net.Conn]bool
}

// offer passes a connection to Accept. It returns false if the service refuses it.
func (s *Service) offer(conn net.Conn) bool {
	s.mu.Lock()
	if s.refuses {
		s.mu.Unlock()
		return false
	}
	tracked := &trackedConn{Conn: conn, service: s}
	s.open[tracked] = true
	s.mu.Unlock()
	select {
	case s.conns <- tracked:
		return true
	case <-s.closed:
		return false
	}
}

// Refuse ends all connections of the service and refuses new ones, as if its process hung.
func (s *Service) Refuse() {
	s.mu.Lock()
	s.refuses = true
	open := s.open
	s.open = map[net.Conn]bool{}
	s.mu.Unlock()
	for conn := range open {
		conn.Close()
	}
}

// Accept, Close and Addr implement net.Listener.
func (s *Service) Accept() (net.Conn, error) {
	select {
	case conn := <-s.conns:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *Service) Close() error {
	s.mux.mu.Lock()
	if s.mux.services[s.name] == s {
		delete(s.mux.services, s.name)
		close(s.closed)
	}
	s.mux.mu.Unlock()
	s.Refuse()
	return nil
}

func (s *Service) Addr() net.Addr { return serviceAddr(s.name) }

// serviceAddr is the address of a service. It does not change if the process starts again.
type serviceAddr string

func (a serviceAddr) Network() string { return "shardmover" }
func (a serviceAddr) String() string  { return string(a) }

// trackedConn is a connection that its service can end.
type trackedConn struct {
	net.Conn
	service *Service
}

func (c *trackedConn) Close() error {
	c.service.mu.Lock()
	delete(c.service.open, c)
	c.service.mu.Unlock()
	return c.Conn.Close()
}
