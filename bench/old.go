package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// buildOld builds this program against another checkout of the repository, in dir, and returns the
// path of the executable. The working directory must be the module migrationlog/bench. The bench's
// own source is the present one in both programs. Only the packages of the module migrationlog come
// from the checkout.
func buildOld(ctx context.Context, checkout, dir string) (program string, err error) {
	if checkout, err = filepath.Abs(checkout); err != nil {
		return "", err
	}
	if err := requireModule(checkout, "migrationlog"); err != nil {
		return "", err
	}
	if err := requireModule(".", "migrationlog/bench"); err != nil {
		return "", fmt.Errorf("%w: run the bench with -old in its own directory", err)
	}
	modFile, err := filepath.Abs(filepath.Join(dir, "old.mod"))
	if err != nil {
		return "", err
	}
	if err := errors.Join(copyFile("go.mod", modFile), copyFile("go.sum", filepath.Join(dir, "old.sum"))); err != nil {
		return "", err
	}
	program = filepath.Join(filepath.Dir(modFile), "bench-old")
	for _, args := range [][]string{
		{"mod", "edit", "-replace=migrationlog=" + checkout, modFile},
		{"build", "-mod=mod", "-modfile=" + modFile, "-o", program, "."}, // mod: the checkout may require other versions
	} {
		command := exec.CommandContext(ctx, "go", args...)
		command.Env = append(os.Environ(), "GOWORK=off") // -modfile is not allowed in a workspace
		if out, err := command.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building the bench against %s: go %s: %w\n%s", checkout, args[0], err, out)
		}
	}
	return program, nil
}

// requireModule returns an error if dir is not the root of the module with that path.
func requireModule(dir, path string) error {
	content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !regexp.MustCompile(`(?m)^module `+path+`$`).Match(content) {
		return fmt.Errorf("%s is not the root of the module %s", dir, path)
	}
	return err
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o600)
}
