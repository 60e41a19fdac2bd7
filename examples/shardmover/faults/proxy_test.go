package faults

import (
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/examples/shardmover/wire"
)

// A pair is a connection from node 1 to node 2 through the proxy.
type pair struct{ from, to net.Conn }

func TestProxy_Faults(t *testing.T) {
	directory := wire.Directory(t.TempDir())
	mux, err := wire.Listen(directory, wire.NodeName(2))
	require.NoError(t, err)
	defer mux.Close()
	service := mux.Service("s")
	proxy, err := Start(directory)
	require.NoError(t, err)
	defer proxy.Close()
	network := wire.NewNetwork(directory, wire.NodeName(1), true)
	dial := func() (p pair) {
		p.from, err = network.Dial(t.Context(), wire.NodeName(2), "s")
		require.NoError(t, err)
		p.to, err = service.Accept()
		require.NoError(t, err)
		t.Cleanup(func() { p.from.Close(); p.to.Close() })
		return p
	}
	send := func(p pair, within time.Duration) (received string) {
		_, err := p.from.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, p.to.SetReadDeadline(time.Now().Add(within)))
		buffer := make([]byte, 1)
		n, _ := p.to.Read(buffer)
		return string(buffer[:n])
	}
	l := linkOf("1", "2")

	open := dial()
	require.Equal(t, "x", send(open, 10*time.Second))
	proxy.set(l, state{mute: true})
	require.Equal(t, "", send(open, 50*time.Millisecond), "the byte is dropped")
	proxy.set(l, state{})
	requireEnds(t, open.from) // it has lost a byte

	open = dial()
	require.Equal(t, "x", send(open, 10*time.Second))
	proxy.set(l, state{cut: true})
	requireEnds(t, open.from)
	refused, err := network.Dial(t.Context(), wire.NodeName(2), "s")
	require.NoError(t, err) // the proxy itself is there
	requireEnds(t, refused)

	proxy.set(l, state{})
	open = dial()
	proxy.set(linkOf("1", "3"), state{cut: true}) // another link
	require.Equal(t, "x", send(open, 10*time.Second))
}

// requireEnds requires that the other side has ended a connection.
func requireEnds(t *testing.T, c net.Conn) {
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is open")
}

// All kinds of faults occur.
func TestChooseFault_AllKinds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	seen := map[state]bool{}
	for range 200 {
		links, s, text := chooseFault(random, []string{"1", "2", "3", "4"})
		require.NotEmpty(t, text)
		require.Contains(t, []int{1, 3}, len(links))
		s.delay = min(s.delay, 1)
		seen[s] = true
	}
	require.Equal(t, map[state]bool{{cut: true}: true, {mute: true}: true, {delay: 1}: true}, seen)
}
