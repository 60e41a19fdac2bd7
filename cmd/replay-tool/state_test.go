package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// state --at TIME prints the event at which the state ends. If one event has a wrong clock, it prints how
// many later events are left out, and the command that includes them.
func TestState_AtATimeWithAWrongClock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	var lines strings.Builder
	for i, time := range []string{"1800000000000", "1800000001000", "4102444800000", "1800000002000", "1800000003000"} { // #3 is in 2100
		fmt.Fprintf(&lines, `{"kind":"checkpoint","migration_id":"01a20629-44f1-75f5-8bf1-d9e9fef8b7a%d","attempt":0,"phase":"CatchUp","payload":{"vshard_id":%[1]d,"learner_log_index_at_add":2},"ts_ms":%s}`+"\n", i, time)
	}
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, strings.NewReader(lines.String()), io.Discard, io.Discard))
	state := func(at string) (rows int, messages string) {
		var out, errs bytes.Buffer
		code := run(t.Context(), []string{"state", dir, "-o", "ndjson", "--at", at}, nil, &out, &errs)
		if at == "1700000000000" { // before the log
			require.Equal(t, exitNoMatch, code)
		} else {
			require.Zero(t, code)
		}
		return strings.Count(out.String(), "\n"), errs.String()
	}

	rows, messages := state("1800000009000")
	require.Equal(t, 2, rows)
	require.Equal(t, "the state is as of #2: the next event, #3, has a later clock, 2100-01-01T00:00:00.000Z\n"+
		"not included: 2 later events with a clock up to that time (the first is #4), because a clock went back or #3 has a wrong clock. To include them, run: replay-tool state "+dir+" --at '#5'\n", messages)
	rows, messages = state("#5")
	require.Equal(t, 5, rows)
	require.Empty(t, messages)

	rows, messages = state("1800000002500")
	require.Equal(t, 2, rows)
	require.Contains(t, messages, "not included: 1 later event with a clock up to that time (the first is #4)")
	rows, messages = state("1800000000500")
	require.Equal(t, 1, rows)
	require.Equal(t, "the state is as of #1: the next event, #2, has a later clock, 2027-01-15T08:00:01.000Z\n", messages)
	rows, messages = state("1700000000000")
	require.Zero(t, rows)
	require.Equal(t, "no event is included: the first one, #1, has a later clock, 2027-01-15T08:00:00.000Z\n", messages)
	rows, messages = state("5000000000000")
	require.Equal(t, 5, rows)
	require.Equal(t, "the state is as of #5, the end of the log\n", messages)
}
