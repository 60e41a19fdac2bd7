package main

import (
	"fmt"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay/lint"
)

// skippedLine is a line that import did not append, because it is a duplicate. It is reported if
// its payload differs from the row's, or if the row is in doubt.
type skippedLine struct {
	Line        uint64                 `json:"line"`
	Seq         uint64                 `json:"seq,omitempty"`      // of the row
	RowLine     uint64                 `json:"row_line,omitempty"` // with --check, if the row is not in the log yet
	MigrationID checkpoint.MigrationID `json:"migration_id"`
	Phase       checkpoint.Phase       `json:"phase"`
	Attempt     uint32                 `json:"attempt"`
	InDoubt     bool                   `json:"in_doubt,omitempty"`
	Differences []difference           `json:"differences"`
}

// difference is a key of a payload that differs between the log and a line.
type difference struct {
	Key  string `json:"key"`
	Log  any    `json:"log"`
	Line any    `json:"line"`
}

// skipped describes a duplicate. report is false if its payload is the row's and the row is not in
// doubt.
func skipped(line uint64, o outcome, c checkpoint.Checkpoint) (s skippedLine, report bool) {
	s = skippedLine{
		Line: line, Seq: o.row.Seq, RowLine: o.line, MigrationID: c.MigrationID, Phase: c.Phase(), Attempt: c.Attempt,
		InDoubt:     o.row.Doubt == projection.InDoubt,
		Differences: differencesOf(o.row.Checkpoint.Payload, c.Payload),
	}
	return s, s.InDoubt || len(s.Differences) > 0
}

// differencesOf compares two payloads of the same phase.
func differencesOf(inLog, inLine checkpoint.Payload) []difference {
	all := []difference{}
	for _, d := range lint.Differences(inLog, inLine) {
		all = append(all, difference{d.Key, d.Before, d.After})
	}
	return all
}

// String describes the line for people.
func (s skippedLine) String() string {
	of, where := fmt.Sprintf("#%d", s.Seq), "the log"
	if s.RowLine > 0 {
		of = fmt.Sprintf("line %d", s.RowLine)
		where = of
	}
	text := fmt.Sprintf("line %d: duplicate of %s", s.Line, of)
	if len(s.Differences) > 0 {
		var parts []string
		for _, d := range s.Differences {
			parts = append(parts, fmt.Sprintf("%s %s in %s, %s in the line", d.Key, valueText(d.Log), where, valueText(d.Line)))
		}
		text += " with another payload: " + strings.Join(parts, "; ")
	}
	if s.InDoubt {
		advice := "import it with --confirm"
		if len(s.Differences) > 0 { // --confirm alone rejects the line
			advice = "import two lines with --confirm: this line with an attempt that is one higher, and then this line itself"
		}
		text += ". The row is in doubt, and the line was not appended. If the cluster confirms the line, " + advice
	}
	return text
}

func valueText(v any) string {
	if hlc, ok := v.(checkpoint.HLC); ok {
		return fmt.Sprintf("%d/%d", hlc.WallNS, hlc.Logical)
	}
	return fmt.Sprint(v)
}
