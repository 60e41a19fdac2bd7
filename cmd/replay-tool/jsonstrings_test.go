package main

import (
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each number is put into quotes, also if it is written in parts. Strings do not change.
func TestNumberQuoter(t *testing.T) {
	const text = `{"a1":1,"b":[-2.5e+3, 44 ,{"c":"\"5\\"}],"d":"\\\"6","e":true,"f":null,"g":0}` + "\n7\n"
	const want = `{"a1":"1","b":["-2.5e+3", "44" ,{"c":"\"5\\"}],"d":"\\\"6","e":true,"f":null,"g":"0"}` + "\n\"7\"\n"
	for size := 1; size <= len(text); size++ {
		var out bytes.Buffer
		q := &numberQuoter{w: &out}
		for part := range chunks(text, size) {
			n, err := q.Write([]byte(part))
			require.NoError(t, err)
			require.Equal(t, len(part), n)
		}
		require.Equal(t, want, out.String())
	}
}

func chunks(text string, size int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for len(text) > 0 {
			n := min(size, len(text))
			if !yield(text[:n]) {
				return
			}
			text = text[n:]
		}
	}
}

// With --json-strings no number is left in the JSON of any command. The lines of log and state can be
// imported again, and the copy has the same events, including numbers above 2^53.
func TestJSONStrings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	const big = "9007199254740993"
	lines := strings.Join([]string{
		`{"kind":"checkpoint","migration_id":"01a20629-44f1-75f5-8bf1-000000000001","attempt":0,"phase":"AddLearner","payload":{"vshard_id":1,"source_node":` + big + `,"target_node":18446744073709551615,"source_group":3,"write_pause_budget_us":4,"started_at_hlc":{"wall_ns":` + big + `,"logical":6}},"ts_ms":7}`,
		`{"kind":"checkpoint","migration_id":"01a20629-44f1-75f5-8bf1-000000000002","attempt":0,"phase":"CatchUp","payload":{"vshard_id":2,"learner_log_index_at_add":` + big + `},"ts_ms":8}`,
		`{"kind":"abort","migration_id":"01a20629-44f1-75f5-8bf1-000000000002","reason":"77","compensations":[{"kind":"RemoveLearner","group_id":1,"peer_id":` + big + `}],"ts_ms":` + big + `}`,
		"",
	}, "\n")
	tool := func(stdin string, args ...string) string {
		var out bytes.Buffer
		require.Equal(t, exitClean, run(t.Context(), append(args, "-q"), strings.NewReader(stdin), &out, io.Discard), args)
		return out.String()
	}
	tool(lines, "import", dir, "-")
	plain := tool("", "log", dir, "-o", "ndjson")
	number := regexp.MustCompile(`[:,\[]\s*-?[0-9]`)
	for _, command := range [][]string{{"log"}, {"state"}, {"show", "000001"}, {"info"}, {"verify"}} {
		args := []string{command[0], dir, "--json-strings"}
		if command[0] == "show" {
			args = append(args, "01a20629-44f1-75f5-8bf1-000000000001")
		}
		for _, format := range []string{"json", "ndjson"} {
			text := tool("", append(args, "-o", format)...)
			for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
				require.True(t, format == "json" || json.Valid([]byte(line)))
			}
			require.True(t, format == "ndjson" || json.Valid([]byte(text)), text)
			require.NotRegexp(t, number, regexp.MustCompile(`"[^"]*"`).ReplaceAllString(text, `""`), command[0])
			if command[0] != "verify" && command[0] != "info" {
				require.Contains(t, text, `"`+big+`"`)
			}
		}
	}
	second := filepath.Join(t.TempDir(), "second")
	tool(tool("", "log", dir, "-o", "ndjson", "--json-strings"), "import", second, "-")
	require.Equal(t, plain, tool("", "log", second, "-o", "ndjson"))
	rows := filepath.Join(t.TempDir(), "rows")
	tool(tool("", "state", dir, "-o", "ndjson", "--json-strings"), "import", rows, "-")
	require.Equal(t, strings.SplitAfter(plain, "\n")[0], tool("", "log", rows, "-o", "ndjson"))

	var errs bytes.Buffer
	require.Equal(t, exitUsage, run(t.Context(), []string{"log", dir, "--json-strings"}, nil, io.Discard, &errs))
	require.Contains(t, errs.String(), "--json-strings changes only JSON: add -o json or -o ndjson")
}
