package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// sectorBytes is the unit in which a write is cut off, as on a device. See docs/DURABILITY.md.
const sectorBytes = 512

// FileSizeLimits runs a coordinator in a process of its own, twice for each write of its log, and
// limits the size of files (RLIMIT_FSIZE) from this write on, once to 0 and once to a few sectors. A
// write beyond the limit is cut off and returns ErrFailed, and Run must end. The coordinator then runs
// again without a limit, and the result is checked. start is as for Kills. The test is skipped on
// systems other than Linux.
func FileSizeLimits(t TB, start func() Trial) {
	t.Helper()
	runIfChild(t, start)
	if !hasLimits {
		t.Skipf("only Linux has the file-size limit that this test sets")
	}
	for i := 2; ; i++ {
		o := task{LimitWrite: i / 2}
		if i%2 == 1 {
			o.LimitBytes = sectorBytes * (1 + rand.Uint64N(3))
		}
		if !limitAt(t, start, o) {
			return
		}
	}
}

// limitAt sets the limit at one write. It reports whether the coordinator reached it.
func limitAt(t TB, start func() Trial, o task) (reached bool) {
	t.Helper()
	r, err := newRun(start)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer r.remove()
	o.Dir = r.dir
	description := ""
	requests, err := r.process(t, o)
	if at := slices.IndexFunc(requests, func(q request) bool { return q.Op == opLimited }); at >= 0 {
		reached = true
		description = fmt.Sprintf("files limited to %d bytes at the write of event %d", o.LimitBytes, requests[at].Seq)
		err = r.recoverInProcess(t)
	} else if err == nil {
		err = errorOf(requests[len(requests)-1])
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		r.fail(t, description, err)
	}
	return reached
}

// recoverInProcess runs the coordinator again, in a process without a fault.
func (r *run) recoverInProcess(t TB) error {
	if err := r.restart(); err != nil {
		return err
	}
	_, err := r.processToEnd(t)
	return err
}

// SmallDisks runs a coordinator in a process of its own on a disk with little free space, n times. If
// the disk becomes full, writes and Open return ENOSPC, and Run must end. It then runs again with
// enough space, and the result is checked. start is as for Kills. Without root, which mounts the
// disk, and on systems other than Linux the test is skipped.
func SmallDisks(t TB, n int, start func() Trial) {
	t.Helper()
	runIfChild(t, start)
	for range n {
		onSmallDisk(t, start)
	}
}

func onSmallDisk(t TB, start func() Trial) {
	t.Helper()
	disk, err := mountDisk()
	if err != nil {
		t.Skipf("no small disk can be mounted here: %v", err)
	}
	defer disk.unmount()
	r, err := newRunIn(disk.path, start)
	if err != nil {
		t.Fatalf("%v", err)
	}
	freePages := rand.IntN(1 << rand.IntN(11)) // up to 4 MiB, often only a few
	description := fmt.Sprintf("a disk with %d bytes of free space", freePages*pageBytes)
	if err := disk.fill(freePages); err != nil {
		t.Fatalf("%v", err)
	}
	_, err = r.process(t, task{Dir: r.dir})
	if err == nil {
		err = disk.clear()
	}
	if err == nil {
		err = r.recoverInProcess(t)
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		r.fail(t, description, err)
	}
}
