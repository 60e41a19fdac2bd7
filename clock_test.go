package migrationlog_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// moduleImporter type-checks the packages of the module from their source. Other packages are empty,
// so the errors about their names are ignored.
type moduleImporter struct {
	files    *token.FileSet
	checked  map[string]*types.Package
	info     types.Info
	declared map[types.Object]*ast.FuncDecl
}

func (m *moduleImporter) Import(path string) (*types.Package, error) {
	if p := m.checked[path]; p != nil {
		return p, nil
	}
	dir, inModule := strings.CutPrefix(path, "migrationlog")
	if !inModule {
		m.checked[path] = types.NewPackage(path, filepath.Base(path))
		m.checked[path].MarkComplete()
		return m.checked[path], nil
	}
	found, err := build.ImportDir("."+dir, 0)
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, name := range found.GoFiles {
		f, err := parser.ParseFile(m.files, filepath.Join("."+dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	conf := types.Config{Importer: m, Error: func(error) {}}
	p, _ := conf.Check(path, m.files, files, &m.info)
	m.checked[path] = p
	for _, f := range files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				m.declared[m.info.Defs[fn.Name]] = fn
			}
		}
	}
	return p, nil
}

// clockNames has the functions of package time that depend on the present time, and the options with
// a clock.
var clockNames = []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}

// reachableFrom returns the functions of these packages that the roots call or mention, and in each of
// them the names of clocks. A method that is called through an interface counts with every type.
func (m *moduleImporter) reachableFrom(packages []string, roots ...string) (reached map[string]bool, clocks []string) {
	byName := map[string][]types.Object{}
	for o := range m.declared {
		byName[o.Name()] = append(byName[o.Name()], o)
	}
	reached = map[string]bool{}
	var visit func(o types.Object)
	visit = func(o types.Object) {
		fn, ok := m.declared[o]
		if !ok || !slices.Contains(packages, o.Pkg().Path()) {
			return
		}
		name := o.(*types.Func).FullName()
		if reached[name] {
			return
		}
		reached[name] = true
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			used := m.info.Uses[id]
			if used == nil || used.Pkg() != nil && used.Pkg().Path() == "time" {
				// A name of a package that is not checked, such as time.Now.
				if slices.Contains(clockNames, id.Name) {
					clocks = append(clocks, name+": "+id.Name)
				}
				return true
			}
			if v, ok := used.(*types.Var); ok && v.IsField() && v.Name() == "Now" {
				clocks = append(clocks, name+": "+id.Name)
			}
			if f, ok := used.(*types.Func); ok {
				visit(f.Origin())
				if recv := f.Signature().Recv(); recv != nil && types.IsInterface(recv.Type()) {
					for _, implementation := range byName[f.Name()] {
						visit(implementation)
					}
				}
			}
			return true
		})
	}
	for _, root := range roots {
		for _, o := range byName[root] {
			if o.Pkg().Path() == packages[0] {
				visit(o)
			}
		}
	}
	slices.Sort(clocks)
	return reached, slices.Compact(clocks)
}

// Replica.Apply must not depend on a clock, because all members must decide the same. The functions
// with a clock pace the background work of this member, and append no event.
func TestReplica_ApplyCallsNoClock(t *testing.T) {
	m := &moduleImporter{
		files: token.NewFileSet(), checked: map[string]*types.Package{}, declared: map[types.Object]*ast.FuncDecl{},
		info: types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}},
	}
	_, err := m.Import("migrationlog")
	require.NoError(t, err)
	packages := []string{"migrationlog", "migrationlog/projection", "migrationlog/checkpoint"}
	// The queue calls commitBatch, and the batch of a view calls changeRow.
	reached, clocks := m.reachableFrom(packages, "Apply", "commitBatch", "changeRow")
	for _, name := range []string{
		"(*migrationlog.Replica).Apply", "(*migrationlog.Store).checkEntry", "(*migrationlog.write).checkOrder", "(*migrationlog.Store).appendDigest",
		"(*migrationlog/projection.Batch).fold", "(migrationlog/projection.Slot).AppendRestored", "(*migrationlog/projection.facts).recordAbort",
		"migrationlog/checkpoint.AppendPosition", "(migrationlog/checkpoint.EpochRaised).WallMS", "(migrationlog/checkpoint.Cutover).Shard",
	} {
		require.True(t, reached[name], "Apply calls %s", name)
	}
	require.Equal(t, []string{
		"(*migrationlog.Store).pauseSummaries: After",
		"(*migrationlog.Store).snapshotWhenDue: Now",
		"(*migrationlog.Store).snapshotWhenDue: Since",
		"(*migrationlog.Store).summarizeBefore: Now",
		"(*migrationlog.Store).summarizeBefore: Since",
	}, clocks, "these functions are reached from Apply and have a clock")
}
