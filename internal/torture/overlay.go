package main

import (
	"encoding/json"
	"fmt"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	simosPath  = "migrationlog/internal/torture/simos"
	simwalPath = "migrationlog/internal/torture/simwal" // exists in the overlay only
	walPath    = "github.com/tidwall/wal"
)

// onDisk has the packages of this module that use package os for the files of the log.
var onDisk = []string{"eventlog", "replay"}

// pastDisk has the imports with which code could reach the real disk without package simos.
var pastDisk = []string{"syscall", "io/ioutil", "golang.org/x/sys/unix"}

// asBuilt selects the source files of a simulated build. It has the tag portable because the
// simulated disk has no fdatasync.
var asBuilt = func() build.Context {
	c := build.Default
	c.BuildTags = []string{"simulated", "portable"}
	return c
}()

// Change is a change of one file of the code under test. It is a [Patch] or a [Marked].
type Change interface {
	file(root string) (string, error) // relative to the module's root
	apply(text []byte) ([]byte, error)
}

// Patch replaces a text in a file of the code under test. Old must be in the file exactly once.
type Patch struct {
	File string `json:"file"` // relative to the module's root
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Overlay is a set of rewritten source files for a build.
type Overlay struct {
	root    string            // the module's directory
	dir     string            // the directory of the rewritten files
	Replace map[string]string // path to replacement, as in the JSON of go -overlay
}

func (p Patch) String() string                   { return p.File }
func (p Patch) file(root string) (string, error) { return p.File, nil }

func (p Patch) apply(text []byte) ([]byte, error) {
	if n := strings.Count(string(text), p.Old); n != 1 || p.Old == p.New {
		return nil, fmt.Errorf("patch of %s: the file has the old text %d times; it must have it once, and the new text must differ: %q", p.File, n, p.Old)
	}
	return []byte(strings.Replace(string(text), p.Old, p.New, 1)), nil
}

// NewOverlay writes copies of the sources into dir. They import package simos instead of package
// os, and have the changes. It returns an error if a file is not as expected, because code that is
// not rewritten would use the real disk.
func NewOverlay(dir string, changes []Change) (*Overlay, error) {
	o, err := NewPatched(dir, nil)
	if err != nil {
		return nil, err
	}
	for _, add := range []func() error{o.addDisk, o.addWAL} {
		if err := add(); err != nil {
			return nil, err
		}
	}
	return o, o.changeAll(append([]Change{smallChunks}, changes...))
}

// smallChunks makes the log preallocate a segment in several writes even though the simulated tests
// use small segments.
var smallChunks = Marked{"write-chunk", setValue("1000")}

// NewPatched writes copies of the sources with the changes into dir, for a build that uses the real
// disk.
func NewPatched(dir string, changes []Change) (*Overlay, error) {
	root, err := moduleDir("migrationlog")
	if err != nil {
		return nil, err
	}
	o := &Overlay{root: root, dir: dir, Replace: map[string]string{}}
	return o, o.changeAll(changes)
}

func (o *Overlay) changeAll(changes []Change) error {
	for _, c := range changes {
		if err := o.change(c); err != nil {
			return err
		}
	}
	return nil
}

// File writes the JSON file for go's -overlay flag and returns its path.
func (o *Overlay) File() (string, error) {
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(o.dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}

func moduleDir(path string) (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		return "", fmt.Errorf("go list -m %s: %w", path, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// addDisk rewrites the files of this module that use the disk.
func (o *Overlay) addDisk() error {
	for _, dir := range onDisk {
		files, err := filepath.Glob(filepath.Join(o.root, dir, "*.go"))
		if err != nil {
			return err
		}
		found := map[string]bool{}
		for _, file := range files {
			if built, err := asBuilt.MatchFile(filepath.Split(file)); err != nil || !built || strings.HasSuffix(file, "_test.go") {
				if err != nil {
					return err
				}
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			imports, err := importsOf(file, text)
			if err != nil {
				return err
			}
			for _, i := range imports {
				found[i.path] = true
				if slices.Contains(pastDisk, i.path) {
					return fmt.Errorf("%s imports %s, which reaches the disk without package simos", file, i.path)
				}
			}
			if err := o.put(file, file, text, replaceImports(text, imports, map[string]string{"os": simosPath, walPath: simwalPath})); err != nil {
				return err
			}
		}
		if !found["os"] || dir == "eventlog" && !found[walPath] {
			return fmt.Errorf("no file of %s imports os, or none imports tidwall/wal: did the code that uses the disk move? Then update onDisk", dir)
		}
	}
	return nil
}

// addWAL adds a rewritten copy of tidwall/wal as a package of this module. An overlay cannot
// replace the original files, because go build does not allow this in the module cache.
func (o *Overlay) addWAL() error {
	from, err := moduleDir(walPath)
	if err != nil {
		return err
	}
	file := filepath.Join(from, "wal.go")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	imports, err := importsOf(file, text)
	if err != nil {
		return err
	}
	for _, want := range []string{"os", "io/ioutil"} {
		if !slices.ContainsFunc(imports, func(i imported) bool { return i.path == want }) {
			return fmt.Errorf("%s does not import %s: is it another version of tidwall/wal?", file, want)
		}
	}
	to := filepath.Join(o.root, "internal", "torture", "simwal", "wal.go")
	return o.put(to, file, text, replaceImports(text, imports, map[string]string{"os": simosPath, "io/ioutil": simosPath}))
}

// put makes the build use the text after instead of the file at path. If the text is unchanged and
// from is the same path, it does nothing.
func (o *Overlay) put(path, from string, before, after []byte) error {
	if path == from && string(before) == string(after) {
		return nil
	}
	to := filepath.Join(o.dir, fmt.Sprintf("%d-%s", len(o.Replace), filepath.Base(path)))
	o.Replace[path] = to
	return os.WriteFile(to, after, 0o600)
}

// change makes a change in a file of the build. The file may already be a rewritten one.
func (o *Overlay) change(c Change) error {
	file, err := c.file(o.root)
	if err != nil {
		return err
	}
	path := filepath.Join(o.root, filepath.FromSlash(file))
	from := path
	if rewritten, ok := o.Replace[path]; ok {
		from = rewritten
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	changed, err := c.apply(text)
	if err != nil {
		return err
	}
	if from == path {
		return o.put(path, path, text, changed)
	}
	return os.WriteFile(from, changed, 0o600)
}

// imported is an import and its position in the text.
type imported struct {
	name, path string
	from, to   int
}

func importsOf(file string, text []byte) ([]imported, error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, text, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var found []imported
	for _, spec := range parsed.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		i := imported{path: path, from: set.Position(spec.Pos()).Offset, to: set.Position(spec.Path.End()).Offset}
		if spec.Name != nil {
			i.name = spec.Name.Name
		}
		found = append(found, i)
	}
	return found, nil
}

// replaceImports replaces the imports that have an entry in by. The file's names for them stay the
// same.
func replaceImports(text []byte, imports []imported, by map[string]string) []byte {
	for _, i := range slices.Backward(imports) {
		path, ok := by[i.path]
		if !ok {
			continue
		}
		name := i.name
		if name == "" {
			name = filepath.Base(i.path)
		}
		text = slices.Concat(text[:i.from], []byte(name+" "+strconv.Quote(path)), text[i.to:])
	}
	return text
}
