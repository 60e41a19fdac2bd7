package wire

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Network is one endpoint's access to the others. Close idle connections with CloseIdle.
type Network struct {
	directory Directory
	from      string
	proxied   bool
	http      http.Client
}

// NewNetwork returns the access of the endpoint from. If proxied is true, connections to another site
// go through the proxy.
func NewNetwork(d Directory, from string, proxied bool) *Network {
	n := &Network{directory: d, from: from, proxied: proxied}
	n.http.Transport = &http.Transport{
		MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			endpoint, _, _ := strings.Cut(address, ":")
			return n.Dial(ctx, endpoint, APIService)
		},
	}
	return n
}

// Dial opens a connection to a service of an endpoint.
func (n *Network) Dial(ctx context.Context, to, service string) (net.Conn, error) {
	via := to
	if n.proxied && Site(n.from) != Site(to) {
		via = ProxyName
	}
	address, err := n.directory.Lookup(via)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := (Header{From: n.from, To: to, Service: service}).Write(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Header is the first line of each connection.
type Header struct{ From, To, Service string }

// maxHeaderBytes is the maximum length of a header.
const maxHeaderBytes = 256

// headerTimeout is the maximum time that a connection may need to send its header.
const headerTimeout = 5 * time.Second

// Write writes the header.
func (h Header) Write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s %s %s\n", h.From, h.To, h.Service)
	return err
}

// ReadHeader reads the header of a connection, and not one byte more.
func ReadHeader(conn net.Conn) (Header, error) {
	if err := conn.SetReadDeadline(time.Now().Add(headerTimeout)); err != nil {
		return Header{}, err
	}
	var line []byte
	for next := make([]byte, 1); ; {
		if _, err := io.ReadFull(conn, next); err != nil {
			return Header{}, err
		}
		if next[0] == '\n' {
			break
		}
		if line = append(line, next[0]); len(line) > maxHeaderBytes {
			return Header{}, fmt.Errorf("the header is longer than %d bytes", maxHeaderBytes)
		}
	}
	fields := strings.Split(string(line), " ")
	if len(fields) != 3 {
		return Header{}, fmt.Errorf("the header %q does not have three fields", line)
	}
	return Header{From: fields[0], To: fields[1], Service: fields[2]}, conn.SetReadDeadline(time.Time{})
}
