package peer

import (
	"maps"
	"sync"

	"migrationlog/bench/eventgen"
)

// rowMap is the Go map that stands beside a log that keeps no rows.
type rowMap struct {
	mu   sync.RWMutex
	rows map[ID][]byte
}

func newRowMap() *rowMap { return &rowMap{rows: map[ID][]byte{}} }

// apply folds an encoded event. It keeps the slice.
func (m *rowMap) apply(value []byte) error {
	id, ends, err := eventgen.IDOf(value)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if ends {
		delete(m.rows, id)
	} else {
		m.rows[id] = value
	}
	return nil
}

// Load is done when the log has been read.
func (m *rowMap) Load() (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.rows), nil
}

// Rows returns a copy.
func (m *rowMap) Rows() (map[ID][]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return maps.Clone(m.rows), nil
}

// countIf counts an encoded event if it is that migration's.
func countIf(id ID, value []byte, n *int) error {
	of, _, err := eventgen.IDOf(value)
	if of == id {
		*n++
	}
	return err
}
