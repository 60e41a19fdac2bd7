package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// ignoredFacts collects the lines whose key facts differs from the facts of the row in the log. Import
// ignores this key of the output of state, so the row keeps its facts.
type ignoredFacts struct {
	restored map[checkpoint.MigrationID]bool // an AddLearner of the input has their facts
	count    uint64
	shown    []string // the first maxShownSkipped
}

// add compares the facts of a line with those of the row in the log, which has none if it is new.
func (i *ignoredFacts) add(number uint64, line []byte, c checkpoint.Checkpoint, row projection.Row) {
	if c.Phase() == checkpoint.PhaseAddLearner {
		if i.restored == nil {
			i.restored = map[checkpoint.MigrationID]bool{}
		}
		i.restored[c.MigrationID] = true
	}
	var parsed struct {
		Facts factsJSON `json:"facts"`
	}
	if i.restored[c.MigrationID] || json.Unmarshal(line, &parsed) != nil {
		return
	}
	inLine, inLog := parsed.Facts, factsOf(row.Facts, c.Phase())
	var parts []string
	for _, fact := range []struct {
		key           string
		inLine, inLog *uint64
	}{
		{"source_node", inLine.SourceNode, inLog.SourceNode},
		{"target_node", inLine.TargetNode, inLog.TargetNode},
		{"source_group", inLine.SourceGroup, inLog.SourceGroup},
	} {
		if fact.inLine != nil && (fact.inLog == nil || *fact.inLine != *fact.inLog) {
			known := "unknown"
			if fact.inLog != nil {
				known = fmt.Sprint(*fact.inLog)
			}
			parts = append(parts, fmt.Sprintf("%s %d in the line, %s in the log", fact.key, *fact.inLine, known))
		}
	}
	if len(parts) == 0 {
		return
	}
	if i.count++; i.count <= maxShownSkipped {
		i.shown = append(i.shown, fmt.Sprintf("line %d: import ignores facts: %s", number, strings.Join(parts, "; ")))
	}
}

// print prints the warnings.
func (i *ignoredFacts) print(t *tool) {
	for _, text := range i.shown {
		t.warnf("%s", text)
	}
	if more := i.count - uint64(len(i.shown)); more > 0 {
		t.warnf("and %s whose facts import ignores", count(more, "more line"))
	}
	if i.count > 0 {
		t.warnf("the rows keep the facts of the log. To restore those of a line, import two lines with --confirm: "+
			"an AddLearner that has them, with attempt %d, and then the line itself", uint32(checkpoint.FactsAttempt))
	}
}
