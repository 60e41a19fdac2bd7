package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each marker is in the source once and is used by a mutant. Each mutant has a marker.
func TestMutants_HaveOneMarkerEach(t *testing.T) {
	root, err := moduleDir("migrationlog")
	require.NoError(t, err)
	found, err := findMarkers(root)
	require.NoError(t, err)
	used := map[string]bool{smallChunks.Marker: true}
	for _, m := range mutants {
		if marked, ok := m.change.(Marked); ok {
			used[marked.Marker] = true
		}
	}
	for marker, files := range found {
		require.Len(t, files, 1, "%s%s is in %q: give each marker a name of its own", markerPrefix, marker, files)
		require.True(t, used[marker], "no mutant changes %s%s in %s: add one to mutants.go, or remove the marker", markerPrefix, marker, files)
	}
	for marker := range used {
		require.NotEmpty(t, found[marker], "a mutant's marker, %s%s, is not in the source: put it back at the statement of the defence", markerPrefix, marker)
	}
}

// Each mutated file compiles. This test does not run the mutants' tests, which take minutes.
func TestMutants_Compile(t *testing.T) {
	root, err := moduleDir("migrationlog")
	require.NoError(t, err)
	c := newChecker(t, root)
	for _, m := range append(mutants, mutant{"smaller writes of zeros", smallChunks, "", ""}) {
		file, err := m.change.file(root)
		require.NoError(t, err, m.defence)
		before, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err, m.defence)
		after, err := m.change.apply(before)
		require.NoError(t, err, m.defence)
		require.NotEqual(t, string(before), string(after), m.defence)
		require.NoError(t, c.check(filepath.Join(root, file), after), "%s: %s", m.defence, after)
	}
}

// checker type-checks packages of the module with one file changed. Imports are read from the
// build cache.
type checker struct {
	exports  map[string]string // by import path
	set      *token.FileSet
	importer types.Importer
}

func newChecker(t *testing.T, root string) *checker {
	list := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Export", "./...")
	list.Dir = root
	out, err := list.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, list.Start())
	c := &checker{exports: map[string]string{}, set: token.NewFileSet()}
	for decoder := json.NewDecoder(out); ; {
		var p struct{ ImportPath, Export string }
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		c.exports[p.ImportPath] = p.Export
	}
	require.NoError(t, list.Wait())
	c.importer = importer.ForCompiler(c.set, "gc", func(path string) (io.ReadCloser, error) {
		if c.exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(c.exports[path])
	})
	return c
}

func (c *checker) check(changed string, text []byte) error {
	pkg, err := build.ImportDir(filepath.Dir(changed), 0)
	if err != nil {
		return err
	}
	var files []*ast.File
	for _, name := range pkg.GoFiles {
		path, source := filepath.Join(pkg.Dir, name), any(nil)
		if path == changed {
			source = text
		}
		parsed, err := parser.ParseFile(c.set, path, source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, parsed)
	}
	_, err = (&types.Config{Importer: c.importer, GoVersion: "go1.26"}).Check(pkg.Name, c.set, files, nil)
	return err
}

const statements = `package p

func f(list []int) (err error) {
	if err := g(1, h(2)); err != nil || a && !b { //mutant:if
		return err
	}
	//mutant:above
	err = g(3, 4)
	for _, n := range list { //mutant:loop
		_ = n
	}
	return t.join(x, y) //mutant:return
}

const size = 8 //mutant:constant
`

// Each operation changes only the marked statement.
func TestOperations(t *testing.T) {
	for _, c := range []struct {
		marker string
		change operation
		want   string
	}{
		{"if", condition(false), "if err := g(1, h(2)); (false && (err != nil || a && !b)) { //mutant:if"},
		{"if", terms(true, 2), "if err := g(1, h(2)); err != nil || a && (true || (!b)) { //mutant:if"},
		{"if", call(1, "$0(-$1)"), "if err := g(1, h(-2)); err != nil || a && !b { //mutant:if"},
		{"if", addElse("panic(1)"), "\t\treturn err\n\t} else { panic(1) }\n"},
		{"if", remove, "if false { if err := g(1, h(2)); err != nil || a && !b { //mutant:if\n\t\treturn err\n\t} }\n"},
		{"if", swapCalls, "if err := g(3, 4); err != nil || a && !b { //mutant:if\n\t\treturn err\n\t}\n\t//mutant:above\n\terr = g(1, h(2))\n"},
		{"above", moveDown(1), "\t\t_ = n\n\t}\nerr = g(3, 4)\n"},
		{"above", setValue("nil"), "//mutant:above\n\terr = nil\n"},
		{"above", resetOnReturn, "err = g(3, 4); defer func() { err = nil }()\n"},
		{"above", before("x($2)"), "x(4); err = g(3, 4)\n"},
		{"loop", truncateList(1), "range (list)[:min(1, len(list))] {"},
		{"return", call(0, "$X.only($2)"), "return t.only(y) //mutant:return"},
		{"constant", setValue("1"), "const size = 1 //mutant:constant"},
	} {
		changed, err := Marked{c.marker, c.change}.apply([]byte(statements))
		require.NoError(t, err)
		require.Contains(t, string(changed), c.want)
	}
}

// An operation returns an error if it does not fit its statement. Otherwise a mutant that changes
// nothing could count.
func TestOperations_ThatDoNotFit(t *testing.T) {
	for _, c := range []struct {
		marker string
		change operation
	}{
		{"elsewhere", remove}, {"above", condition(true)}, {"if", terms(false, 3)}, {"if", call(2, "$0")}, {"if", call(0, "$3")},
		{"above", addElse("panic(1)")}, {"return", moveDown(1)}, {"return", swapCalls}, {"if", truncateList(0)}, {"if", setValue("1")}, {"loop", resetOnReturn}, {"loop", before("x()")},
	} {
		_, err := Marked{c.marker, c.change}.apply([]byte(statements))
		require.Error(t, err, c.marker)
	}
}

// The sample of mutants for a commit depends only on its hash.
func TestMutants_SampleByCommit(t *testing.T) {
	require.Equal(t, defences(sample(mutants, "a")), defences(sample(mutants, "a")))
	require.NotEqual(t, defences(sample(mutants, "a")), defences(sample(mutants, "b")))
	require.ElementsMatch(t, defences(mutants), defences(sample(mutants, "a")))
}

func defences(all []mutant) (names []string) {
	for _, m := range all {
		names = append(names, m.defence)
	}
	return names
}

// A mutant counts as changed if its source file or a file of its tests has changed.
func TestMutants_Files(t *testing.T) {
	root, err := moduleDir("migrationlog")
	require.NoError(t, err)
	m := mutant{"", Marked{"append-synced", remove}, "", "TestD1_PowerCut"}
	files, err := m.files(root)
	require.NoError(t, err)
	require.Equal(t, []string{"eventlog/log.go", "internal/torture/simulated/powercut_test.go"}, files)
	for _, m := range mutants {
		files, err := m.files(root)
		require.NoError(t, err)
		require.Greater(t, len(files), 1, "no test is named %s in %s, which must fail without: %s", m.run, m.testPackage(), m.defence)
	}
}
