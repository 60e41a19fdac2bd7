package real_test

import "flag"

// These are the seed and the number of cases of each test. The default numbers are for a commit and
// take less than a minute. .ci/counts has larger numbers for the model check and for a nightly run.
var (
	seedFlag     = flag.Uint64("seed", 0, "seed of all cases; if it is 0, the clock gives the seed")
	caseFlag     = flag.Int("case", -1, "number of the only case to run; -1 runs all")
	killsFlag    = flag.Int("kills", 50, "TestD1_Kill: number of writing processes to kill")
	opensFlag    = flag.Int("opens", 20, "TestD10_DoubleOpen: number of rounds; in each, eight processes open one directory")
	damagesFlag  = flag.Int("damages", 60_000, "TestD2_RandomDamage: number of damages; each case has one to four")
	clocksFlag   = flag.Int("clocks", 100, "TestD9_Clock: number of histories with a wrong clock")
	runsFlag     = flag.Int("runs", 100, "TestD8_ModelWithDamage: number of runs that are compared with the model")
	disksFlag    = flag.Int("disks", 20, "TestD6_FullDisk: number of disks that become full")
	ext4CutsFlag = flag.Int("ext4cuts", 20, "TestD1_Ext4PowerCut: number of power cuts")
)
