package real_test

import "flag"

// How much is tried. The defaults are the counts of a commit, and take less than a minute. The
// model check alone has more, and the counts of a night, in .ci/counts.
var (
	seedFlag     = flag.Uint64("seed", 0, "what every case derives its own seed from; 0 is from the clock")
	caseFlag     = flag.Int("case", -1, "try this case alone; -1 is all")
	killsFlag    = flag.Int("kills", 50, "TestD1_Kill: how many writing processes are killed")
	opensFlag    = flag.Int("opens", 20, "TestD10_DoubleOpen: rounds of eight processes that open one directory")
	damagesFlag  = flag.Int("damages", 60_000, "TestD2_RandomDamage: damages, of which a case has one to four")
	clocksFlag   = flag.Int("clocks", 100, "TestD9_Clock: histories under a clock that is wrong")
	runsFlag     = flag.Int("runs", 100, "TestD8_ModelWithDamage: runs against the model")
	disksFlag    = flag.Int("disks", 20, "TestD6_FullDisk: disks that become full")
	ext4CutsFlag = flag.Int("ext4cuts", 20, "TestD1_Ext4PowerCut: power cuts")
)
