package peer

import (
	"maps"
	"sync"

	"migrationlog/bench/eventgen"
)

// rowMap is the Go map of live rows beside a log, which keeps no rows itself.
type rowMap struct {
	mu   sync.RWMutex
	rows map[ID][]byte
}

func newRowMap() *rowMap { return &rowMap{rows: map[ID][]byte{}} }

// apply folds an encoded event into the map. It keeps the slice.
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

// Load returns the map that the opening has filled.
func (m *rowMap) Load() (any, int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.rows, len(m.rows), nil
}

// Rows returns a copy.
func (m *rowMap) Rows() (map[ID][]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return maps.Clone(m.rows), nil
}

// countIf adds one to n if the encoded event belongs to that migration.
func countIf(id ID, value []byte, n *int) error {
	of, _, err := eventgen.IDOf(value)
	if of == id {
		*n++
	}
	return err
}

// counted returns rows and their number.
func counted(rows map[ID][]byte, err error) (any, int, error) { return rows, len(rows), err }
