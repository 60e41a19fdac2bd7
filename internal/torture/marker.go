package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// markerPrefix begins a marker: a comment, //mutant:NAME, that gives a statement a name. The marker
// is at the end of the statement's first line, or alone on the line above it. A mutant has the name
// of a marker and a change of the statement, so that a rename in the statement does not break the
// mutant. Several mutants may use one marker.
const markerPrefix = "//mutant:"

var markerLine = regexp.MustCompile(`(?m)` + markerPrefix + `([a-z0-9-]+)$`)

// findMarkers returns the files of each marker in the code under test, relative to the module's
// root. If a file has a marker twice, the file is listed twice.
func findMarkers(root string) (map[string][]string, error) {
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if isHidden := strings.HasPrefix(d.Name(), ".") && name != "."; isHidden || slices.Contains(unmarked, filepath.ToSlash(name)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range markerLine.FindAllSubmatch(text, -1) {
			found[string(m[1])] = append(found[string(m[1])], filepath.ToSlash(name))
		}
		return nil
	})
	return found, err
}

// unmarked has the directories without code under test.
var unmarked = []string{"bench", "internal/torture", "testdata"}

// Marked is a change of the statement with this marker.
type Marked struct {
	Marker string
	change operation
}

func (m Marked) String() string { return markerPrefix + m.Marker }

func (m Marked) file(root string) (string, error) {
	found, err := findMarkers(root)
	if err != nil {
		return "", err
	}
	if files := found[m.Marker]; len(files) != 1 {
		return "", fmt.Errorf("%s: the marker must occur exactly once in the source, but it is in the files %q", m, files)
	}
	return found[m.Marker][0], nil
}

func (m Marked) apply(text []byte) ([]byte, error) {
	s, err := parseStatement(text, m.Marker)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	edits, err := m.change(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	return applyEdits(text, edits), nil
}

// statement is a marked statement in the source of its file.
type statement struct {
	source []byte
	tokens *token.File
	node   ast.Node   // an ast.Stmt or an *ast.ValueSpec
	next   []ast.Stmt // the statements after it in the same block
}

// parseStatement returns the outermost statement that begins on the marked line. It may also be a
// constant or a variable declaration.
func parseStatement(source []byte, marker string) (*statement, error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, "", source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	s := &statement{source: source, tokens: set.File(parsed.Pos())}
	line := s.markedLine(parsed, marker)
	ast.Inspect(parsed, func(n ast.Node) bool {
		if s.node != nil || n == nil {
			return false
		}
		if list := statementsOf(n); list != nil {
			for i, inner := range list {
				if s.tokens.Line(inner.Pos()) == line {
					s.next = list[i+1:]
				}
			}
		}
		switch n.(type) {
		case *ast.BlockStmt:
		case ast.Stmt, *ast.ValueSpec:
			if s.tokens.Line(n.Pos()) == line {
				s.node = n
			}
		}
		return s.node == nil
	})
	if s.node == nil {
		return nil, fmt.Errorf("no statement begins on the marked line %d", line)
	}
	return s, nil
}

// markedLine returns the number of the line with the marker. If the marker is alone on its line, it
// returns the number of the next line. If there is no such marker, it returns 0.
func (s *statement) markedLine(parsed *ast.File, marker string) int {
	for _, group := range parsed.Comments {
		for _, comment := range group.List {
			if comment.Text != markerPrefix+marker {
				continue
			}
			line := s.tokens.Line(comment.Pos())
			before := s.source[s.tokens.Offset(s.tokens.LineStart(line)):s.tokens.Offset(comment.Pos())]
			if strings.TrimSpace(string(before)) == "" {
				line++
			}
			return line
		}
	}
	return 0
}

func statementsOf(n ast.Node) []ast.Stmt {
	switch n := n.(type) {
	case *ast.BlockStmt:
		return n.List
	case *ast.CaseClause:
		return n.Body
	case *ast.CommClause:
		return n.Body
	}
	return nil
}

// text returns the source of a node.
func (s *statement) text(n ast.Node) string {
	return string(s.source[s.tokens.Offset(n.Pos()):s.tokens.Offset(n.End())])
}

// replace returns the edit that replaces a node by a text.
func (s *statement) replace(n ast.Node, text string) edit {
	return edit{s.tokens.Offset(n.Pos()), s.tokens.Offset(n.End()), text}
}

// insertBefore returns the edit that inserts a text before a node.
func (s *statement) insertBefore(n ast.Node, text string) edit {
	return edit{s.tokens.Offset(n.Pos()), s.tokens.Offset(n.Pos()), text}
}

// insertAfter returns the edit that inserts a text after a node.
func (s *statement) insertAfter(n ast.Node, text string) edit {
	return edit{s.tokens.Offset(n.End()), s.tokens.Offset(n.End()), text}
}

// edit replaces the bytes between two offsets by a text.
type edit struct {
	from, to int
	text     string
}

// applyEdits returns the source with the edits made. The edits must not overlap.
func applyEdits(source []byte, edits []edit) []byte {
	slices.SortStableFunc(edits, func(a, b edit) int { return b.from - a.from })
	for _, e := range edits {
		source = slices.Concat(source[:e.from], []byte(e.text), source[e.to:])
	}
	return source
}
