package migrationlog_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// fenced returns the text blocks of a language in a Markdown file.
func fenced(t *testing.T, file, language string) []string {
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// The first command of the README works on a machine that has only Go. (The second command runs
// this test.)
func TestReadme_Commands(t *testing.T) {
	blocks := fenced(t, "README.md", "sh")
	require.Len(t, blocks, 1)
	require.Equal(t, "go run ./cmd/replay-tool demo\ngo test ./...\n", blocks[0])
	command := strings.Fields(strings.SplitN(blocks[0], "\n", 2)[0])
	demo := exec.Command(command[0], command[1:]...)
	demo.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := demo.CombinedOutput()
	require.NoError(t, err, string(out))
	for _, want := range []string{"was killed (SIGKILL)", "2 migrations in flight", "vshard 21: was at CatchUp", ", and removed", "What to try next"} {
		require.Contains(t, string(out), want)
	}
	// The commands that it suggests work as printed.
	tries := regexp.MustCompile(`(?m)^  go run (.*)$`).FindAllStringSubmatch(string(out), -1)
	require.Len(t, tries, 4)
	for _, try := range tries {
		line := "go run " + try[1]
		again, err := exec.Command("sh", "-c", line).CombinedOutput()
		require.NoError(t, err, "%s: %s", line, again)
		require.NotEmpty(t, again)
	}
}

// The program in the README is the body of Example.
func TestReadme_ProgramIsTheExample(t *testing.T) {
	blocks := fenced(t, "README.md", "go")
	require.Len(t, blocks, 1)
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, "example_test.go", source, 0)
	require.NoError(t, err)
	example := parsed.Scope.Lookup("Example").Decl.(*ast.FuncDecl)
	body := string(source[files.Position(example.Body.Lbrace).Offset+2 : files.Position(example.Body.Rbrace).Offset])
	body, _, _ = strings.Cut(body, "\t// Output:")
	body = regexp.MustCompile(`(?m)^\t`).ReplaceAllString(body, "")
	require.Equal(t, body, blocks[0])
}

// The functions in docs/EMBEDDING.md are those of the tested examples.
func TestEmbedding_CodeIsOfTheExamples(t *testing.T) {
	blocks := fenced(t, "docs/EMBEDDING.md", "go")
	require.NotEmpty(t, blocks)
	var source string
	for _, file := range []string{"example_embedding_test.go", "example_recover_test.go", "example_replica_test.go", "storetest/coordinator_test.go"} {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		source += string(b)
	}
	for _, block := range blocks {
		require.True(t, strings.Contains(source, "\n"+block), "the examples do not have this code:\n%s", block)
	}
}

// The hex dump in docs/FORMAT.md is an entry of the golden log, and its notes match the values that
// the code reads.
func TestFormat_HexDump(t *testing.T) {
	blocks := fenced(t, "docs/FORMAT.md", "hexdump")
	require.Len(t, blocks, 2)
	dump, notes := parseDump(t, blocks[0])
	golden, err := os.ReadFile("testdata/golden/v1/clean/log/wal/" + firstSegment)
	require.NoError(t, err)
	require.Equal(t, golden[114:114+len(dump)], dump)

	reader, err := replay.Open("testdata/golden/v1/clean/log")
	require.NoError(t, err)
	var second replay.Record
	for r, err := range reader.Records(t.Context(), replay.Query{FromSeq: 2, ToSeq: 2}) {
		require.NoError(t, err)
		second = r
	}
	c := second.Event.(checkpoint.Upserted).Checkpoint
	hex32 := func(b []byte) string {
		return strconv.FormatUint(uint64(binary.LittleEndian.Uint32(b)), 16)
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	for note, want := range map[string]string{
		"length prefix":                         number(uint64(second.Length)),
		"magic, version":                        number(segment.FormatVersion),
		"body length":                           number(uint64(second.Length - segment.HeaderBytes)),
		"seq":                                   number(second.Seq),
		"previous seq":                          number(second.PrevSeq),
		"durable through":                       number(second.DurableThrough),
		"body CRC32C":                           hex32(dump[0x21:]),
		"header CRC32C":                         hex32(dump[0x25:]),
		"migration id":                          c.MigrationID.String(),
		"timestamp " + number(c.TimestampMS):    "ms",
		"attempt":                               number(uint64(c.Attempt)),
		"phase":                                 c.Phase().String(),
		"payload: vShard 22, learner log index": "23",
		"payload CRC32C":                        strconv.FormatUint(uint64(c.CRC32C), 16),
	} {
		require.Equal(t, want, notes[note], note)
	}
	require.Equal(t, checkpoint.CatchUp{VShardID: 22, LearnerLogIndexAtAdd: 23}, c.Payload)
	require.EqualValues(t, 115, second.Offset, "the offset after the length prefix")
}

// The second hex dump in docs/FORMAT.md is a restored event of a golden log, with the values of that
// event.
func TestFormat_HexDumpOfARestoredEvent(t *testing.T) {
	dump, notes := parseDump(t, fenced(t, "docs/FORMAT.md", "hexdump")[1])
	dir := "testdata/golden/v1-replicated/restored/log"
	golden, err := os.ReadFile(filepath.Join(dir, "wal", firstSegment))
	require.NoError(t, err)
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	var second replay.Record
	for r, err := range reader.Records(t.Context(), replay.Query{FromSeq: 2, ToSeq: 2}) {
		require.NoError(t, err)
		second = r
	}
	require.Equal(t, golden[second.Offset+segment.HeaderBytes:][:second.Length-segment.HeaderBytes], dump)
	e := second.Event.(checkpoint.Restored)
	f := e.Facts
	for note, want := range map[string]string{
		"migration id": e.Checkpoint.MigrationID.String(),
		"timestamp " + strconv.FormatUint(e.Checkpoint.TimestampMS, 10): "ms",
		"phase":          e.Checkpoint.Phase().String(),
		"index":          strconv.FormatUint(second.RaftIndex, 10),
		"source node":    strconv.FormatUint(f.SourceNode, 10),
		"target node":    strconv.FormatUint(f.TargetNode, 10),
		"source group":   strconv.FormatUint(f.SourceGroup, 10),
		"started at, ns": strconv.FormatUint(f.StartedAtHLC.WallNS, 10),
	} {
		require.Equal(t, want, notes[note], note)
	}
}

// parseDump returns the bytes of a hex dump, and its notes: the last word of each by the words before
// it.
func parseDump(t *testing.T, block string) (dump []byte, notes map[string]string) {
	notes = map[string]string{}
	for line := range strings.Lines(block) {
		m := regexp.MustCompile(`^([0-9a-f]{4})  ((?:[0-9a-f]{2} )+) +(.*)\n$`).FindStringSubmatch(line)
		require.NotNil(t, m, line)
		offset, err := strconv.ParseUint(m[1], 16, 32)
		require.NoError(t, err)
		require.EqualValues(t, len(dump), offset, line)
		b, err := hex.DecodeString(strings.ReplaceAll(m[2], " ", ""))
		require.NoError(t, err)
		dump = append(dump, b...)
		i := strings.LastIndexAny(m[3], " ")
		notes[strings.TrimSuffix(m[3][:i], ":")] = m[3][i+1:]
	}
	return dump, notes
}

// Logs of format version 1 read as on the day when they were written: the same events, damage, and
// rows. The keys severity, after_ms and before_ms of damage and the name of a missing segment are
// newer than these files, so the comparison leaves them out.
func TestGoldenLogs(t *testing.T) {
	newer := regexp.MustCompile(`,"(severity|after_ms|before_ms)":("[^"]*"|\d+)|: segment \d+ is missing[^"]*`)
	for _, name := range []string{"clean", "torn", "bitflip", "gap", "cut", "skipped"} {
		dir := filepath.Join("testdata/golden/v1", name)
		read := func(file string) string {
			b, err := os.ReadFile(filepath.Join(dir, file))
			require.NoError(t, err)
			return string(b)
		}
		before := hashes(t, dir)
		requireLines(t, read("log.ndjson"), newer.ReplaceAllString(ndjson(t, filepath.Join(dir, "log")), ""), name)
		report, err := verify(t, filepath.Join(dir, "log")).MarshalJSON()
		require.NoError(t, err)
		var want, got map[string]any
		require.NoError(t, json.Unmarshal([]byte(read("verify.json")), &want))
		require.NoError(t, json.Unmarshal(newer.ReplaceAll(report, nil), &got))
		for key, value := range want { // a later version may add keys
			require.Equal(t, value, got[key], "%s: %s", name, key)
		}
		require.Equal(t, before, hashes(t, dir))

		// The store serves the same rows and leaves a log that it can continue.
		copied := copyDir(t, filepath.Join(dir, "log"))
		s := open(t, copied, nil)
		require.JSONEq(t, read("state.json"), stateJSON(t, s), name)
		receipt := upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
		next := map[string]uint64{"torn": 41, "cut": 21, "skipped": 17}[name]
		if next == 0 {
			next = 42
		}
		require.Equal(t, next, receipt.Seq, name)
		require.NoError(t, s.Close())
		require.Equal(t, s.Report().Lost, verify(t, copied).Lost)
	}
}

// requireLines compares lines of NDJSON. The new lines may have more keys, because a later version may
// add keys.
func requireLines(t *testing.T, want, got, name string) {
	parse := func(text string) (lines []map[string]any) {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		for d.More() {
			var line map[string]any
			require.NoError(t, d.Decode(&line))
			lines = append(lines, line)
		}
		return lines
	}
	wanted, found := parse(want), parse(got)
	require.Len(t, found, len(wanted), name)
	for i, line := range wanted {
		for key, value := range line {
			require.Equal(t, value, found[i][key], "%s: line %d: %s", name, i+1, key)
		}
	}
}

func ndjson(t *testing.T, dir string) string {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	var lines strings.Builder
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		line, err := r.MarshalJSON()
		require.NoError(t, err)
		io.WriteString(&lines, string(line)+"\n")
	}
	return lines.String()
}

// docs/DURABILITY.md names every test of a promise, and only tests that exist.
func TestDurability_NamesItsTests(t *testing.T) {
	exists := map[string]bool{}
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`).FindAllSubmatch(b, -1) {
			exists[string(m[1])] = true
		}
		return err
	}))
	text, err := os.ReadFile("docs/DURABILITY.md")
	require.NoError(t, err)
	require.NotRegexp(t, `@[A-Z]+@`, string(text), "a figure is missing")
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)\\w+)`").FindAllSubmatch(text, -1) {
		named[string(m[1])] = true
	}
	for name := range named {
		require.True(t, exists[name], "docs/DURABILITY.md names %s, which is no test", name)
	}
	ofPromise := regexp.MustCompile(`^TestD\d+_`)
	for name := range exists {
		require.True(t, named[name] || !ofPromise.MatchString(name), "docs/DURABILITY.md does not name %s", name)
	}
	for n := 1; n <= 12; n++ {
		require.Regexp(t, fmt.Sprintf("(?m)^\\| D%d \\| .+ \\| `Test", n), string(text))
	}
}
