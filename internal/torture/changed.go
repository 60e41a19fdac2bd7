package main

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// changedMutants returns the mutants whose source file or test files differ from those of the base,
// which is a commit. If git cannot compare them, for example in a shallow clone, it returns all
// mutants.
func changedMutants(all []mutant, base string) ([]mutant, error) {
	root, err := moduleDir("migrationlog")
	if err != nil {
		return nil, err
	}
	changed, err := changedFiles(root, base)
	if err != nil {
		fmt.Printf("The changes since %s are unknown, so every mutant counts as changed: %v\n", base, err)
		return all, nil
	}
	var chosen []mutant
	for _, m := range all {
		files, err := m.files(root)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(files, func(file string) bool { return slices.Contains(changed, file) }) {
			chosen = append(chosen, m)
		}
	}
	fmt.Printf("%d of %d mutants have a source file or a test file that has changed since %s\n", len(chosen), len(all), base)
	return chosen, nil
}

// files returns the mutant's source file and the files that declare its tests, relative to the
// root.
func (m mutant) files(root string) ([]string, error) {
	source, err := m.change.file(root)
	if err != nil {
		return nil, err
	}
	tests, err := regexp.Compile(subtests.ReplaceAllString(m.run, ""))
	if err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(m.testPackage()), "*_test.go"))
	if err != nil {
		return nil, err
	}
	files := []string{source}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for _, declared := range testDeclaration.FindAllSubmatch(text, -1) {
			if tests.Match(declared[1]) {
				files = append(files, path.Join(m.testPackage(), filepath.Base(name)))
				break
			}
		}
	}
	return files, nil
}

// subtests matches the parts of a -run pattern that select subtests.
var subtests = regexp.MustCompile(`/[^|]*`)

var testDeclaration = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// changedFiles returns the files, relative to the root, that differ from the commit at which the
// current branch was forked from the base.
func changedFiles(root, base string) ([]string, error) {
	fork, err := git(root, "merge-base", base, "HEAD")
	if err != nil {
		return nil, err
	}
	out, err := git(root, "diff", "--name-only", "--relative", fork)
	return strings.Fields(out), err
}

// currentCommit returns the hash of the commit that is checked out, or "" if git cannot find it.
func currentCommit() string {
	hash, _ := git(".", "rev-parse", "HEAD")
	return hash
}

func git(dir string, arguments ...string) (string, error) {
	c := exec.Command("git", arguments...)
	c.Dir = dir
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("git %s: %w", arguments[0], err)
	}
	return strings.TrimSpace(string(out)), err
}
