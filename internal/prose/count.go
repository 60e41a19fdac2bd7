package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// comment is the text of one comment group, without its markers, and the position of its start.
type comment struct {
	file string
	line int
	text string
}

// skippedDirs have no Go code of this repository.
var skippedDirs = []string{"testdata", ".git"}

var directive = regexp.MustCompile(`^//(go:|mutant:|nolint|line |export )`)

// comments returns the comments of the Go files under dir, in the order of their files. Directives
// and test files are left out unless tests is true for the latter.
func comments(dir string, tests bool) (all []comment, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(skippedDirs, d.Name()):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") && !tests:
			return nil
		}
		found, err := commentsOf(path)
		all = append(all, found...)
		return err
	})
	return all, err
}

func commentsOf(path string) (all []comment, err error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	for _, group := range parsed.Comments {
		var text []string
		for _, c := range group.List {
			if directive.MatchString(c.Text) {
				continue
			}
			text = append(text, strings.Trim(strings.TrimPrefix(c.Text, "//"), "/* \t\n"))
		}
		all = append(all, comment{path, files.Position(group.Pos()).Line, strings.Join(text, " ")})
	}
	return all, nil
}

// tally is the number of all words and of each group of counted words.
type tally struct {
	total  int
	counts []int // in the order of words
}

var wordPattern = regexp.MustCompile(`[A-Za-z][A-Za-z'-]*`)

func (t *tally) add(text string) {
	if t.counts == nil {
		t.counts = make([]int, len(words))
	}
	for _, found := range wordPattern.FindAllString(strings.ToLower(text), -1) {
		t.total++
		for i, w := range words {
			if slices.Contains(w.forms, found) {
				t.counts[i]++
			}
		}
	}
}

// per1000 returns the occurrences of a group of words per 1,000 words.
func (t *tally) per1000(i int) float64 {
	if t.total == 0 {
		return 0
	}
	return 1000 * float64(t.counts[i]) / float64(t.total)
}
