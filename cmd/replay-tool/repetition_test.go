package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// importFile imports a text from a file, whose end import can find.
func importFile(t testing.TB, dir, text string, flags ...string) (code int, stdout, stderr string) {
	file := filepath.Join(t.TempDir(), "input.ndjson")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return runTool(t, nil, append([]string{"import", dir, file}, flags...)...)
}

// If the log lacks events before the last one that it has, import names their lines, and does not
// advise to skip them.
func TestRepetition_NamesTheEventsThatTheLogLacks(t *testing.T) {
	t.Parallel()
	lines := make([]string, 60)
	for i := range lines {
		lines[i] = catchUpLine(i+1, 0, 1, 100+i)
	}
	everySecond := func(n int) (some []string) {
		for i := 0; i < n; i += 2 {
			some = append(some, lines[i])
		}
		return some
	}
	x, y := catchUpLine(1, 0, 1, 1), catchUpLine(1, 1, 1, 2)
	for name, tc := range map[string]struct {
		inLog, input []string
		want         string
	}{
		"a part": {[]string{lines[0], lines[1], lines[7]}, lines[:8],
			"has 3 of 8 events, the last on line 8. Before that line, the log lacks 5 events: lines 3-7. Do not skip them. "},
		"one": {[]string{lines[0], lines[2]}, lines[:3], "Before that line, the log lacks 1 event: line 2. Do not skip them. "},
		"more than ten ranges": {everySecond(59), lines,
			"the log lacks 29 events: lines 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 19 more. "},
		"the last lines": {lines[:3], lines[:5], "has 3 of 5 events, the last on line 3. To continue, import only the lines after line 3. "},
		"one of one":     {[]string{x, y}, []string{x}, "the log has 1 of 1 event, the last on line 1. Nothing is left to import. "},
		"an event that the input has twice": {[]string{x, y}, []string{x, y, x, lines[5]},
			"has 2 of 4 events, the last on line 2. To continue, import only the lines after line 2. "},
		"a duplicate that was skipped": {[]string{x, lines[5]}, []string{x, catchUpLine(1, 0, 2, 9), lines[5]},
			"the last on line 3. Nothing is left to import. "},
		"a removal that was skipped": {[]string{x, removeLineOf(1, 3), lines[5]}, []string{x, removeLineOf(1, 3), removeLineOf(1, 4), lines[5]},
			"the last on line 4. Nothing is left to import. "},
	} {
		dir := filepath.Join(t.TempDir(), "log")
		inLog := slices.Concat(tc.inLog, []string{catchUpLine(1, 7, 1, 9)}) // x is not the latest row
		code, _, errs := importText(t, dir, strings.Join(inLog, ""))
		require.Equal(t, exitClean, code, errs)
		for _, flag := range []string{"--check", "-q"} {
			code, _, errs = importFile(t, dir, strings.Join(tc.input, ""), flag)
			require.Equal(t, exitUsage, code, name)
			require.Contains(t, errs, "is in the log already", name)
			require.Contains(t, errs, tc.want, name)
			if strings.Contains(tc.want, "lacks") {
				require.NotContains(t, errs, "To continue", name)
			}
		}
	}
}

var advisedLine = regexp.MustCompile(`To continue, import only the lines after line (\d+)\.`)

// An operator who imports only the lines that the message advises gets every event of the input, for
// any part of the input that is in the log.
func TestRepetition_AdviceLosesNoEvent(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	stem := func(line string) string {
		return line[strings.Index(line, `"migration_id"`):strings.Index(line, `"payload"`)]
	}
	advised := 0
	for range 40 {
		var input []string
		latest := map[int]string{}
		for len(input) < 2+random.IntN(8) {
			id := 1 + random.IntN(3)
			line := catchUpLine(id, 1+random.IntN(3), 1, id)
			if line != latest[id] { // otherwise it is a duplicate, which an import skips
				input, latest[id] = append(input, line), line
			}
		}
		dir := filepath.Join(t.TempDir(), "log")
		for _, line := range input[:random.IntN(len(input)+1)] {
			if random.IntN(8) > 0 {
				importText(t, dir, line, "--quiet")
			}
		}
		code, _, errs := importText(t, dir, catchUpLine(1, 9, 1, 1)+catchUpLine(2, 9, 1, 1)+catchUpLine(3, 9, 1, 1))
		require.Equal(t, exitClean, code, errs)
		_, before, _ := runTool(t, nil, "log", dir, "-o", "ndjson")
		_, _, errs = importFile(t, dir, strings.Join(input, ""))
		m := advisedLine.FindStringSubmatch(errs)
		if m == nil {
			continue
		}
		advised++
		last, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		skipped := strings.Join(input[:last], "")
		_, after, _ := runTool(t, nil, "log", dir, "-o", "ndjson")
		for _, line := range input[:last] {
			require.GreaterOrEqual(t, strings.Count(after, stem(line)), strings.Count(skipped, stem(line)), "%s\n%s\n%s", skipped, before, errs)
		}
	}
	require.Greater(t, advised, 5)
}
