package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// uncheckedSegments returns the number of segments that a message says were not checked.
func uncheckedSegments(errs string) int {
	found := regexp.MustCompile(`(?m)^(\d+) segments? not checked`).FindStringSubmatch(errs)
	if found == nil {
		return 0
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

// On a large log, a query with filters prints the same as on a log in one segment, which is read
// completely. With summaries it reads few segments.
func TestSearch_PrintsAsAReadOfAll(t *testing.T) {
	setClock(t, recordingEndMS+86_400_000)
	small, large := recordingLog(t), largeRecordingLog(t)
	names, err := segment.Names(os.DirFS(large))
	require.NoError(t, err)
	for _, indexed := range []bool{true} {
		if !indexed {
			require.NoError(t, os.RemoveAll(filepath.Join(large, segment.SummaryDir)))
		}
		for _, c := range []struct {
			command string
			atMost  int // segments that are read completely
		}{
			{"log --vshard 11", 1}, {"log --vshard 11 --kind abort", 1}, {"log --node 3 --phase Cutover --since -20s", 4},
			{"log --migration 781d20", 1}, {"log --migration 781d20 --kind abort", 1},
			{"log --since -2s", 3}, {"log --since 02:09:00 --until 02:09:01", 3}, {"log --from 4000 --to 4050", 2},
			{"log --kind abort -n 5", 1}, {"log --vshard 11 -n 5", 1}, {"log --kind abort -n 5 --reverse", 1},
			{"log --kind epoch_raised", 1}, {"log --kind remove --vshard 8 --until 02:09:00", 1},
			{"stats --last 3s", 3}, {"stats --since 02:09:00 --until 02:09:02", 4}, {"stats --last 3s --node 3 --by node", 3},
			{"timeline --last 2s", 3}, {"timeline --since 02:09:00 --until 02:09:01", 3}, {"timeline --until 02:08:20 --vshard 11", 3},
			{"timeline --since 02:09:00 --until 02:09:01 --format perfetto", 3},
		} {
			for _, output := range []string{"table", "json", "ndjson"} {
				if output != "table" && strings.HasPrefix(c.command, "timeline") {
					continue // it has findings, which need the whole log
				}
				args := strings.Fields(c.command)
				run := func(dir string) (code int, out, errs string) {
					return runTool(t, nil, append([]string{args[0], dir, "-o", output, "--width", "140"}, args[1:]...)...)
				}
				wantCode, want, _ := run(small)
				code, out, errs := run(large)
				require.Equal(t, wantCode, code, c.command)
				require.Equal(t, want, out, "%s -o %s", c.command, output)
				if indexed {
					require.LessOrEqual(t, len(names)-uncheckedSegments(errs), c.atMost, "%s -o %s: %s", c.command, output, errs)
				}
			}
		}
	}
}

// show --vshard finds the newest move of the vShard with few segments.
func TestSearch_ShowVShard(t *testing.T) {
	small, large := recordingLog(t), largeRecordingLog(t)
	for _, vshard := range []string{"11", "2", "30"} {
		head := func(dir string) string {
			code, out, _ := runTool(t, nil, "show", dir, "--vshard", vshard)
			require.Zero(t, code)
			line, _, _ := strings.Cut(out, "\n")
			return line
		}
		require.Equal(t, head(small), head(large))
	}
	_, _, errs := runTool(t, nil, "show", large, "--vshard", "11")
	require.Positive(t, uncheckedSegments(errs))
	code, _, errs := runTool(t, nil, "show", large, "--vshard", "999")
	require.Equal(t, exitNoMatch, code, errs)
}
