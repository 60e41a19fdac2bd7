package lint

import (
	"encoding/json"

	"migrationlog/checkpoint"
)

// Finding is one event, or one pair or series of events, that breaks a rule. MarshalJSON returns the
// object that `replay-tool lint` prints.
type Finding struct {
	Rule     string   // its id
	Severity Severity // at most Warning if the finding is not certain
	// Certain is false if a lost event may explain the finding: an event is lost between its seqs, or
	// before the first event of the incarnation.
	Certain     bool
	MigrationID checkpoint.MigrationID // nil: the finding is about no single migration
	Incarnation int                    // number of the id's incarnation, from 1; 0 without a migration
	VShardID    *uint32                // nil: not known, or not about a vShard
	// Seqs has the events of the finding, ascending. In the history of a file they are numbers of lines.
	Seqs    []uint64
	Facts   map[string]any // the values that were compared, by the keys that docs/LINT.md shows
	Message string         // for people
}

type findingJSON struct {
	Rule        string                  `json:"rule"`
	Severity    Severity                `json:"severity"`
	Certain     bool                    `json:"certain"`
	MigrationID *checkpoint.MigrationID `json:"migration_id"`
	Incarnation *int                    `json:"incarnation"`
	VShardID    *uint32                 `json:"vshard_id"`
	Seqs        []uint64                `json:"seqs"`
	Facts       map[string]any          `json:"facts"`
	Message     string                  `json:"message"`
}

// MarshalJSON returns the finding as one object. A value that is not known is null.
func (f Finding) MarshalJSON() ([]byte, error) {
	out := findingJSON{Rule: f.Rule, Severity: f.Severity, Certain: f.Certain, VShardID: f.VShardID, Seqs: f.Seqs, Facts: f.Facts, Message: f.Message}
	if f.Facts == nil {
		out.Facts = map[string]any{}
	}
	if f.MigrationID != (checkpoint.MigrationID{}) {
		out.MigrationID, out.Incarnation = &f.MigrationID, &f.Incarnation
	}
	return json.Marshal(out)
}
