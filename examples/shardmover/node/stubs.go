package node

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// stubs has the nodes to which clients of groups that have left are sent. It is saved, because clients
// remember the old node for a long time.
type stubs struct {
	file string

	mu     sync.Mutex
	target map[uint64]stub // by group
}

// stub sends the clients of one group to a node. Epoch is that of the coordinator that installed it.
type stub struct {
	Node  uint64 `json:"node"`
	Epoch uint64 `json:"epoch"`
}

func openStubs(dir string) (*stubs, error) {
	s := &stubs{file: filepath.Join(dir, "stubs.json"), target: map[uint64]stub{}}
	data, err := os.ReadFile(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	return s, json.Unmarshal(data, &s.target)
}

// install saves a stub. A stub of a lower epoch does not replace it.
func (s *stubs) install(group uint64, t stub) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.target[group].Epoch > t.Epoch {
		return nil
	}
	s.target[group] = t
	data, err := json.Marshal(s.target)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.file+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(s.file+".new", s.file)
}

// of returns the node to which the clients of a group are sent, or 0.
func (s *stubs) of(group uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.target[group].Node
}
