package lint_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/lint"
)

// lose changes a byte of each of these events, so that they are lost.
func lose(t *testing.T, reader *replay.Reader, dir string, seqs ...uint64) *replay.Reader {
	for _, seq := range seqs {
		for r, err := range reader.Records(t.Context(), replay.Query{FromSeq: seq, ToSeq: seq}) {
			require.NoError(t, err)
			path := filepath.Join(dir, "wal", r.Segment)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			b[r.Offset+r.Length-1] ^= 0xff
			require.NoError(t, os.WriteFile(path, b, 0o600))
		}
	}
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	return reader
}

// A finding is not certain, and is at most a warning, if a lost event may explain it.
func TestLost(t *testing.T) {
	skips := func(s *script) { first.to(s, transfer); s.remove(first.id(), 100) }
	for _, c := range []struct {
		name    string
		write   func(*script)
		lost    []uint64
		rule    string
		stall   time.Duration
		certain bool
		found   int
	}{
		{name: "the phase between was lost", write: skips, lost: []uint64{3}, rule: "phase-skip", found: 1},
		{name: "no phase was lost", write: skips, lost: nil, rule: "phase-skip"},
		{name: "the beginning was lost", write: skips, lost: []uint64{1}, rule: "phase-skip", found: 1},
		{name: "the beginning was lost, and the finding needs no other event", rule: "not-a-voter", lost: []uint64{1}, found: 1,
			write: func(s *script) {
				first.to(s, promote)
				s.of(first.id(), 30, 0, checkpoint.LeadershipTransfer{VShardID: 7, NewLeaderNodeID: 2, SourceGroup: 7})
			}},
		{name: "CatchUp was lost", write: skips, lost: []uint64{2}, rule: "promote-before-catchup", found: 1},
		{name: "an event of others was lost between", rule: "phase-skip", lost: []uint64{2}, found: 1,
			write: func(s *script) { first.to(s, add); s.other(5); s.of(first.id(), 20, 0, first.payload(transfer)) }},
		{name: "the loss came later", rule: "phase-skip", lost: []uint64{3}, found: 1, certain: true,
			write: func(s *script) {
				first.to(s, add)
				s.of(first.id(), 20, 0, first.payload(transfer))
				s.other(25)
				s.other(26)
			}},
		{name: "the loss came earlier", rule: "phase-skip", lost: []uint64{1}, found: 1, certain: true,
			write: func(s *script) { s.other(0); first.to(s, add); s.of(first.id(), 20, 0, first.payload(transfer)) }},
		{name: "the loss may be the beginning", rule: "phase-skip", lost: []uint64{1}, found: 1,
			write: func(s *script) { s.other(0); s.of(first.id(), 20, 0, first.payload(catchUp)) }},
		{name: "the removal was lost", rule: "vshard-overlap", lost: []uint64{2}, found: 1,
			write: func(s *script) { first.to(s, add); s.abort(first.id(), 5, removeLearner); move{2, 20, 1, 3}.to(s, add) }},
		{name: "the next event was lost", rule: "stalled", stall: time.Second, lost: []uint64{2}, found: 1,
			write: func(s *script) { first.to(s, add); s.other(10); s.other(5000) }},
		{name: "the end of the stay was lost", rule: "stalled", stall: time.Second, lost: []uint64{2}, found: 0,
			write: func(s *script) { first.to(s, catchUp); s.of(first.id(), 5000, 0, first.payload(promote)) }},
		{name: "the move whose end was lost is in flight no more", rule: "vshard-overlap", lost: []uint64{2}, found: 0,
			write: func(s *script) {
				first.to(s, add)
				s.abort(first.id(), 5, removeLearner)
				first.to(s, add)
				s.abort(first.id(), 15, removeLearner)
				move{2, 20, 1, 3}.to(s, add)
			}},
		{name: "an abort was lost", rule: "flapping", lost: []uint64{3}, found: 1,
			write: func(s *script) { failing(s, 1, 0, 1); s.other(8); failing(s, 2, 10, 2) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			reader, dir := written(t, c.write)
			found, _ := run(t, lose(t, reader, dir, c.lost...), lint.Options{Rules: []string{c.rule}, Stall: c.stall})
			require.Len(t, found, c.found)
			for _, f := range found {
				require.Equal(t, c.certain, f.Certain)
				rule, err := lint.FindRule(c.rule)
				require.NoError(t, err)
				if !c.certain {
					require.Equal(t, lint.Warning, f.Severity)
				} else {
					require.Equal(t, rule.Severity, f.Severity)
				}
			}
		})
	}
}

// An uncertain finding of severity info stays info. An uncertain error is not shown if only errors
// are.
func TestLost_Severity(t *testing.T) {
	reader, dir := written(t, func(s *script) { first.to(s, transfer); s.of(first.id(), 40, 1, first.payload(transfer)) })
	reader = lose(t, reader, dir, 3)
	found, _ := run(t, reader, lint.Options{})
	require.Len(t, found, 2)
	require.Equal(t, lint.Warning, found[0].Severity)
	require.Equal(t, "retry", found[1].Rule)
	require.Equal(t, lint.Info, found[1].Severity)
	found, counts := run(t, reader, lint.Options{Severity: lint.Error})
	require.Empty(t, found)
	require.Equal(t, 1, counts["phase-skip"])
}

// An abort in steps has its compensations in the list with which it was begun, and in the records of
// its steps. Wrong ones are found when the abort begins.
func TestAbortInSteps(t *testing.T) {
	begin := func(s *script, atMS int, undo ...checkpoint.Compensation) {
		s.events = append(s.events, checkpoint.AbortBegun{MigrationID: first.id(), Reason: "test", Compensations: undo, TimestampMS: startMS + uint64(atMS)})
	}
	step := func(s *script, atMS int, n uint32) {
		s.events = append(s.events, checkpoint.Compensated{MigrationID: first.id(), Step: n, TimestampMS: startMS + uint64(atMS)})
	}
	for _, c := range []struct {
		name  string
		write func(*script)
		want  []string
		seqs  []uint64
	}{
		{name: "whole", write: func(s *script) {
			first.to(s, promote)
			begin(s, 30, removeVoter, restoreHint)
			step(s, 31, 0)
			step(s, 32, 1)
			s.abort(first.id(), 33, removeVoter, restoreHint)
		}},
		{name: "the abort lists none again", write: func(s *script) {
			first.to(s, promote)
			begin(s, 30, removeVoter, restoreHint)
			step(s, 31, 0)
			step(s, 32, 1)
			s.abort(first.id(), 33)
		}},
		{name: "a step was not carried out", want: []string{"abort-leaves-behind"}, seqs: []uint64{3, 6}, write: func(s *script) {
			first.to(s, promote)
			begin(s, 30, removeVoter, restoreHint)
			step(s, 31, 0)
			s.abort(first.id(), 33)
		}},
		{name: "another peer, found once", want: []string{"abort-undoes-other"}, seqs: []uint64{1, 3}, write: func(s *script) {
			first.to(s, catchUp)
			begin(s, 30, undo(checkpoint.RemoveLearner, 3))
			step(s, 31, 0)
			s.abort(first.id(), 33, undo(checkpoint.RemoveLearner, 3))
		}},
		{name: "begun after Cutover, found once", want: []string{"abort-after-cutover"}, seqs: []uint64{5, 6}, write: func(s *script) {
			first.to(s, cutover)
			begin(s, 50)
			s.abort(first.id(), 51)
		}},
		{name: "the abort waits", want: []string{"stalled"}, seqs: []uint64{3}, write: func(s *script) {
			first.to(s, catchUp)
			begin(s, 30, removeLearner)
			s.other(2030)
		}},
		{name: "a step of the abort took long", want: []string{"stalled"}, seqs: []uint64{3, 4}, write: func(s *script) {
			first.to(s, catchUp)
			begin(s, 30, removeLearner)
			step(s, 2030, 0)
			s.abort(first.id(), 2031, removeLearner)
		}},
		{name: "a raised epoch is no step of the move", write: func(s *script) {
			first.to(s, catchUp)
			s.events = append(s.events, checkpoint.EpochRaised{MigrationID: first.id(), Epoch: 1, TimestampMS: startMS + 20})
			s.of(first.id(), 30, 0, first.payload(promote))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			reader, _ := written(t, c.write)
			found, _ := run(t, reader, lint.Options{Severity: lint.Warning, Stall: 2 * time.Second})
			var names []string
			for _, f := range found {
				names = append(names, f.Rule)
				require.Equal(t, c.seqs, f.Seqs)
			}
			require.Equal(t, c.want, names)
		})
	}
}

// If the source is not known, an abort need not restore the leader hint, and may do so.
func TestAbort_SourceNotKnown(t *testing.T) {
	for _, list := range [][]checkpoint.Compensation{{removeVoter}, {removeVoter, restoreHint}} {
		reader, _ := written(t, func(s *script) {
			s.of(first.id(), 30, 0, first.payload(transfer))
			s.abort(first.id(), 40, list...)
		})
		found, counts := run(t, reader, lint.Options{Severity: lint.Warning})
		require.Len(t, found, 1)
		require.Equal(t, map[string]int{"phase-skip": 1, "aborted": 1}, counts)
	}
}

// The options select findings by migration, vShard and time.
func TestOptions(t *testing.T) {
	write := func(s *script) { failing(s, 1, 0, 2) }
	for name, c := range map[string]struct {
		options lint.Options
		found   int
	}{
		"all":             {lint.Options{}, 2},
		"migration":       {lint.Options{Migrations: []checkpoint.MigrationID{id(2, 10)}}, 1},
		"other migration": {lint.Options{Migrations: []checkpoint.MigrationID{id(3, 10)}}, 0},
		"vshard":          {lint.Options{VShards: []uint32{7}}, 2},
		"other vshard":    {lint.Options{VShards: []uint32{8}}, 0},
		"since":           {lint.Options{SinceMS: startMS + 6}, 1},
		"until":           {lint.Options{UntilMS: startMS + 6}, 1},
		"rule":            {lint.Options{Rules: []string{"flapping"}}, 0},
	} {
		reader, _ := written(t, write)
		found, _ := run(t, reader, c.options)
		require.Len(t, found, c.found, name)
	}
	_, err := lint.New(lint.Options{Rules: []string{"phase-jump"}})
	require.EqualError(t, err, `unknown rule "phase-jump": similar rules are phase-back, phase-skip, slow-phase`)
	for _, err := range lint.Run(t.Context(), history(nil), lint.Options{Rules: []string{"xyz"}}) {
		require.EqualError(t, err, `unknown rule "xyz"`)
	}
}

// A silence does not count in the stay of a move: neither a clock that jumped nor a coordinator that
// was gone is the move's fault.
func TestSilence_IsNoStall(t *testing.T) {
	for endMS, want := range map[int][]string{12_999: {"silence"}, 13_000: {"silence", "stalled"}} {
		reader, _ := written(t, func(s *script) { first.to(s, add); s.other(11_000); s.other(endMS) })
		found, _ := run(t, reader, lint.Options{Stall: 2 * time.Second})
		var names []string
		for _, f := range found {
			names = append(names, f.Rule)
		}
		require.Equal(t, want, names)
		if len(found) == 2 {
			require.Equal(t, []any{int64(2000), uint64(11_000)}, []any{found[1].Facts["ms"], found[1].Facts["silence_ms"]})
		}
	}
}

// An AddLearner that restores facts and the row after it have no finding of their own. Later
// events are compared with the confirmed row.
func TestConfirmation(t *testing.T) {
	second := first.later(1000)
	second.source, second.target = 2, 1
	confirm := func(s *script, m move, atMS int, attempt uint32, row checkpoint.Payload) {
		s.of(m.id(), atMS, checkpoint.FactsAttempt, m.add())
		s.of(m.id(), atMS, attempt, row)
	}
	for _, c := range []struct {
		name  string
		write func(*script)
		rules []string
	}{
		{"rows of moves that are done", func(s *script) {
			first.to(s, complete)
			second.to(s, complete)
			confirm(s, first, 50, 0, first.payload(complete))
			confirm(s, second, 1050, 0, second.payload(complete))
		}, nil},
		{"a row in flight, and its next phases", func(s *script) {
			first.to(s, catchUp)
			confirm(s, first, 10, 0, first.payload(catchUp))
			s.of(first.id(), 20, 0, first.payload(promote))
			s.of(first.id(), 30, 0, first.payload(transfer))
		}, nil},
		{"a later try", func(s *script) {
			first.to(s, catchUp)
			confirm(s, first, 10, 1, first.payload(catchUp))
			s.of(first.id(), 20, 2, first.payload(catchUp))
			s.of(first.id(), 30, 0, first.payload(promote))
		}, []string{"retry"}},
		{"other nodes, and their compensations", func(s *script) {
			first.to(s, catchUp)
			moved := first
			moved.target = 3
			confirm(s, moved, 40, 0, moved.payload(transfer))
			s.abort(first.id(), 50, undo(checkpoint.RemoveVoter, 3), restoreHint)
		}, []string{"aborted"}},
		{"a move without a row", func(s *script) {
			confirm(s, first, 40, 1, first.payload(promote))
			s.of(first.id(), 50, 0, first.payload(transfer))
		}, nil},
		{"a second move of the vShard", func(s *script) {
			first.to(s, catchUp)
			confirm(s, second, 1000, 0, second.payload(catchUp))
		}, []string{"vshard-overlap"}},
		{"a row without a stub", func(s *script) {
			first.to(s, catchUp)
			confirm(s, first, 40, 0, checkpoint.Complete{VShardID: 7})
		}, []string{"stub-missing"}},
		{"another vShard", func(s *script) {
			first.to(s, catchUp)
			facts := first.add()
			facts.VShardID = 8
			s.of(first.id(), 10, checkpoint.FactsAttempt, facts)
		}, []string{"move-changed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			reader, _ := written(t, c.write)
			found, _ := run(t, reader, lint.Options{})
			var rules []string
			for _, f := range found {
				rules = append(rules, f.Rule)
			}
			require.Equal(t, c.rules, rules, "%+v", found)
		})
	}
}
