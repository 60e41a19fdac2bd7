package migrationlog_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"migrationlog"
	"migrationlog/checkpoint"
)

// committed is an entry of the engine's log.
type committed struct {
	index, term uint64
	data        []byte // of a proposal; nil for an entry of the engine itself
}

// stateMachine adapts a replica to the engine, which calls apply with the committed entries.
type stateMachine struct{ replica *migrationlog.Replica }

// apply returns one result for each entry. After an error this member must stop.
func (m *stateMachine) apply(committed []committed, decode func([]byte) migrationlog.Entry) ([]migrationlog.Applied, error) {
	entries := make([]migrationlog.Entry, len(committed))
	for i, c := range committed {
		if c.data != nil {
			entries[i] = decode(c.data) // must give the same result on every member, also for malformed data
		}
		entries[i].Index, entries[i].Term = c.index, c.term
	}
	return m.replica.Apply(entries)
}

// snapshot returns a function that writes the state, while apply continues. The engine may discard
// the entries up to index afterwards.
func (m *stateMachine) snapshot() (index uint64, write func(io.Writer) error, err error) {
	state := m.replica.State()
	if err := m.replica.Record(); err != nil {
		return 0, nil, err
	}
	return state.Digest().Index, func(w io.Writer) error {
		_, err := state.WriteTo(w)
		return err
	}, nil
}

// restore replaces the state by that of another member. After an error other than ErrFailed, the
// old state is in use.
func (m *stateMachine) restore(r io.Reader) error {
	state, err := migrationlog.ReadState(r)
	if err != nil {
		return err
	}
	return m.replica.Replace(state)
}

// A Replica is the state machine of a consensus engine. Two members that have applied the same
// entries have the same digests, also if one of them was restored.
func ExampleReplica() {
	dir, err := os.MkdirTemp("", "replica-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	var members [2]stateMachine
	for i := range members {
		if members[i].replica, err = migrationlog.OpenReplica(filepath.Join(dir, fmt.Sprint("member", i)), nil); err != nil {
			panic(err)
		}
		defer members[i].replica.Close()
	}
	id := checkpoint.MigrationID{1}
	decode := func(attempt []byte) migrationlog.Entry {
		c, err := checkpoint.New(id, uint32(attempt[0]), checkpoint.CatchUp{VShardID: 7}, 1795399697649)
		if err != nil {
			panic(err)
		}
		// The proposer has read the row at index 3.
		return migrationlog.Entry{Event: checkpoint.Upserted{Checkpoint: c}, Options: []migrationlog.WriteOption{migrationlog.IfIndex(3 * uint64(attempt[0]))}}
	}
	first := []committed{{index: 2, term: 1}, {index: 3, term: 1, data: []byte{0}}}
	if _, err := members[0].apply(first, decode); err != nil {
		panic(err)
	}
	index, write, err := members[0].snapshot()
	if err != nil {
		panic(err)
	}
	var snapshot bytes.Buffer
	if err := write(&snapshot); err != nil {
		panic(err)
	}
	if err := members[1].restore(&snapshot); err != nil {
		panic(err)
	}
	next := []committed{{index: 3, term: 1, data: []byte{0}}, {index: 4, term: 1, data: []byte{1}}, {index: 5, term: 1, data: []byte{1}}}
	for _, m := range members {
		results, err := m.apply(next, decode)
		if err != nil {
			panic(err)
		}
		fmt.Println(results[0].Skipped, results[1].Receipt.Duplicate, results[2].Receipt.Duplicate, results[2].Index)
	}
	fmt.Println(index, members[0].replica.Digest() == members[1].replica.Digest())
	// Output:
	// true false true 4
	// true false true 4
	// 3 true
}
