package migrationlog_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// layer lists the packages that a package must not import, and the alternative. The order is from
// top to bottom: a package may import only packages below it.
type layer struct {
	dir     string
	never   []string
	instead string
}

var layers = []layer{
	{"internal/torture", []string{"github.com/tidwall/wal"}, "rewrite its source: the code under test is built separately"},
	{"internal/prose", []string{"migrationlog"}, "read the files as text: the package does not need the code"},
	{"internal/torture/simulated", []string{"os", "github.com/tidwall/wal"}, "put it into a test with the tag simulated"},
	{"internal/torture/real", nil, "write tests: users do not get this package"},
	{"internal/torture/coordinator", nil, "write tests: users do not get this package"},
	{"internal/oracle", []string{"migrationlog"}, "write it again: the oracle cannot find a mistake in code that it shares"},
	{"storetest", []string{"github.com/tidwall/wal"}, "act on the Store as an embedder does; package internal/fault has the hook"},
	{"internal/torture/simos", nil, "the caller passes what it needs: a disk does not know the format of its files"},
	{"cmd/replay-tool", []string{"github.com/tidwall/wal"}, "ask package replay to read and the Store to write"},
	{".", []string{"github.com/spf13", "github.com/tidwall/wal", "golang.org/x/term"}, "leave files to eventlog, and terminals to cmd/replay-tool"},
	{"internal/torn", []string{"os", "github.com/tidwall/wal"}, "read through fs.FS: a tear is made in memory"},
	{"internal/rebuild", []string{"os", "github.com/tidwall/wal"}, "read through fs.FS and eventlog/segment; code that writes belongs in eventlog"},
	{"internal/groupcommit", []string{"migrationlog", "os", "io", "github.com/tidwall/wal"}, "pass it in as the commit function: a queue does not know what it batches"},
	{"replay/timeline", []string{"os", "io/fs", "path/filepath", "github.com/tidwall/wal"}, "take records as parameters and write to an io.Writer: the caller has the files"},
	{"replay/export", []string{"os", "io/fs", "time", "path/filepath", "github.com/tidwall/wal"}, "take records as parameters and write to an io.Writer: the caller has the files"},
	{"replay/diff", []string{"os", "io", "io/fs", "time", "path/filepath", "github.com/tidwall/wal"}, "take records as parameters: the caller reads the history"},
	{"replay/stats", []string{"os", "io", "io/fs", "time", "path/filepath", "github.com/tidwall/wal"}, "take records as parameters: the caller reads the history"},
	{"replay/triage", []string{"os", "io", "io/fs", "time", "path/filepath", "github.com/tidwall/wal"}, "take records, rows and times as parameters: the caller reads the log"},
	{"replay/lint", []string{"os", "io", "io/fs", "path/filepath", "github.com/tidwall/wal"}, "take records as parameters: the caller reads the history, and has the clock"},
	{"replay/redact", []string{"migrationlog/replay", "os", "io", "io/fs", "path/filepath", "github.com/tidwall/wal"}, "take events as parameters: the caller reads and writes the history"},
	{"replay/story", []string{"os", "io", "io/fs", "time", "path/filepath", "github.com/tidwall/wal"}, "take records as parameters: the caller reads the history"},
	{"replay", []string{"github.com/tidwall/wal"}, "read through eventlog/segment; code that writes belongs in eventlog"},
	{"internal/summary", []string{"os", "github.com/tidwall/wal"}, "read through fs.FS and eventlog/segment; code that writes belongs in eventlog"},
	{"internal/intact", []string{"os", "github.com/tidwall/wal"}, "read through fs.FS and eventlog/segment; a log that is not intact belongs to replay"},
	{"replay/histogram", []string{"migrationlog", "os", "io"}, "pass durations: a histogram does not know what was measured"},
	{"recovery/whatif", []string{"os", "io", "io/fs", "time", "path/filepath", "github.com/tidwall/wal"}, "take rows and times as parameters: the caller reads the history"},
	{"recovery/crashpoints", []string{"os", "io", "io/fs", "time", "path/filepath", "github.com/tidwall/wal"}, "take events and views as parameters: the caller reads the history"},
	{"recovery/model", []string{"os", "io", "io/fs", "time", "path/filepath", "math/rand", "github.com/tidwall/wal"}, "take values as parameters: a model has no files, no clock and no chance"},
	{"recovery", []string{"os", "io", "io/fs", "path/filepath", "github.com/tidwall/wal"}, "take values as parameters: the caller has the files, the clock and the cluster"},
	{"projection", []string{"os", "io", "io/fs", "time", "path/filepath", "github.com/tidwall/wal"}, "take values as parameters: the caller has the files and the clock"},
	{"eventlog", nil, "take bodies as bytes: only the Store and replay decode them"},
	{"eventlog/segment", []string{"os", "github.com/tidwall/wal"}, "read through fs.FS; code that writes belongs in eventlog"},
	{"checkpoint", []string{"os", "io", "io/fs", "time", "path/filepath", "github.com/tidwall/wal"}, "take times and bytes as values"},
	{"internal/fault", []string{"migrationlog", "os", "io"}, "pass it in as the hook: this package only stores it"},
	{"internal/detcbor", []string{"os", "io", "github.com/fxamacker/cbor"}, "encode only deterministic CBOR here; use fxamacker/cbor in other packages for the rest"},
}

// notBelow lists packages that a package must not import although they are below it.
var notBelow = map[string][]string{
	"internal/rebuild":     {"eventlog"},
	"internal/summary":     {"eventlog"},
	"internal/intact":      {"eventlog"},
	"replay":               {"eventlog"},
	"replay/timeline":      {"eventlog", "eventlog/segment", "replay/lint"},
	"replay/export":        {"eventlog", "eventlog/segment"},
	"replay/diff":          {"eventlog", "eventlog/segment"},
	"replay/stats":         {"eventlog", "eventlog/segment"},
	"replay/triage":        {"eventlog", "eventlog/segment"},
	"replay/lint":          {"eventlog", "eventlog/segment", "projection"},
	"replay/story":         {"eventlog", "eventlog/segment"},
	"recovery/whatif":      {"eventlog", "eventlog/segment"},
	"recovery/crashpoints": {"eventlog", "eventlog/segment"},
	"recovery/model":       {"eventlog", "eventlog/segment"},
	"recovery":             {"eventlog", "eventlog/segment"},
	"projection":           {"eventlog", "eventlog/segment"},
	"eventlog":             {"checkpoint"},
	"eventlog/segment":     {"checkpoint"},
}

// onlyFor lists packages that only certain packages may import.
var onlyFor = map[string][]string{
	"internal/fault": {"eventlog", "storetest"},
	"storetest":      {},
}

// The imports of the code follow the table of layers.
func TestLayers(t *testing.T) {
	order := make([]string, len(layers))
	for i, l := range layers {
		order[i] = l.dir
	}
	found := map[string]bool{}
	walUsers := []string{}
	require.NoError(t, filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && file != "." {
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil || strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir // another module, or not of the project
			}
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		dir := path.Dir(filepath.ToSlash(file))
		at := slices.Index(order, dir)
		require.GreaterOrEqual(t, at, 0, "%s: package %s is in no layer: add it to the table layers, and describe in its doc.go which knowledge it has", file, dir)
		found[dir] = true
		for _, imported := range importsOf(t, file) {
			if imported == "github.com/tidwall/wal" {
				walUsers = append(walUsers, file)
			}
			for _, never := range layers[at].never {
				require.False(t, imported == never || strings.HasPrefix(imported, never+"/"), "%s imports %s: %s", file, imported, layers[at].instead)
			}
			if own, ok := ownPackage(imported); ok {
				require.Greater(t, slices.Index(order, own), at, "%s imports %s, which does not stand below it: %s", file, imported, layers[at].instead)
				require.NotContains(t, notBelow[dir], own, "%s imports %s: %s", file, imported, layers[at].instead)
				if importers, limited := onlyFor[own]; limited {
					require.Contains(t, importers, dir, "%s imports %s, which is for tests", file, imported)
				}
			}
		}
		return nil
	}))
	require.Len(t, found, len(layers), "a layer has no package: remove it from the table layers")
	require.Equal(t, []string{"eventlog/wal.go"}, walUsers, "only one file may use tidwall/wal")
}

func ownPackage(imported string) (dir string, ok bool) {
	if imported == "migrationlog" {
		return ".", true
	}
	return strings.CutPrefix(imported, "migrationlog/")
}

func importsOf(t *testing.T, file string) (paths []string) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	require.NoError(t, err)
	for _, spec := range parsed.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		paths = append(paths, p)
	}
	return paths
}

// Package replay imports os to open a directory, and calls no function of it that could write.
func TestLayers_ReplayCannotWrite(t *testing.T) {
	files, err := filepath.Glob("replay/*.go")
	require.NoError(t, err)
	used := map[string]bool{}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			selected(t, file, "os", used)
		}
	}
	require.Equal(t, map[string]bool{"Stat": true, "DirFS": true}, used, "replay reads through fs.FS; code that writes belongs in eventlog")
}

// Package recovery imports time for a duration, and has no clock.
func TestLayers_RecoveryHasNoClock(t *testing.T) {
	files, err := filepath.Glob("recovery/*.go")
	require.NoError(t, err)
	used := map[string]bool{}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			selected(t, file, "time", used)
		}
	}
	require.Equal(t, map[string]bool{"Duration": true, "Hour": true}, used, "take the time as a parameter: a plan depends only on its arguments")
}

// The files that decide about the entries of a Replica have no clock. Otherwise the members of a group
// could get different states from the same entries.
func TestLayers_EntriesHaveNoClock(t *testing.T) {
	for _, file := range []string{"commit.go", "digest.go", "entry.go", "guard.go", "member.go", "position.go", "state.go"} {
		require.NotContains(t, importsOf(t, file), "time", "%s: take the time from the entry", file)
		used := map[string]bool{}
		selected(t, file, "opts", used)
		require.NotContains(t, used, "Now", "%s: take the time from the entry", file)
	}
}

// tidwall/wal is used to open, append and close. It is never used to read, to truncate, or to look
// at files that may be damaged.
func TestLayers_WALIsOnlyAppendedTo(t *testing.T) {
	used := map[string]bool{}
	selected(t, "eventlog/wal.go", "wal", used)
	require.Equal(t, map[string]bool{"Log": true, "Open": true, "Options": true, "Batch": true}, used)
	used = map[string]bool{}
	selected(t, "eventlog/wal.go", "log", used)
	require.Equal(t, map[string]bool{"LastIndex": true, "WriteBatch": true, "Close": true}, used,
		"its Read, TruncateFront and TruncateBack destroy or invent entries on a damaged log")
}

// selected adds the selectors that a file uses on this name: a package, a variable, or a field.
func selected(t *testing.T, file, name string, used map[string]bool) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	require.NoError(t, err)
	ast.Inspect(parsed, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch x := s.X.(type) {
		case *ast.Ident:
			ok = x.Name == name
		case *ast.SelectorExpr:
			ok = x.Sel.Name == name
		default:
			ok = false
		}
		if ok {
			used[s.Sel.Name] = true
		}
		return true
	})
}
