package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const simulated = "migrationlog/internal/torture/simulated"

func main() {
	seed := flag.Int64("seed", 0, "seed of all cases; 0 is taken from the clock")
	cuts := flag.Int("cuts", 2000, "power cuts to try; 10,000 at each commit, 1,000,000 in a long run")
	run := flag.String("run", "", "regular expression of the tests to run; empty is all")
	only := flag.Int("case", -1, "the one case to run, as a failure names it; -1 is all")
	patches := flag.String("patch", "", "JSON file of changes to the code under test: it must go red")
	race := flag.Bool("race", false, "run under the race detector")
	flag.Parse()
	arguments := append([]string{
		"-test.v", "-test.timeout=0", "-test.run=" + *run, fmt.Sprintf("-seed=%d", *seed), fmt.Sprintf("-cuts=%d", *cuts), fmt.Sprintf("-case=%d", *only),
	}, flag.Args()...)
	if err := torture(*patches, *race, arguments); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// torture builds the tests on a simulated disk and runs it with the arguments.
func torture(patchFile string, race bool, arguments []string) error {
	patches, err := readPatches(patchFile)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "torture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := build(dir, race, patches)
	if err != nil {
		return err
	}
	return command(binary, arguments...).Run()
}

func readPatches(file string) (patches []Patch, err error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &patches); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return patches, nil
}

// build makes the simulated tests and returns its path.
func build(dir string, race bool, patches []Patch) (string, error) {
	overlay, err := NewOverlay(dir, patches)
	if err != nil {
		return "", err
	}
	file, err := overlay.File()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "simulated.test")
	arguments := []string{"test", "-c", "-vet=off", "-overlay", file, "-tags", "simulated", "-o", binary}
	if race {
		arguments = append(arguments, "-race")
	}
	return binary, command("go", append(arguments, simulated)...).Run()
}

func command(name string, arguments ...string) *exec.Cmd {
	c := exec.Command(name, arguments...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c
}
