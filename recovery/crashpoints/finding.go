package crashpoints

import (
	"migrationlog/checkpoint"
	"migrationlog/recovery"
	"migrationlog/recovery/model"
)

// NotConverging is the kind of a finding besides those of model.Violation: after the decisions have
// been carried out, the migration has neither completed nor been aborted, and nobody is asked.
const NotConverging model.Kind = "not_converging"

// Finding is a cut of the history whose decisions are unsafe or do not converge.
type Finding struct {
	AfterSeq    uint64 // the cut: the last event before the crash
	Kind        model.Kind
	MigrationID checkpoint.MigrationID
	With        checkpoint.MigrationID // the other migration that is affected; nil: none
	Detail      string                 // the consequence of the decision
	Decision    recovery.Decision      // the first about the migration that is no question
	// The state of the cluster at the crash, if it is not certain.
	Unrecorded []checkpoint.MigrationID // whose effects after their last event were carried out
	TargetGone bool                     // the targets are no members of the cluster
}
