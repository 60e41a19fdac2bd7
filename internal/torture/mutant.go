package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// mutant is the code under test without one defence. Its tests must fail. If they pass, they would
// not notice the loss of the defence.
type mutant struct {
	defence string
	change  Change
	pkg     string // the package of the tests; if it is "", they are in package simulated
	run     string // regular expression that selects the tests
}

// testPackage returns the directory of the tests, relative to the module's root.
func (m mutant) testPackage() string { return cmp.Or(m.pkg, simulated) }

// killMutants tries the chosen mutants, two at a time, and returns an error if one survives.
func killMutants(o options) error {
	chosen, err := chooseMutants(o)
	if err != nil {
		return err
	}
	next := make(chan mutant)
	var mu sync.Mutex
	var survivors []string
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for m := range next {
				began := time.Now()
				verdict, err := m.kill()
				mu.Lock()
				if err != nil {
					survivors = append(survivors, fmt.Sprintf("%s (%v)", m.defence, m.change))
					verdict = "NOT KILLED: " + err.Error()
					if errors.Is(err, errSurvived) {
						verdict = "SURVIVED: " + err.Error()
					}
				}
				fmt.Printf("%-64s %5.1f s  %s\n", m.defence, time.Since(began).Seconds(), verdict)
				mu.Unlock()
			}
		})
	}
	for _, m := range chosen {
		next <- m
	}
	close(next)
	workers.Wait()
	fmt.Printf("%d mutants tried, %d killed, %d not killed\n", len(chosen), len(chosen)-len(survivors), len(survivors))
	if len(survivors) > 0 {
		return fmt.Errorf("not killed: %s", strings.Join(survivors, "; "))
	}
	return nil
}

// chooseMutants returns the mutants that -run, -changed and -atmost select. If -atmost excludes
// some, it prints their names.
func chooseMutants(o options) (chosen []mutant, err error) {
	pattern, err := regexp.Compile(o.run)
	if err != nil {
		return nil, err
	}
	for _, m := range mutants {
		if pattern.MatchString(m.defence) || pattern.MatchString(fmt.Sprint(m.change)) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no mutant's defence or marker matches %q", o.run)
	}
	if o.changed != "" {
		if chosen, err = changedMutants(chosen, o.changed); err != nil {
			return nil, err
		}
	}
	if o.atMost <= 0 || len(chosen) <= o.atMost {
		return chosen, nil
	}
	chosen = sample(chosen, currentCommit())
	fmt.Printf("%d of %d mutants are tried, chosen by the commit's hash. The nightly run tries these too:\n", o.atMost, len(chosen))
	for _, m := range chosen[o.atMost:] {
		fmt.Printf("  %s\n", m.defence)
	}
	return chosen[:o.atMost], nil
}

// sample returns the mutants in a random order that depends only on the salt.
func sample(all []mutant, salt string) []mutant {
	rank := func(m mutant) string {
		sum := sha256.Sum256([]byte(salt + "\x00" + m.defence))
		return string(sum[:])
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b mutant) int { return strings.Compare(rank(a), rank(b)) })
	return all
}

// errSurvived is returned if the tests of a mutant pass.
var errSurvived = errors.New("these tests passed although the defence is removed: write a test that fails")

// kill builds the mutant and runs its tests. If one fails, it returns a verdict with that test's
// name. If none fails, it returns errSurvived.
func (m mutant) kill() (verdict string, err error) {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	newOverlay := NewPatched
	if m.pkg == "" {
		newOverlay = NewOverlay
	}
	overlay, err := newOverlay(dir, []Change{m.change})
	if err != nil {
		return "", err
	}
	pkg := m.testPackage()
	binary, err := overlay.Build(pkg, false)
	if err != nil {
		return "", fmt.Errorf("the mutant does not compile: fix it in mutants.go: %w", err)
	}
	arguments := []string{"-test.v", "-test.failfast", "-test.timeout=20m", "-test.run=" + m.run}
	if pkg == simulated {
		// The first failing case is enough. If only one rename can reveal the mutant, this needs
		// about 7,000 cuts on average. With 160,000 cuts, no such mutant survives by chance.
		arguments = append(arguments, "-failures=1", "-cuts=160000")
	}
	test := command(binary, arguments...)
	test.Stdout, test.Stderr = nil, nil
	test.Dir = filepath.Join(overlay.root, pkg)
	output, err := test.CombinedOutput()
	if err == nil {
		return "", fmt.Errorf("%w: %s in %s", errSurvived, m.run, pkg)
	}
	if failed := regexp.MustCompile(`--- FAIL: (\w+)`).FindSubmatch(output); failed != nil {
		return "killed by " + string(failed[1]), nil
	}
	switch before, _, timedOut := bytes.Cut(output, []byte("panic: test timed out")); {
	case timedOut:
		return "", fmt.Errorf("no test failed before the timeout\n%s", before)
	case bytes.Contains(output, []byte("panic: ")):
		return "killed by a panic", nil
	}
	return "", fmt.Errorf("the tests ended without a failed test or a panic: %w\n%s", err, output)
}
