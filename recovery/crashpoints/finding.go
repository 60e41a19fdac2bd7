package crashpoints

import (
	"migrationlog/checkpoint"
	"migrationlog/recovery"
	"migrationlog/recovery/model"
)

// NotConverging is the kind of a finding besides those of model.Violation. A decision cannot be
// carried out, or the decisions about a migration are made again and again and the migration does
// not end.
const NotConverging model.Kind = "not_converging"

// Finding is a cut of the history whose decisions are unsafe or do not converge.
type Finding struct {
	AfterSeq    uint64 // the cut: the last event before the crash
	Kind        model.Kind
	MigrationID checkpoint.MigrationID
	With        checkpoint.MigrationID // of the model.Violation; nil: none
	Detail      string                 // the consequence of the decision
	Decision    recovery.Decision      // the first about the migration that is no question; if all are questions, the last one
	// The assumed state of the cluster at the crash, which the log does not show.
	Unrecorded []checkpoint.MigrationID // whose effects after the furthest checkpoint that was recorded were carried out
	TargetGone bool                     // the targets of the moving rows are no members of the cluster
}
