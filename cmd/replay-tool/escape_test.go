package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog"
)

// Printable text passes unchanged. All else is shown as an escape, at any position.
func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "",
		"plain text\n\twith a tab ~": "plain text\n\twith a tab ~",
		"Grüße, 世界 🙂":                "Grüße, 世界 🙂",
		"\x1b[31m\x07\r\b\x00\x7f":   `\u001b[31m\u0007\u000d\u0008\u0000\u007f`,
		"\u009b31m \u202e \u2028":    `\u009b31m \u202e \u2028`,
		"\U000e0001":                 `\udb40\udc01`,
		"\x80\xff\xe4\xb8":           `\x80\xff\xe4\xb8`,
	} {
		for before := range 17 {
			var out bytes.Buffer
			n, err := escapingWriter{&out}.Write([]byte(strings.Repeat("-", before) + text + "------------"))
			require.NoError(t, err)
			require.Equal(t, before+len(text)+12, n)
			require.Equal(t, strings.Repeat("-", before)+want+"------------", out.String())
		}
	}
}

// A line of JSON keeps its meaning, whatever characters its strings have.
func TestEscape_KeepsJSON(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if r > 0x3000 {
			r += 250 // a sample is enough, and faster
		}
		if !utf8.ValidRune(r) {
			continue
		}
		line, err := json.Marshal("a" + string(r))
		require.NoError(t, err)
		if plainBytes(line) == len(line) {
			continue
		}
		escaped := appendEscaped(nil, line)
		var back string
		if json.Unmarshal(escaped, &back) != nil || back != "a"+string(r) {
			t.Fatalf("%U: %s is shown as %s", r, line, escaped)
		}
	}
}

// A path is quoted so that a shell reads it as one word.
func TestQuoted(t *testing.T) {
	for _, path := range []string{"log", "a b", "it's", "$HOME", "x[a", "\x1b[31mred", "a\nb", `it's a \n` + "\x07", "\xff\xfe", "世界", "a\u202eb"} {
		shown := quoted(path)
		require.Equal(t, shown, string(appendEscaped(nil, []byte(shown))), "it is printable")
		require.NotContains(t, shown, "\n")
		if bash, err := exec.LookPath("bash"); err == nil {
			out, err := exec.Command(bash, "-c", "printf %s "+shown).Output()
			require.NoError(t, err)
			require.Equal(t, path, string(out))
		}
	}
}

// Nothing that a command prints can act on the terminal or look like a line of the tool, whatever
// bytes are in the names and files of the log. Each line has a bounded length.
func TestOutput_BytesFromDisk(t *testing.T) {
	const evil = "\x1b[31m\u009b\x7f\u202e\r\nFORGED"
	dir := filepath.Join(t.TempDir(), "log"+evil)
	id := checkpoint.NewMigrationID()
	write := func() {
		s, err := migrationlog.Open(dir, nil)
		require.NoError(t, err)
		_, err = s.Abort(id, evil+strings.Repeat("r", 30_000), nil, migrationlog.Confirm())
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
	write()
	for _, args := range [][]string{
		{"import", dir, "-"}, {"info", dir}, {"log", dir}, {"show", dir, id.String()}, {"state", dir}, {"verify", dir},
		{"import", dir, dir}, {"import", dir, evil}, {"verify", evil}, {"log", dir, "--kind", evil}, {evil}, {"show", dir, evil}, {"info", "--" + evil},
		{"demo", dir}, {"state", dir, "--snapshot"}, {"log", dir, "--since", strings.Repeat("9", 100_000)},
	} {
		for _, output := range []string{outputTable, outputJSON, outputNDJSON} {
			for name, content := range map[string]string{
				"LOCK":                     "12 host" + evil + " " + strings.Repeat("x", 1<<20),
				"wal/stray" + evil:         "x",
				"wal/\xff\xfe" + evil:      "x",
				"snapshots/0000" + evil:    "x",
				"quarantine/x" + evil:      "x",
				"quarantine/x.json" + evil: "x",
			} {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o750))
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
			}
			var out, errs bytes.Buffer
			run(t.Context(), append([]string{"-o", output}, args...), strings.NewReader(evil+"\n"), &out, &errs)
			require.NotEmpty(t, out.String()+errs.String())
			for _, text := range []string{out.String(), errs.String()} {
				require.Equal(t, text, string(appendEscaped(nil, []byte(text))), "%q", args)
				for line := range strings.Lines(text) {
					require.False(t, strings.HasPrefix(line, "FORGED"), "%q -o %s prints a line of its own: %q", args, output, line)
					if output == outputTable {
						require.Less(t, len(line), 2*maxMessageBytes, "%q", args)
					}
				}
			}
		}
	}
}

// JSON has the whole reason of an abort. import reads it unchanged, whatever characters it has.
func TestOutput_ReasonIsImported(t *testing.T) {
	const reason = "a\x1b\x7f\u009b\u202e\U000e0001\r\n\t\"\\ü世🙂z"
	parent := t.TempDir()
	from, to := filepath.Join(parent, "from"), filepath.Join(parent, "to")
	s, err := migrationlog.Open(from, nil)
	require.NoError(t, err)
	id := checkpoint.NewMigrationID()
	_, err = s.Abort(id, reason+strings.Repeat("r", 60_000), nil, migrationlog.Confirm(), migrationlog.WithTimestamp(1))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	var lines, copied bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"log", from, "-o", "ndjson"}, nil, &lines, io.Discard))
	s, err = migrationlog.Open(to, nil) // gives the migration a row, because an import skips an abort without one
	require.NoError(t, err)
	c, err := checkpoint.New(id, 0, checkpoint.CatchUp{}, 1)
	require.NoError(t, err)
	_, err = s.Upsert(c)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Zero(t, run(t.Context(), []string{"import", to, "-"}, &lines, io.Discard, io.Discard))
	require.Zero(t, run(t.Context(), []string{"log", to, "-o", "ndjson", "--kind", "abort"}, nil, &copied, io.Discard))
	var line struct{ Reason string }
	require.NoError(t, json.Unmarshal(copied.Bytes(), &line))
	require.Equal(t, reason+strings.Repeat("r", 60_000), line.Reason)
}

// info counts the files in the quarantine of its own log, even if the path has characters that are
// special in a pattern.
func TestInfo_PathWithPatternCharacters(t *testing.T) {
	parent := t.TempDir()
	quarantined := func(name string, files int) int {
		dir := filepath.Join(parent, name)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "quarantine"), 0o750))
		for i := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "quarantine", strings.Repeat("x", i+1)+".json"), nil, 0o600))
		}
		require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, strings.NewReader(""), io.Discard, io.Discard))
		var out, errs bytes.Buffer
		require.Zero(t, run(t.Context(), []string{"info", dir, "-o", "json"}, nil, &out, &errs), "%s", errs.String())
		var shown struct {
			QuarantinedFiles int `json:"quarantined_files"`
		}
		require.NoError(t, json.Unmarshal(out.Bytes(), &shown))
		return shown.QuarantinedFiles
	}
	require.Equal(t, 2, quarantined("log1", 2))
	require.Equal(t, 0, quarantined("log[1]", 0))
	require.Equal(t, 1, quarantined("x[a", 1))
	require.Equal(t, 1, quarantined(`x\y*?`, 1))
}

// info names the process and the host in LOCK. It shows other content in quotes, and only its
// beginning.
func TestInfo_Lock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, strings.NewReader(""), io.Discard, io.Discard))
	host, err := os.Hostname()
	require.NoError(t, err)
	none := "bytes      whole\n" // the system does not list its locks
	if eventlog.FindWriter(dir).Known {
		none = "writer     no process has the log open\n"
	}
	for content, want := range map[string]string{
		"":                      none,
		"12\n":                  "writer     process 12 has the log open, or had it open when it was killed\n",
		"12 web-7 boot\n":       "writer     process 12 on host web-7 has the log open, or had it open when it was killed\n",
		"12 " + host + " old\n": "writer     process 12 on host " + host + " had the log open when the machine stopped\n",
		"12 \x1b[31m boot\n":    "writer     process 12 on host _[31m has the log open, or had it open when it was killed\n",
		"\x1b[31m" + strings.Repeat("x", 9999): "writer     LOCK names no process. It begins with " +
			`"\x1b[31m` + strings.Repeat("x", 35) + "\"\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "LOCK"), []byte(content), 0o600))
		var out bytes.Buffer
		require.Zero(t, run(t.Context(), []string{"info", dir}, nil, &out, io.Discard))
		require.Contains(t, out.String(), want)
	}
}

// Characters of several bytes stay whole if the output is longer than the buffer.
func TestOutput_BufferKeepsCharacters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
	require.NoError(t, err)
	const aborts = 60
	for range aborts {
		_, err = s.Abort(checkpoint.NewMigrationID(), strings.Repeat("世", 1500), nil, migrationlog.Confirm())
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	code, out, _ := runTool(t, nil, "log", dir, "-o", "ndjson")
	require.Equal(t, exitClean, code)
	require.Greater(t, len(out), 3*outputBufferBytes)
	require.Equal(t, 1500*aborts, strings.Count(out, "世"))
}
