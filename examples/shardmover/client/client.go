// Package client writes to one group, and counts the acknowledged writes. It refuses to know that
// replicas move: it follows the answers of the nodes.
package client

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"migrationlog/examples/shardmover/node"
	"migrationlog/examples/shardmover/wire"
)

const (
	callTimeout = 2 * time.Second      // after which a write is sent again
	pause       = 5 * time.Millisecond // between two writes, and between two tries
)

// Client writes the numbers 1, 2, 3 and so on. It repeats each number until it is acknowledged.
type Client struct {
	Name  string
	Group uint64

	network      *wire.Network
	nodes        []uint64
	acknowledged atomic.Uint64
	longest      atomic.Int64 // nanoseconds
}

// New returns a client of a group.
func New(name string, group uint64, network *wire.Network, nodes []uint64) *Client {
	return &Client{Name: name, Group: group, network: network, nodes: nodes}
}

// Acknowledged returns the number of writes that were acknowledged. They are 1, 2, 3 and so on.
func (c *Client) Acknowledged() uint64 { return c.acknowledged.Load() }

// LongestWrite returns the longest time that a write has taken, with all its tries.
func (c *Client) LongestWrite() time.Duration { return time.Duration(c.longest.Load()) }

// Run writes until ctx ends.
func (c *Client) Run(ctx context.Context) {
	leader := ""
	for ctx.Err() == nil {
		began := time.Now()
		leader = c.write(ctx, c.acknowledged.Load()+1, leader)
		if leader == "" {
			return
		}
		c.acknowledged.Add(1)
		c.longest.Store(max(c.longest.Load(), int64(time.Since(began))))
		wait(ctx)
	}
}

// write repeats a write until a node acknowledges it, and returns that node. If ctx ends before that,
// it returns "". The write may have been carried out then.
func (c *Client) write(ctx context.Context, number uint64, to string) string {
	for try := 0; ctx.Err() == nil; try++ {
		if to == "" {
			to = wire.NodeName(c.nodes[try%len(c.nodes)])
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		_, err := wire.Call[node.None](call, c.network, to, node.MethodWrite, node.Write{Group: c.Group, Client: c.Name, Write: number})
		cancel()
		if err == nil {
			return to
		}
		var failure *wire.Error
		if errors.As(err, &failure) && failure.Leader != to {
			to = failure.Leader
		} else {
			to = ""
		}
		wait(ctx)
	}
	return ""
}

func wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}
