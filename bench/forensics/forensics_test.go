package main

import (
	"bytes"
	"database/sql"
	"math"
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/replay"
)

// A child process runs its call in the test's own program.
func TestMain(m *testing.M) {
	if encoded := os.Getenv(callEnv); encoded != "" {
		exit(runCall(encoded))
	}
	os.Exit(m.Run())
}

// The library and SQL find the same events for each question, with and without summaries. Every
// measurement runs, and is in the report.
func TestForensics_EveryMeasurementRunsAndTheAnswersAgree(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("sqlite3 is not installed")
	}
	t.Chdir("..") // in which the commands are run
	f, err := filesIn(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, f.makeLog(t.Context(), 50_000, 1))
	require.NoError(t, f.loadSQL(t.Context()))

	subjects, lastSeq, err := chooseSubjects(t.Context(), f, 3, 1)
	require.NoError(t, err)
	require.EqualValues(t, 50_000, lastSeq)
	db, err := sql.Open("sqlite", "file:"+f.database+"?mode=ro")
	require.NoError(t, err)
	defer db.Close()
	for _, s := range subjects {
		for _, q := range questions {
			if q.sql == nil || q.name == "triage" { // triage has several queries' worth of answers
				continue
			}
			want, err := countRows(t.Context(), db, q.sql(s))
			require.NoError(t, err)
			require.Positive(t, want, q.name)
			for _, dir := range []string{f.log, f.bare} {
				r, err := replay.Open(dir)
				require.NoError(t, err)
				n, err := calls[q.calls[0]](t.Context(), r, s)
				require.NoError(t, err)
				require.Equal(t, want, n, "%s: %+v", q.name, s)
			}
		}
	}

	require.NoError(t, measure(t.Context(), f, regexp.MustCompile(""), 1, 1))
	var out bytes.Buffer
	require.NoError(t, report(&out, f))
	require.NotContains(t, out.String(), "not measured")
	for _, m := range all() {
		require.Contains(t, out.String(), "| `"+m.question.name+"` | "+m.by)
	}
	require.ErrorContains(t, measure(t.Context(), f, regexp.MustCompile("nothing"), 1, 1), "nothing to measure")
}

// A goal is met at its bound and missed beyond it. If it must always hold, one sample misses it. It is
// not met without samples.
func TestGoal_IsMet(t *testing.T) {
	require.True(t, goal{bound: 10}.isMet(spreadOf([]float64{9, 10, 20})))
	require.False(t, goal{bound: 10}.isMet(spreadOf([]float64{9, 10.1, 20})))
	require.False(t, goal{bound: 10, always: true}.isMet(spreadOf([]float64{9, 10, 20})))
	require.True(t, goal{bound: 10, always: true}.isMet(spreadOf([]float64{9, 10})))
	require.True(t, goal{bound: 10, least: true}.isMet(spreadOf([]float64{10})))
	require.False(t, goal{bound: 10, least: true}.isMet(spreadOf([]float64{9.9})))
	require.False(t, goal{bound: 10}.isMet(spreadOf(nil)))
	require.Equal(t, spread{2.5, 1, 4}, spreadOf([]float64{4, 1, 2, 3}))
	require.True(t, math.IsNaN(spreadOf(nil).Median))
}
