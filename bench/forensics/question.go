package main

import (
	"fmt"
	"math"

	"migrationlog/checkpoint"
)

// question is one question of an operator.
type question struct {
	name  string
	tool  func(dir string, s subject) []string // arguments of replay-tool
	calls []string                             // calls of package replay that answer it, see runCall
	sql   func(s subject) string               // nil: not compared with SQL
	bare  bool                                 // also measure it on the log without summaries
	exit  int                                  // exit code of replay-tool
	goals []goal
}

// subject is what a question is about. Each round has another one.
type subject struct {
	Migration checkpoint.MigrationID `json:"migration"`
	VShard    uint32                 `json:"vshard"` // of a migration with a checkpoint after Seq
	Seq       uint64                 `json:"seq"`
}

// goal is a bound of a measurement.
type goal struct {
	by     string // replay-tool, or a call
	metric string
	bound  float64
	least  bool // the bound is the least value, not the greatest
	always bool // for each sample, not only the median
}

// The metrics. cold: the first run after the files were removed from the page cache. warm: the same
// again.
const (
	coldMS = "cold_ms"
	warmMS = "warm_ms"
	rssMiB = "rss_mib" // peak resident memory of the process
	rateGB = "gb_per_s"
)

const byTool = "replay-tool"

func queryGoals(by string, ms float64) []goal {
	return []goal{{by: by, metric: coldMS, bound: ms}, {by: by, metric: warmMS, bound: ms}}
}

var memoryGoal = goal{by: byTool, metric: rssMiB, bound: 100, always: true}

// questions are all questions in the order of the report.
var questions = []question{
	{
		name:  "show",
		tool:  func(dir string, s subject) []string { return []string{"show", dir, s.Migration.String()} },
		calls: []string{"Reader.History", "Store.History"},
		sql: func(s subject) string {
			return fmt.Sprintf("SELECT * FROM event WHERE migration_id = '%s' ORDER BY seq", s.Migration)
		},
		bare: true, goals: append(queryGoals(byTool, 50), goal{by: "Store.History", metric: warmMS, bound: 5}),
	},
	{
		name:  "log -n 50",
		tool:  func(dir string, s subject) []string { return []string{"log", dir, "-n", "50"} },
		calls: []string{"Reader.Newest"},
		sql:   func(subject) string { return "SELECT * FROM event ORDER BY seq DESC LIMIT 50" },
		bare:  true, goals: queryGoals(byTool, 20),
	},
	{
		name: "log --vshard",
		tool: func(dir string, s subject) []string {
			return []string{"log", dir, "--vshard", fmt.Sprint(s.VShard)}
		},
		calls: []string{"Reader.Search"},
		bare:  true,
	},
	{
		name: "log --vshard -n 50",
		tool: func(dir string, s subject) []string {
			return []string{"log", dir, "--vshard", fmt.Sprint(s.VShard), "-n", "50"}
		},
	},
	{
		name: "log --from --kind",
		tool: func(dir string, s subject) []string {
			to := max(s.Seq, 10_001) // 10,001 events, also at both ends of the log
			return []string{"log", dir, "--from", fmt.Sprint(to - 10_000), "--to", fmt.Sprint(to), "--kind", "abort"}
		},
	},
	{
		name:  "triage",
		tool:  func(dir string, s subject) []string { return []string{"triage", dir} },
		calls: []string{"Reader.Totals"},
		sql: func(subject) string {
			return "SELECT outcome, reason, phase, count(*) FROM move GROUP BY outcome, reason, phase"
		},
		bare: true, goals: queryGoals(byTool, 1000),
	},
	{
		name:  "state --at",
		tool:  func(dir string, s subject) []string { return []string{"state", dir, "--at", fmt.Sprintf("#%d", s.Seq)} },
		calls: []string{"Reader.FoldTo"},
		sql:   rowsAt,
		bare:  true, goals: []goal{{by: byTool, metric: coldMS, bound: 1000, always: true}, {by: byTool, metric: warmMS, bound: 1000, always: true}},
	},
	{
		name: "verify", tool: func(dir string, s subject) []string { return []string{"verify", dir} },
		goals: []goal{{by: byTool, metric: rateGB, bound: 1, least: true}, memoryGoal},
	},
	{name: "stats", tool: func(dir string, s subject) []string { return []string{"stats", dir} }, goals: []goal{memoryGoal}},
	{
		name: "lint", tool: func(dir string, s subject) []string { return []string{"lint", dir} },
		exit: 7, goals: []goal{memoryGoal}, // the random events break rules
	},
	{
		name: "export", tool: func(dir string, s subject) []string { return []string{"export", dir, "--format", "ndjson"} },
		goals: []goal{memoryGoal},
	},
}

// rowsAt selects the latest event of each migration that had a row after an event. The table move
// limits the search to the migrations that were live.
func rowsAt(s subject) string {
	return fmt.Sprintf(`SELECT e.* FROM move m JOIN event e ON e.seq = (SELECT max(seq) FROM event WHERE migration_id = m.migration_id AND seq <= %[1]d)
WHERE m.first_seq <= %[1]d AND (m.last_seq > %[1]d OR m.outcome IN ('in_flight', 'done'))`, s.Seq)
}

// isMet compares the samples of a metric with the goal.
func (g goal) isMet(s spread) bool {
	switch {
	case math.IsNaN(s.Median):
		return false
	case g.least:
		return s.Median >= g.bound
	case g.always:
		return s.Max <= g.bound
	}
	return s.Median <= g.bound
}
