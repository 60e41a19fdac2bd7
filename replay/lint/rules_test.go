package lint_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/lint"
)

const startMS = 1_795_399_697_000

// script builds the events of a small history. The times are ms after startMS.
type script struct{ events []checkpoint.Event }

// id returns a version 7 id with a time.
func id(n byte, atMS int) checkpoint.MigrationID {
	ms := uint64(startMS + atMS)
	return checkpoint.MigrationID{byte(ms >> 40), byte(ms >> 32), byte(ms >> 24), byte(ms >> 16), byte(ms >> 8), byte(ms), 0x70, 0, 0x80, 15: n}
}

func hlc(atMS int) checkpoint.HLC {
	return checkpoint.HLC{WallNS: (startMS + uint64(atMS)) * 1_000_000}
}

// of writes a checkpoint.
func (s *script) of(id checkpoint.MigrationID, atMS int, attempt uint32, p checkpoint.Payload) {
	crc, err := checkpoint.PayloadCRC32C(p)
	if err != nil {
		panic(err)
	}
	s.events = append(s.events, checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{
		MigrationID: id, Attempt: attempt, Payload: p, CRC32C: crc, TimestampMS: startMS + uint64(atMS)}})
}

func (s *script) abort(id checkpoint.MigrationID, atMS int, undo ...checkpoint.Compensation) {
	s.events = append(s.events, checkpoint.Aborted{MigrationID: id, Reason: "test", Compensations: undo, TimestampMS: startMS + uint64(atMS)})
}

func (s *script) remove(id checkpoint.MigrationID, atMS int) {
	s.events = append(s.events, checkpoint.Removed{MigrationID: id, TimestampMS: startMS + uint64(atMS)})
}

// move is a normal move of vShard 7, from node source to node target of group 7, that starts at a
// time. Its phases are 10 ms apart.
type move struct {
	n              byte
	at             int
	source, target uint64
}

var first = move{n: 1, source: 1, target: 2}

func (m move) id() checkpoint.MigrationID { return id(m.n, m.at) }

func (m move) add() checkpoint.AddLearner {
	return checkpoint.AddLearner{VShardID: 7, SourceNode: m.source, TargetNode: m.target, SourceGroup: 7, WritePauseBudgetUS: 500_000, StartedAtHLC: hlc(m.at)}
}

func (m move) payload(p checkpoint.Phase) checkpoint.Payload {
	return []checkpoint.Payload{
		m.add(),
		checkpoint.CatchUp{VShardID: 7, LearnerLogIndexAtAdd: 100},
		checkpoint.PromoteLearner{VShardID: 7, TargetNode: m.target, SourceGroup: 7},
		checkpoint.LeadershipTransfer{VShardID: 7, TargetIsVoter: true, NewLeaderNodeID: m.target, SourceGroup: 7},
		checkpoint.Cutover{VShardID: 7, NewLeaderNodeID: m.target, SourceGroup: 7},
		checkpoint.Complete{VShardID: 7, ActualPauseUS: 10_000, GhostStubInstalled: true},
	}[p-1]
}

// to writes the phases up to the last one.
func (m move) to(s *script, last checkpoint.Phase) {
	for p := checkpoint.PhaseAddLearner; p <= last; p++ {
		s.of(m.id(), m.at+10*int(p-1), 0, m.payload(p))
	}
}

// done writes a move up to its removal.
func (m move) done(s *script) {
	m.to(s, checkpoint.PhaseComplete)
	s.remove(m.id(), m.at+60)
}

func undo(kind checkpoint.CompensationKind, node uint64) checkpoint.Compensation {
	return checkpoint.Compensation{Kind: kind, GroupID: 7, PeerID: node}
}

var (
	removeLearner = undo(checkpoint.RemoveLearner, 2)
	removeVoter   = undo(checkpoint.RemoveVoter, 2)
	restoreHint   = undo(checkpoint.RestoreLeaderHint, 1)
)

const (
	add      = checkpoint.PhaseAddLearner
	catchUp  = checkpoint.PhaseCatchUp
	promote  = checkpoint.PhasePromoteLearner
	transfer = checkpoint.PhaseLeadershipTransfer
	cutover  = checkpoint.PhaseCutover
	complete = checkpoint.PhaseComplete
)

// ruleCase is a history that breaks only this rule, and one that stops just short of it.
type ruleCase struct {
	rule         string
	name         string // of the case, if the rule has several
	breaks, near func(*script)
	seqs         []uint64 // of the finding
	stall        time.Duration
	info         bool // the finding has severity info, and its rule has not
}

var ruleCases = []ruleCase{
	{rule: "phase-back", seqs: []uint64{2, 3},
		breaks: func(s *script) { first.to(s, catchUp); s.of(first.id(), 20, 0, first.add()) },
		near:   func(s *script) { first.to(s, catchUp); s.of(first.id(), 20, 1, first.add()) }},
	{rule: "phase-skip", seqs: []uint64{2, 3},
		breaks: func(s *script) { first.to(s, catchUp); s.of(first.id(), 20, 0, first.payload(transfer)) },
		near:   func(s *script) { first.to(s, transfer) }},
	{rule: "phase-skip", name: "first", seqs: []uint64{1},
		breaks: func(s *script) { s.of(first.id(), 0, 0, first.payload(catchUp)) },
		near:   func(s *script) { s.of(first.id(), 0, 0, first.payload(add)) }},
	{rule: "promote-before-catchup", seqs: []uint64{1, 2},
		breaks: func(s *script) { first.to(s, add); s.of(first.id(), 20, 0, first.payload(promote)) },
		near:   func(s *script) { first.to(s, promote) }},
	{rule: "write-after-abort", seqs: []uint64{3},
		breaks: func(s *script) { first.to(s, add); s.abort(first.id(), 0, removeLearner); first.to(s, add) },
		near: func(s *script) {
			first.to(s, add)
			s.abort(first.id(), 5, removeLearner)
			move{2, 10, 1, 2}.to(s, add)
		}},
	{rule: "write-after-remove", seqs: []uint64{8},
		breaks: func(s *script) {
			first.done(s)
			again := move{2, 0, 2, 1}.add()
			again.StartedAtHLC = hlc(100)
			s.of(first.id(), 100, 0, again)
		},
		near: func(s *script) { first.done(s); move{2, 100, 2, 1}.to(s, add) }},
	{rule: "vshard-overlap", seqs: []uint64{1, 3},
		breaks: func(s *script) { first.to(s, catchUp); move{2, 20, 1, 3}.to(s, add) },
		near:   func(s *script) { first.to(s, complete); move{2, 100, 2, 3}.to(s, add) }},
	{rule: "target-changed", seqs: []uint64{1, 3},
		breaks: func(s *script) { first.to(s, catchUp); s.of(first.id(), 20, 0, move{target: 3}.payload(promote)) },
		near:   func(s *script) { first.to(s, promote) }},
	{rule: "move-changed", seqs: []uint64{1, 2},
		breaks: func(s *script) { first.to(s, add); s.of(first.id(), 20, 0, checkpoint.CatchUp{VShardID: 8}) },
		near:   func(s *script) { first.to(s, catchUp) }},
	{rule: "move-changed", name: "group", seqs: []uint64{1, 3},
		breaks: func(s *script) {
			first.to(s, catchUp)
			s.of(first.id(), 20, 0, checkpoint.PromoteLearner{VShardID: 7, TargetNode: 2, SourceGroup: 8})
		},
		near: func(s *script) { first.to(s, promote) }},
	{rule: "source-is-target", seqs: []uint64{1},
		breaks: func(s *script) { move{1, 0, 1, 1}.to(s, add) },
		near:   func(s *script) { move{1, 0, 1, 2}.to(s, add) }},
	{rule: "source-gone", seqs: []uint64{6, 8},
		breaks: func(s *script) { first.done(s); move{2, 100, 1, 3}.to(s, add) },
		near:   func(s *script) { first.done(s); move{2, 100, 2, 3}.to(s, add) }},
	{rule: "source-gone", name: "aborted", seqs: []uint64{2, 3},
		breaks: func(s *script) {
			first.to(s, add)
			s.abort(first.id(), 5, removeLearner)
			move{2, 100, 2, 3}.to(s, add)
		},
		near: func(s *script) {
			first.to(s, add)
			s.abort(first.id(), 5, removeLearner)
			move{2, 100, 1, 3}.to(s, add)
		}},
	{rule: "target-present", seqs: []uint64{6, 8},
		breaks: func(s *script) { first.done(s); move{2, 100, 3, 2}.to(s, add) },
		near:   func(s *script) { first.done(s); move{2, 100, 2, 3}.done(s); move{3, 200, 3, 2}.to(s, add) }},
	{rule: "not-a-voter", seqs: []uint64{4},
		breaks: func(s *script) {
			first.to(s, promote)
			s.of(first.id(), 30, 0, checkpoint.LeadershipTransfer{VShardID: 7, NewLeaderNodeID: 2, SourceGroup: 7})
		},
		near: func(s *script) { first.to(s, transfer) }},
	{rule: "log-index-back", seqs: []uint64{2, 9},
		breaks: func(s *script) { twoCatchUps(s, 99) },
		near:   func(s *script) { twoCatchUps(s, 100) }},
	{rule: "pause-over-budget", seqs: []uint64{1, 6},
		breaks: func(s *script) { paused(s, 500_001, 500_000) },
		near:   func(s *script) { paused(s, 500_000, 500_000) }},
	{rule: "stub-missing", seqs: []uint64{6},
		breaks: func(s *script) {
			first.to(s, cutover)
			s.of(first.id(), 50, 0, checkpoint.Complete{VShardID: 7, ActualPauseUS: 10_000})
		},
		near: func(s *script) { first.to(s, complete) }},
	{rule: "abort-leaves-behind", seqs: []uint64{2, 3},
		breaks: func(s *script) { first.to(s, catchUp); s.abort(first.id(), 20) },
		near:   func(s *script) { first.to(s, catchUp); s.abort(first.id(), 20, removeLearner) }},
	{rule: "abort-leaves-behind", name: "furthest", seqs: []uint64{4, 5},
		breaks: func(s *script) { backAtCatchUp(s); s.abort(first.id(), 40, removeVoter) },
		near:   func(s *script) { backAtCatchUp(s); s.abort(first.id(), 40, removeVoter, restoreHint) }},
	{rule: "abort-undoes-other", seqs: []uint64{1, 3},
		breaks: func(s *script) { first.to(s, catchUp); s.abort(first.id(), 20, undo(checkpoint.RemoveLearner, 3)) },
		near:   func(s *script) { first.to(s, catchUp); s.abort(first.id(), 20, removeLearner) }},
	{rule: "abort-undoes-other", name: "hint", seqs: []uint64{1, 4},
		breaks: func(s *script) {
			first.to(s, promote)
			s.abort(first.id(), 30, removeVoter, undo(checkpoint.RestoreLeaderHint, 2))
		},
		near: func(s *script) { first.to(s, promote); s.abort(first.id(), 30, removeVoter, restoreHint) }},
	{rule: "abort-after-cutover", seqs: []uint64{5, 6},
		breaks: func(s *script) { first.to(s, cutover); s.abort(first.id(), 50) },
		near:   func(s *script) { first.to(s, transfer); s.abort(first.id(), 50, removeVoter, restoreHint) }},
	{rule: "remove-unfinished", seqs: []uint64{5, 6},
		breaks: func(s *script) { first.to(s, cutover); s.remove(first.id(), 50) },
		near:   func(s *script) { first.done(s) }},
	{rule: "duplicate-differs", seqs: []uint64{2, 3},
		breaks: func(s *script) {
			first.to(s, catchUp)
			s.of(first.id(), 20, 0, checkpoint.CatchUp{VShardID: 7, LearnerLogIndexAtAdd: 101})
		},
		near: func(s *script) {
			first.to(s, catchUp)
			s.of(first.id(), 20, 1, checkpoint.CatchUp{VShardID: 7, LearnerLogIndexAtAdd: 101})
		}},
	{rule: "duplicate-differs", name: "only started_at_hlc", seqs: []uint64{1, 2}, info: true,
		breaks: func(s *script) {
			first.to(s, add)
			again := first.add()
			again.StartedAtHLC.Logical++
			s.of(first.id(), 20, 0, again)
		},
		near: func(s *script) { first.to(s, add); s.of(first.id(), 20, 0, first.add()) }},
	{rule: "attempt-back", seqs: []uint64{3, 4},
		breaks: func(s *script) { tries(s, 0, 1, 0) },
		near:   func(s *script) { tries(s, 0, 1, 1) }},
	{rule: "attempt-gap", seqs: []uint64{2, 3},
		breaks: func(s *script) { tries(s, 0, 2) },
		near:   func(s *script) { tries(s, 0, 1) }},
	{rule: "attempt-gap", name: "first", seqs: []uint64{2},
		breaks: func(s *script) { tries(s, 1) },
		near:   func(s *script) { tries(s, 0) }},
	{rule: "abort-other-compensations", seqs: []uint64{2, 3},
		breaks: func(s *script) { first.to(s, catchUp); s.abort(first.id(), 20, removeLearner, restoreHint) },
		near:   func(s *script) { first.to(s, catchUp); s.abort(first.id(), 20, removeLearner) }},
	{rule: "abort-other-compensations", name: "order", seqs: []uint64{3, 4},
		breaks: func(s *script) { first.to(s, promote); s.abort(first.id(), 30, restoreHint, removeVoter) },
		near:   func(s *script) { first.to(s, promote); s.abort(first.id(), 30, removeVoter, restoreHint) }},
	{rule: "clock-back", seqs: []uint64{2, 3},
		breaks: func(s *script) { first.to(s, catchUp); s.of(first.id(), 9, 0, first.payload(promote)) },
		near:   func(s *script) { first.to(s, catchUp); s.of(first.id(), 10, 0, first.payload(promote)) }},
	{rule: "hlc-back", seqs: []uint64{1, 8},
		breaks: func(s *script) { startedAt(s, 1, 0) },
		near:   func(s *script) { startedAt(s, 1, 1) }},
	{rule: "hlc-skew", seqs: []uint64{1},
		breaks: func(s *script) { skewed(s, 1001) },
		near:   func(s *script) { skewed(s, 1000) }},
	{rule: "silence", seqs: []uint64{1, 2},
		breaks: func(s *script) { first.to(s, add); s.of(first.id(), 10_001, 0, first.payload(catchUp)) },
		near:   func(s *script) { first.to(s, add); s.of(first.id(), 10_000, 0, first.payload(catchUp)) }},
	{rule: "stalled", seqs: []uint64{1, 2}, stall: 2 * time.Second,
		breaks: func(s *script) { first.to(s, add); s.of(first.id(), 2000, 0, first.payload(catchUp)) },
		near:   func(s *script) { first.to(s, add); s.of(first.id(), 1999, 0, first.payload(catchUp)) }},
	{rule: "stalled", name: "at the end", seqs: []uint64{1}, stall: 2 * time.Second,
		breaks: func(s *script) { first.to(s, add); s.other(2000) },
		near:   func(s *script) { first.to(s, add); s.other(1999) }},
	{rule: "slow-phase", seqs: []uint64{141, 142},
		breaks: func(s *script) { slow(s, 20, 177) },
		near:   func(s *script) { slow(s, 20, 174) }},
	{rule: "slow-phase", name: "samples", seqs: []uint64{141, 142},
		breaks: func(s *script) { slow(s, 20, 10_000) },
		near:   func(s *script) { slow(s, 18, 10_000) }},
	{rule: "flapping", seqs: []uint64{2, 4, 6},
		breaks: func(s *script) { failing(s, 1, 0, 3) },
		near:   func(s *script) { failing(s, 1, 0, 2) }},
	{rule: "flapping", name: "once", seqs: []uint64{2, 4, 6},
		breaks: func(s *script) { failing(s, 1, 0, 5) },
		near:   func(s *script) { failing(s, 1, 0, 2); first.later(500).done(s); failing(s, 5, 1000, 2) }},
	{rule: "pause-unlike-clock", seqs: []uint64{4, 5, 6},
		breaks: func(s *script) { paused(s, 1_010_001, 9_000_000) },
		near:   func(s *script) { paused(s, 1_010_000, 9_000_000) }},
	{rule: "retry", seqs: []uint64{3},
		breaks: func(s *script) { tries(s, 0, 1) },
		near:   func(s *script) { tries(s, 0) }},
	{rule: "aborted", seqs: []uint64{2},
		breaks: func(s *script) { first.to(s, add); s.abort(first.id(), 20, removeLearner) },
		near:   func(s *script) { s.abort(first.id(), 20, removeLearner) }},
	{rule: "not-removed", seqs: []uint64{6},
		breaks: func(s *script) { first.to(s, complete); s.other(50 + 60_001) },
		near:   func(s *script) { first.to(s, complete); s.other(50 + 60_000) }},
	{rule: "pause-near-budget", seqs: []uint64{1, 6},
		breaks: func(s *script) { paused(s, 400_000, 500_000) },
		near:   func(s *script) { paused(s, 399_999, 500_000) }},
	{rule: "repeated", seqs: []uint64{2, 3},
		breaks: func(s *script) { tries(s, 0, 0) },
		near:   func(s *script) { tries(s, 0, 1) }},
	{rule: "id-clock", seqs: []uint64{1},
		breaks: func(s *script) { s.of(id(1, -1001), 0, 0, first.add()) },
		near:   func(s *script) { s.of(id(1, -1000), 0, 0, first.add()) }},
}

func (m move) later(ms int) move { m.at += ms; m.n++; return m }

// other writes an event of another vShard that is no move: its coordinator raises an epoch.
func (s *script) other(atMS int) {
	s.events = append(s.events, checkpoint.EpochRaised{MigrationID: id(200, 0), Epoch: uint64(len(s.events) + 1), TimestampMS: startMS + uint64(atMS)})
}

func twoCatchUps(s *script, index uint64) {
	first.done(s)
	m := move{2, 100, 2, 3}
	m.to(s, add)
	s.of(m.id(), 110, 0, checkpoint.CatchUp{VShardID: 7, LearnerLogIndexAtAdd: index})
}

func paused(s *script, pauseUS, budgetUS uint64) {
	start := first.add()
	start.WritePauseBudgetUS = budgetUS
	s.of(first.id(), 0, 0, start)
	for p := catchUp; p <= cutover; p++ {
		s.of(first.id(), 10*int(p-1), 0, first.payload(p))
	}
	s.of(first.id(), 50, 0, checkpoint.Complete{VShardID: 7, ActualPauseUS: pauseUS, GhostStubInstalled: true})
}

// backAtCatchUp writes a move that was at PromoteLearner and is at CatchUp again.
func backAtCatchUp(s *script) { first.to(s, promote); s.of(first.id(), 30, 1, first.payload(catchUp)) }

// tries writes a CatchUp for each attempt.
func tries(s *script, attempts ...uint32) {
	first.to(s, add)
	for i, attempt := range attempts {
		s.of(first.id(), 10+i, attempt, first.payload(catchUp))
	}
}

// startedAt writes two moves with these counters in their hybrid clocks.
func startedAt(s *script, before, after uint32) {
	start := first.add()
	start.StartedAtHLC = checkpoint.HLC{WallNS: hlc(100).WallNS, Logical: before}
	s.of(first.id(), 0, 0, start)
	for p := catchUp; p <= complete; p++ {
		s.of(first.id(), 10*int(p-1), 0, first.payload(p))
	}
	s.remove(first.id(), 60)
	again := move{2, 100, 2, 1}.add()
	again.StartedAtHLC = checkpoint.HLC{WallNS: hlc(100).WallNS, Logical: after}
	s.of(id(2, 100), 100, 0, again)
}

func skewed(s *script, ms int) {
	start := first.add()
	start.StartedAtHLC = hlc(ms)
	s.of(first.id(), 0, 0, start)
}

// slow writes normal moves, and then one whose first phase has another length.
func slow(s *script, normal, ms int) {
	m := first
	for range normal {
		m.done(s)
		m = move{m.n + 1, m.at + 100, m.target, m.source}
	}
	m.to(s, add)
	s.of(m.id(), m.at+ms, 0, m.payload(catchUp))
}

// failing writes aborted moves.
func failing(s *script, n byte, atMS, count int) {
	for i := range count {
		m := move{n + byte(i), atMS + 10*i, 1, 2}
		if n > 1 { // after a move from node 1 to node 2
			m.source, m.target = 2, 1
		}
		m.to(s, add)
		s.abort(m.id(), m.at+5, undo(checkpoint.RemoveLearner, m.target))
	}
}

// written returns a reader of a log with the events.
func written(t *testing.T, write func(*script)) (*replay.Reader, string) {
	var s script
	write(&s)
	dir := filepath.Join(t.TempDir(), "log")
	store, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
	require.NoError(t, err)
	_, err = store.WriteAll(s.events, migrationlog.Confirm())
	require.NoError(t, err)
	require.NoError(t, store.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	return reader, dir
}

// documentedFacts returns the keys of the facts of a rule's findings in docs/LINT.md, sorted.
func documentedFacts(t *testing.T, rule string) (keys []string) {
	content, err := os.ReadFile("../../docs/LINT.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(content), "\n## "+rule+"\n")
	require.True(t, found, "docs/LINT.md has no section %s", rule)
	_, list, found := strings.Cut(section, "**Facts.**")
	require.True(t, found, "docs/LINT.md, section %s has no facts", rule)
	list, _, _ = strings.Cut(list, "\n\n")
	for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(list, -1) {
		keys = append(keys, m[1])
	}
	slices.Sort(keys)
	return keys
}

// Each rule has exactly one finding in a history that breaks only this rule, and none in a history
// that stops just short of breaking it. Findings of severity info are compared only for the rules of
// that severity: a history with an abort has one for the abort.
func TestRules(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range ruleCases {
		tested[c.rule] = true
		rule, err := lint.FindRule(c.rule)
		require.NoError(t, err)
		t.Run(c.rule+" "+c.name, func(t *testing.T) {
			t.Parallel()
			severity := rule.Severity
			if c.info {
				severity = lint.Info
			}
			options := lint.Options{Severity: min(severity, lint.Warning), Stall: c.stall}
			reader, _ := written(t, c.breaks)
			found, counts := run(t, reader, options)
			require.Len(t, found, 1, "%+v", found)
			require.Equal(t, c.rule, found[0].Rule)
			require.Equal(t, severity, found[0].Severity)
			require.True(t, found[0].Certain)
			require.Equal(t, c.seqs, found[0].Seqs)
			require.NotEmpty(t, found[0].Message)
			require.Equal(t, documentedFacts(t, c.rule), slices.Sorted(maps.Keys(found[0].Facts)), "docs/LINT.md, section %s", c.rule)
			require.Equal(t, 1, counts[c.rule])

			reader, _ = written(t, c.near)
			found, counts = run(t, reader, lint.Options{Severity: lint.Warning, Stall: c.stall})
			require.Empty(t, found)
			require.Zero(t, counts[c.rule])
		})
	}
	require.Len(t, lint.Rules(), 37)
	for _, r := range lint.Rules() {
		require.True(t, tested[r.ID], "no history breaks %s", r.ID)
		require.NotEmpty(t, r.Definition+r.Reason+r.Action)
	}
}
