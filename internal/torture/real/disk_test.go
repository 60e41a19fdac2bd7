//go:build linux

package real_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// D1, D6, D7: the disk becomes full at any moment. Every acknowledged event is kept. When there is
// free space again, the log opens with all of them and accepts writes.
func TestD6_FullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	c := newCases(t)
	c.each(t, *disksFlag, func(t *testing.T, n int, r *rand.Rand) {
		d := mountSmall(t, r)
		defer d.unmount(t)
		d.fillUp(t, c)
		d.openFull(t, c)
		require.NoError(t, os.RemoveAll(d.ballast))
		d.recover(t, c)
		c.count("disks", 1)
	})
}

// smallDisk is a small file system with a log, and with ballast files that can be removed.
type smallDisk struct {
	r         *rand.Rand
	path      string
	dir       string
	ballast   string
	opts      *migrationlog.Options
	generator *generator
	acked     map[uint64]string
	issued    map[string]bool
}

func mountSmall(t *testing.T, r *rand.Rand) *smallDisk {
	path := t.TempDir()
	pages := 2*ballastFiles + r.IntN(256-2*ballastFiles) // at most 1 MiB
	options := fmt.Sprintf("size=%dk", pages*pageBytes>>10)
	if r.IntN(3) == 0 { // or limit the number of files
		options += fmt.Sprintf(",nr_inodes=%d", ballastFiles+3+r.IntN(20))
	}
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", path).CombinedOutput()
	if err != nil {
		t.Skipf("no small disk can be mounted here: %s", out)
	}
	d := &smallDisk{
		r: r, path: path, dir: filepath.Join(path, "log"), ballast: filepath.Join(path, "ballast"),
		opts: &migrationlog.Options{SegmentSize: min(pages*pageBytes/(2+r.IntN(60)), ballastFiles*pageBytes/3)}, generator: newGenerator(r, 1),
		acked: map[uint64]string{}, issued: map[string]bool{},
	}
	d.generator.longEvery = 1 + r.IntN(20)
	ballastPages := ballastFiles
	if r.IntN(3) == 0 {
		ballastPages = pages - 2 - r.IntN(7) // there may not even be space to create the log
	}
	require.NoError(t, os.Mkdir(d.ballast, 0o700))
	for i := range ballastFiles {
		sizePages := ballastPages / ballastFiles
		if i == 0 {
			sizePages += ballastPages % ballastFiles
		}
		require.NoError(t, os.WriteFile(filepath.Join(d.ballast, fmt.Sprint(i)), make([]byte, sizePages*pageBytes), 0o600))
	}
	return d
}

const (
	pageBytes    = 4096
	ballastFiles = 30 // the ballast has at least one page per file, which is more than a recovery needs
)

func (d *smallDisk) unmount(t *testing.T) {
	unmount(t, d.path)
}

// fillUp writes until the disk is full.
func (d *smallDisk) fillUp(t *testing.T, c *cases) {
	s, err := migrationlog.Open(d.dir, d.opts)
	if err != nil {
		require.ErrorIs(t, err, syscall.ENOSPC)
		c.count("full while the log was created, at: "+place(err), 1)
		return
	}
	for {
		e := d.generator.event()
		d.issued[body(e)] = true
		var receipt migrationlog.Receipt
		if receipt, err = write(s, e); err != nil {
			break
		}
		if receipt.Appended() {
			d.acked[receipt.Seq] = body(e)
		}
		if d.r.IntN(200) == 0 {
			require.NoError(t, s.Close())
			if s, err = migrationlog.Open(d.dir, d.opts); err != nil {
				require.ErrorIs(t, err, syscall.ENOSPC)
				c.count("full while the log was opened, at: "+place(err), 1)
				return
			}
		}
	}
	require.ErrorIs(t, err, migrationlog.ErrFailed)
	require.ErrorIs(t, err, syscall.ENOSPC)
	c.count("full during a write, at: "+place(err), 1)
	_, err = write(s, d.generator.upsert())
	require.ErrorIs(t, err, migrationlog.ErrFailed)
	require.ErrorIs(t, s.Health(), migrationlog.ErrFailed)
	require.ErrorIs(t, s.Close(), migrationlog.ErrFailed)
}

// place returns the failed call and its file.
func place(err error) string {
	var path *fs.PathError
	if !errors.As(err, &path) {
		return "?"
	}
	name := filepath.Base(path.Path)
	if _, ok := segment.ParseName(strings.Split(name, "-")[0]); ok {
		name = "a segment" + filepath.Ext(name)
	}
	return path.Op + " " + name
}

// openFull opens the log while the disk is full. All acknowledged events must be kept, even if Open
// fails.
func (d *smallDisk) openFull(t *testing.T, c *cases) {
	for range 2 {
		before := files(t, d.path)
		s, err := migrationlog.Open(d.dir, d.opts)
		if err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.NotEqual(t, "open a segment", place(err), "Open could continue in the last segment")
			c.count("opened on the full disk: failed at "+place(err), 1)
			d.checkLeft(t, c, before)
		} else {
			c.count("opened on the full disk", 1)
			require.NoError(t, s.Close())
		}
		if len(d.acked) > 0 {
			d.check(t)
		}
	}
}

// checkLeft checks that a failed Open has changed no file, and has added no copy that each later
// Open would add again.
func (d *smallDisk) checkLeft(t *testing.T, c *cases, before map[string][]byte) {
	after := files(t, d.path)
	for name, b := range before {
		if filepath.Base(name) != "LOCK" {
			require.True(t, bytes.Equal(b, after[name]), "%s: %d bytes, now %d", name, len(b), len(after[name]))
		}
	}
	for name := range after {
		if _, was := before[name]; !was && filepath.Base(filepath.Dir(name)) == "quarantine" {
			t.Fatalf("D7: an Open that fails because the disk is full leaves a copy in quarantine/, and each retry would add another: %s", name)
		}
	}
}

// check compares the events in the log with the acknowledged and the written ones.
func (d *smallDisk) check(t *testing.T) {
	found := bodies(t, d.dir)
	for seq, b := range d.acked {
		require.Equal(t, b, found[seq], "seq %d", seq)
	}
	for seq, b := range found {
		require.True(t, d.issued[b], "seq %d was never written", seq)
	}
	reader, err := replay.Open(d.dir)
	require.NoError(t, err)
	report, err := reader.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Damage)
}

// recover opens the log when there is free space again, and writes to it.
func (d *smallDisk) recover(t *testing.T, c *cases) {
	for range 2 {
		s, err := migrationlog.Open(d.dir, d.opts)
		require.NoError(t, err)
		require.Empty(t, s.Report().Damage)
		e := d.generator.upsert()
		d.issued[body(e)] = true
		receipt, err := write(s, e)
		require.NoError(t, err)
		if receipt.Appended() {
			require.NotContains(t, d.acked, receipt.Seq)
			d.acked[receipt.Seq] = body(e)
		}
		require.NoError(t, s.Close())
		d.check(t)
	}
	c.count("events acknowledged and kept", len(d.acked))
}
