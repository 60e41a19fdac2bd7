package peer

import (
	"errors"
	"fmt"
	"slices"

	"migrationlog/bench/eventgen"
	"migrationlog/checkpoint"
)

// ID is the id of a migration, and the key of its row.
type ID = checkpoint.MigrationID

// The part of the events that a peer keeps.
const (
	KeepsHistoryAndRows = "history, rows"
	KeepsHistory        = "history; rows in a Go map beside it"
	KeepsRows           = "rows"
	KeepsBytes          = "bytes; no checks, no rows"
)

// Peer is a store that can do the job: the latest row of each migration is durable before the call
// returns, and it can be loaded again.
type Peer struct {
	Name   string
	Module string // its Go module, "" for this repository's
	Keeps  string
	Setup  string // its configuration, as its documentation advises for small durable writes
	Open   func(dir string, o Options) (Store, error)

	takesEvents bool // the peer encodes the events itself
}

// Prepare encodes the op if the peer takes bytes.
func (p Peer) Prepare(op *eventgen.Op) error {
	if p.takesEvents {
		return nil
	}
	return op.Encode()
}

// Options configure an opening.
type Options struct {
	Bulk           bool // only ApplyAll will be called; durable at Close
	Writers        int  // goroutines that will call Apply
	ExpectedEvents int  // 0: unknown
}

// Store is an open peer. Apply is safe for concurrent use.
type Store interface {
	// Apply makes a prepared op durable.
	Apply(op *eventgen.Op) error
	// ApplyAll writes many prepared ops. The store must have been opened with Bulk. The ops are
	// durable when Close has returned.
	ApplyAll(ops []eventgen.Op) error
	// Load reads all live rows into a Go map, unless the opening has already done so. It returns
	// their number, and the map unless the store itself holds it. A caller that measures memory
	// keeps the map alive.
	Load() (rows any, n int, err error)
	// Rows returns the encoded event of each live row.
	Rows() (map[ID][]byte, error)
	Close() error
}

// Getter is a store that serves rows.
type Getter interface {
	// Get returns whether a migration has a row, after it has made the row usable for the caller.
	// A store that returns bytes appends them to buf.
	Get(id ID, buf []byte) ([]byte, bool, error)
	// All reads all rows and returns their number.
	All() (int, error)
}

// Historian is a store that keeps overwritten events.
type Historian interface {
	// History returns the number of events of one migration, read from the files.
	History(id ID) (int, error)
}

// All returns the peers in the order of the tables, migrationlog first.
func All() []Peer {
	return []Peer{
		migrationLog, rawFilePeer, tidwallWAL, etcdWAL, etcdWALGroup, raftWAL,
		bboltUpdate, bboltBatch, pebblePeer, badgerPeer, sqlitePeer,
	}
}

// Named returns the peer of that name.
func Named(name string) (Peer, error) {
	i := slices.IndexFunc(All(), func(p Peer) bool { return p.Name == name })
	if i < 0 {
		return Peer{}, fmt.Errorf("there is no peer %q", name)
	}
	return All()[i], nil
}

// Import writes the ops of next as fast as the peer can, until next returns false. They are durable
// when Import returns. It calls progress, if not nil, with the number of ops written so far.
func (p Peer) Import(dir string, next func() (eventgen.Op, bool, error), progress func(events int)) (err error) {
	s, err := p.Open(dir, Options{Bulk: true, Writers: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	const chunk = 10_000
	ops := make([]eventgen.Op, 0, chunk)
	for written := 0; ; {
		op, more, err := next()
		if err != nil {
			return err
		}
		if more {
			if err := p.Prepare(&op); err != nil {
				return err
			}
			ops = append(ops, op)
		}
		if len(ops) == chunk || !more {
			if err := s.ApplyAll(ops); err != nil {
				return err
			}
			written += len(ops)
			ops = ops[:0]
			if progress != nil {
				progress(written)
			}
		}
		if !more {
			return nil
		}
	}
}
