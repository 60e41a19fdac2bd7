package shard

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// command is one entry of a group's log: a write of a client, or a fence.
type command struct {
	Client string `json:"client,omitempty"`
	Write  uint64 `json:"write,omitempty"` // number of the write, from 1; a client repeats it until it is acknowledged
	Epoch  uint64 `json:"epoch,omitempty"` // of a coordinator
}

// State is the replicated state of a group.
type State struct {
	Epoch  uint64              `json:"epoch"`  // the highest epoch of a coordinator
	Writes map[string][]uint64 `json:"writes"` // of each client, ascending
	// ConfigIndex is the index of the newest committed configuration. It is part of the state, because
	// raft's GetConfiguration does not return it.
	ConfigIndex uint64 `json:"config_index"`
	// AppliedIndex is the index of the last entry that has changed the state.
	AppliedIndex uint64 `json:"applied_index"`
}

// machine applies the commands. It implements raft.FSM and raft.ConfigurationStore.
type machine struct {
	mu        sync.Mutex
	state     State
	onServers func([]raft.Server) // called for each committed configuration
}

func newMachine(onServers func([]raft.Server)) *machine {
	return &machine{state: State{Writes: map[string][]uint64{}}, onServers: onServers}
}

// Apply returns the group's epoch after the command.
func (m *machine) Apply(entry *raft.Log) any {
	var c command
	if err := json.Unmarshal(entry.Data, &c); err != nil {
		panic(fmt.Sprintf("entry %d is malformed: %v", entry.Index, err)) // no other program writes to this log
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.AppliedIndex = entry.Index
	m.state.Epoch = max(m.state.Epoch, c.Epoch)
	if writes := m.state.Writes[c.Client]; c.Client != "" && (len(writes) == 0 || writes[len(writes)-1] < c.Write) {
		m.state.Writes[c.Client] = append(writes, c.Write)
	}
	return m.state.Epoch
}

// StoreConfiguration implements raft.ConfigurationStore.
func (m *machine) StoreConfiguration(index uint64, c raft.Configuration) {
	m.mu.Lock()
	m.state.ConfigIndex, m.state.AppliedIndex = index, index
	m.mu.Unlock()
	m.onServers(c.Servers)
}

// indexes returns the indexes of the last applied entry and of the newest configuration.
func (m *machine) indexes() (applied, config uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.AppliedIndex, m.state.ConfigIndex
}

// copyState returns a copy of the state.
func (m *machine) copyState() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state
	s.Writes = make(map[string][]uint64, len(m.state.Writes))
	for client, writes := range m.state.Writes {
		s.Writes[client] = slices.Clip(writes) // a later append does not change these elements
	}
	return s
}

// Snapshot, Restore, and Persist and Release of savedState implement raft.FSM.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return savedState(m.copyState()), nil }

func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	var s State
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
	return nil
}

type savedState State

func (s savedState) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(State(s)); err != nil {
		return fmt.Errorf("%w (cancel: %v)", err, sink.Cancel())
	}
	return sink.Close()
}

func (s savedState) Release() {}
