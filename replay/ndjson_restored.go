package replay

import (
	"cmp"
	"encoding/json"
	"fmt"

	"migrationlog/checkpoint"
)

// restoredLine is the line of a restored row: that of a checkpoint, with the facts.
type restoredLine struct {
	numbers
	Kind        Kind                    `json:"kind"`
	MigrationID *checkpoint.MigrationID `json:"migration_id"`
	Attempt     *uint32                 `json:"attempt"`
	Phase       *checkpoint.Phase       `json:"phase"`
	Payload     json.RawMessage         `json:"payload"`
	Facts       *factsLine              `json:"facts"`
	CRC32C      *uint32                 `json:"crc32c,omitempty"`
	TSMS        *uint64                 `json:"ts_ms"`
	Epoch       uint64                  `json:"epoch,omitempty"`
}

// factsLine has the facts of a restored row. A fact that is not known is missing.
type factsLine struct {
	SourceNode         *uint64            `json:"source_node,omitempty"`
	TargetNode         *uint64            `json:"target_node,omitempty"`
	SourceGroup        *uint64            `json:"source_group,omitempty"`
	WritePauseBudgetUS *uint64            `json:"write_pause_budget_us,omitempty"`
	StartedAtHLC       *checkpoint.HLC    `json:"started_at_hlc,omitempty"`
	RecordedPhases     []checkpoint.Phase `json:"recorded_phases"`
	HighestAttempts    []attemptLine      `json:"highest_attempts,omitempty"` // of the phases with one above 0
	Targets            []targetLine       `json:"targets,omitempty"`          // if there is more than one
	Abort              *restoredAbortLine `json:"abort,omitempty"`            // if one is under way
}

type attemptLine struct {
	Phase   checkpoint.Phase `json:"phase"`
	Attempt uint32           `json:"attempt"`
}

type targetLine struct {
	GroupID uint64 `json:"group_id"`
	PeerID  uint64 `json:"peer_id"`
}

type restoredAbortLine struct {
	Reason        string     `json:"reason"`
	Compensations []stepLine `json:"compensations"`
	TSMS          uint64     `json:"ts_ms"`
	// BeforeCheckpoint is true if the row was written during the abort.
	BeforeCheckpoint bool `json:"before_checkpoint,omitempty"`
}

// stepLine is a compensation with its progress.
type stepLine struct {
	Kind     checkpoint.CompensationKind `json:"kind"`
	GroupID  uint64                      `json:"group_id"`
	PeerID   uint64                      `json:"peer_id"`
	VShardID uint32                      `json:"vshard_id,omitempty"`
	Done     bool                        `json:"done"`
}

// restoredLine returns the line of a restored row.
func (r Record) restoredLine(e checkpoint.Restored, crc32c uint32) (any, error) {
	c, phase := e.Checkpoint, e.Checkpoint.Phase()
	payload, err := json.Marshal(c.Payload)
	return restoredLine{
		numbers: r.numbers(), Kind: KindRestored, MigrationID: &c.MigrationID, Attempt: &c.Attempt, Phase: &phase,
		Payload: payload, Facts: factsLineOf(e.Facts), CRC32C: &crc32c, TSMS: &c.TimestampMS, Epoch: e.Epoch,
	}, err
}

func factsLineOf(f checkpoint.RestoredFacts) *factsLine {
	l := &factsLine{RecordedPhases: []checkpoint.Phase{}}
	if f.HasSource {
		l.SourceNode, l.WritePauseBudgetUS, l.StartedAtHLC = &f.SourceNode, &f.WritePauseBudgetUS, &f.StartedAtHLC
	}
	if f.HasTarget {
		l.TargetNode, l.SourceGroup = &f.TargetNode, &f.SourceGroup
	}
	for i, attempt := range f.HighestAttempt {
		phase := checkpoint.Phase(i + 1)
		if f.RecordedPhases>>i&1 == 1 {
			l.RecordedPhases = append(l.RecordedPhases, phase)
		}
		if attempt > 0 {
			l.HighestAttempts = append(l.HighestAttempts, attemptLine{phase, attempt})
		}
	}
	for _, t := range f.Targets {
		l.Targets = append(l.Targets, targetLine(t))
	}
	if a := f.Abort; a != nil {
		l.Abort = &restoredAbortLine{Reason: a.Reason, Compensations: []stepLine{}, TSMS: a.TimestampMS, BeforeCheckpoint: a.BeforeCheckpoint}
		for i, c := range a.Compensations {
			l.Abort.Compensations = append(l.Abort.Compensations, stepLine{c.Kind, c.GroupID, c.PeerID, c.VShardID, a.Done[i]})
		}
	}
	return l
}

// facts returns the facts of a line. Package checkpoint returns an error if they contradict each
// other.
func (l *factsLine) facts() (f checkpoint.RestoredFacts) {
	if l.SourceNode != nil {
		f.HasSource, f.SourceNode = true, *l.SourceNode
	}
	if l.WritePauseBudgetUS != nil {
		f.WritePauseBudgetUS = *l.WritePauseBudgetUS
	}
	if l.StartedAtHLC != nil {
		f.StartedAtHLC = *l.StartedAtHLC
	}
	if l.TargetNode != nil {
		f.HasTarget, f.TargetNode = true, *l.TargetNode
	}
	if l.SourceGroup != nil {
		f.SourceGroup = *l.SourceGroup
	}
	for _, p := range l.RecordedPhases {
		f.RecordedPhases |= 1 << (p - 1)
		f.FurthestPhase = max(f.FurthestPhase, p)
	}
	for _, a := range l.HighestAttempts {
		f.HighestAttempt[a.Phase-1] = a.Attempt
	}
	for _, t := range l.Targets {
		f.Targets = append(f.Targets, checkpoint.Target(t))
	}
	if a := l.Abort; a != nil {
		f.Abort = &checkpoint.RestoredAbort{Reason: a.Reason, TimestampMS: a.TSMS, BeforeCheckpoint: a.BeforeCheckpoint}
		for _, c := range a.Compensations {
			f.Abort.Compensations = append(f.Abort.Compensations, checkpoint.Compensation{Kind: c.Kind, GroupID: c.GroupID, PeerID: c.PeerID, VShardID: c.VShardID})
			f.Abort.Done = append(f.Abort.Done, c.Done)
		}
	}
	return f
}

// readRestored reads a line of a restored row.
func (r *Record) readRestored(l *lineReader, line []byte) error {
	var v restoredLine
	if err := l.object("", line, &v); err != nil {
		return err
	}
	if half := halfPair(line); half != "" { // package json would replace it with U+FFFD
		return fmt.Errorf(`"facts.abort.reason": %s is half of a surrogate pair and not a character: give both halves, or the character itself in UTF-8`, half)
	}
	rounded := l.rounded
	c, err := l.checkpoint(v.MigrationID, v.Attempt, v.Phase, v.Payload, v.TSMS)
	if err != nil {
		return err
	}
	l.rounded = cmp.Or(rounded, l.rounded)
	return r.setEvent(l, v.numbers, checkpoint.Restored{Checkpoint: c, Facts: v.Facts.facts(), Epoch: v.Epoch}, v.CRC32C)
}
