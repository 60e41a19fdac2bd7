package coordinator

import (
	"context"

	"migrationlog/checkpoint"
)

// outcome returns the state of a move. It reads the history only if the move has no row.
func (m *mover) outcome(ctx context.Context, id checkpoint.MigrationID) (Outcome, error) {
	store := m.fsm.Store()
	if _, found := store.Row(id); found {
		return InFlight, nil
	}
	outcome := Absent
	for record, err := range store.History(ctx, id) {
		if err != nil {
			return "", err
		}
		switch record.Event.(type) {
		case checkpoint.Removed:
			outcome = Complete
		case checkpoint.Aborted:
			outcome = Aborted
		}
	}
	return outcome, nil
}
