package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const simulated = "./internal/torture/simulated"

// options are the flags of the command line.
type options struct {
	seed    int64
	cuts    int
	run     string
	only    int
	patches string
	race    bool
	mutants bool
	changed string
	atMost  int
}

func main() {
	var o options
	flag.Int64Var(&o.seed, "seed", 0, "seed of all cases; if it is 0, the clock gives the seed")
	flag.IntVar(&o.cuts, "cuts", 10_000, "simulated power cuts to try")
	flag.StringVar(&o.run, "run", "", "regular expression of the tests or mutants to run; if it is empty, all run")
	flag.IntVar(&o.only, "case", -1, "number of the only case to run, as printed by a failed case; -1 runs all")
	flag.StringVar(&o.patches, "patch", "", "JSON file of changes to the code under test; the tests must then fail")
	flag.BoolVar(&o.race, "race", false, "run under the race detector")
	flag.BoolVar(&o.mutants, "mutants", false, "remove one defence at a time; its tests must then fail")
	flag.StringVar(&o.changed, "changed", "", "with -mutants: only mutants whose source or tests have changed since this commit")
	flag.IntVar(&o.atMost, "atmost", 0, "with -mutants: the largest number of mutants to try, chosen by the commit's hash; 0 tries all")
	flag.Parse()
	if o.seed == 0 {
		o.seed = time.Now().UnixNano()
	}
	if err := o.torture(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func (o options) torture(arguments []string) error {
	if o.mutants {
		return killMutants(o)
	}
	return o.simulated(arguments)
}

// simulated builds the tests of package simulated for a simulated disk, and runs them.
func (o options) simulated(arguments []string) error {
	patches, err := readPatches(o.patches)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "torture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	overlay, err := NewOverlay(dir, patches)
	if err != nil {
		return err
	}
	binary, err := overlay.Build(simulated, o.race)
	if err != nil {
		return err
	}
	arguments = append([]string{
		"-test.v", "-test.timeout=0", "-test.run=" + o.run,
		fmt.Sprintf("-seed=%d", o.seed), fmt.Sprintf("-cuts=%d", o.cuts), fmt.Sprintf("-case=%d", o.only),
	}, arguments...)
	return command(binary, arguments...).Run()
}

func readPatches(file string) (changes []Change, err error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var patches []Patch
	if err := json.Unmarshal(text, &patches); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, p := range patches {
		changes = append(changes, p)
	}
	return changes, nil
}

// Build compiles the tests of a package with the overlay. It returns the path of the test binary.
func (o *Overlay) Build(pkg string, race bool) (string, error) {
	file, err := o.File()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(o.dir, filepath.Base(pkg)+".test")
	arguments := []string{"test", "-c", "-vet=off", "-overlay", file, "-o", binary}
	if pkg == simulated {
		arguments = append(arguments, "-tags", strings.Join(asBuilt.BuildTags, ","))
	}
	if race {
		arguments = append(arguments, "-race")
	}
	compile := command("go", append(arguments, pkg)...)
	compile.Dir = o.root
	return binary, compile.Run()
}

func command(name string, arguments ...string) *exec.Cmd {
	c := exec.Command(name, arguments...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c
}
