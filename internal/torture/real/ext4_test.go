//go:build linux

package real_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
)

const (
	imageBytes   = 16 << 20
	cutsPerImage = 10
)

// D1: on a real file system, the events that a writer had acknowledged before a power cut exist
// afterwards, byte for byte. The power cut is simulated by a copy of the image of an ext4 file
// system. The copy does not contain data that is only in the memory of the kernel.
func TestD1_Ext4PowerCut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount an image")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("there is no mkfs.ext4")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("there are no loop devices")
	}
	c := newCases(t)
	c.each(t, (*ext4CutsFlag+cutsPerImage-1)/cutsPerImage, func(t *testing.T, n int, r *rand.Rand) {
		m := newMachine(t, r)
		defer m.stop(t)
		for range cutsPerImage {
			m.cut(t, c)
		}
		c.count("images", 1)
	})
}

// machine is a writer with its own disk.
type machine struct {
	r      *rand.Rand
	parent string
	image  string
	disk   string // mount point of the image
	writer *child
	found  map[string]bool // bodies of the events that were found after any cut
}

func newMachine(t *testing.T, r *rand.Rand) *machine {
	parent := memDir(t)
	m := &machine{r: r, parent: parent, image: filepath.Join(parent, "image"), disk: filepath.Join(parent, "disk"), found: map[string]bool{}}
	require.NoError(t, os.WriteFile(m.image, nil, 0o600))
	require.NoError(t, os.Truncate(m.image, imageBytes))
	run(t, "mkfs.ext4", "-q", m.image)
	mountImage(t, m.image, m.disk)
	m.writer = startChild(t, task{Role: "writer", Dir: filepath.Join(m.disk, "log"), Seed: r.Uint64(), Origin: 1})
	return m
}

func mountImage(t *testing.T, image, at string) {
	require.NoError(t, os.MkdirAll(at, 0o700))
	run(t, "mount", "-o", "loop", image, at)
}

// unmount unmounts a file system. A process that is just being started has the open files of its
// parent until it executes its program. The file system is busy until then, so unmount retries.
func unmount(t *testing.T, at string) {
	err := syscall.Unmount(at, 0)
	for tries := 0; errors.Is(err, syscall.EBUSY) && tries < 5000; tries++ {
		time.Sleep(time.Millisecond)
		err = syscall.Unmount(at, 0)
	}
	require.NoError(t, err, at)
}

func run(t *testing.T, name string, args ...string) {
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s: %s", name, out)
}

// stop kills the writer. The list of issued events is complete only after that.
func (m *machine) stop(t *testing.T) {
	m.writer.kill()
	unmount(t, m.disk)
	require.Empty(t, m.writer.failure)
	issued := map[string]bool{}
	for _, b := range m.writer.issued {
		issued[b] = true
	}
	for b := range m.found {
		require.True(t, issued[b], "an event was found that was never written")
	}
	require.NoError(t, os.RemoveAll(m.parent))
}

// cut pauses the writer at a random moment, copies the image, and opens the log in the copy.
func (m *machine) cut(t *testing.T, c *cases) {
	m.writer.await(m.writer.lineCount() + m.r.IntN(60))
	time.Sleep(time.Duration(m.r.IntN(1000)) * time.Microsecond)
	require.NoError(t, m.writer.cmd.Process.Signal(syscall.SIGSTOP))
	acked := m.writer.acknowledged()
	power := filepath.Join(m.parent, "cut")
	m.takeImage(t, power)
	defer func() { require.NoError(t, m.writer.cmd.Process.Signal(syscall.SIGCONT)) }()

	disk := filepath.Join(m.parent, "after")
	mountImage(t, power, disk)
	defer func() { unmount(t, disk) }()
	s, err := migrationlog.Open(filepath.Join(disk, "log"), nil)
	require.NoError(t, err)
	report := s.Report()
	require.NoError(t, s.Close())
	require.Empty(t, report.AcknowledgedLost)
	found := bodies(t, filepath.Join(disk, "log"))
	for seq, b := range acked {
		require.Equal(t, b, found[seq], "seq %d", seq)
	}
	for _, b := range found {
		m.found[b] = true
	}
	c.count("power cuts", 1)
	c.count("events acknowledged", len(acked))
	c.count("events recovered", len(found))
	if report.TornTail != nil {
		c.count("torn tails", 1)
	}
	if len(report.Damage) > 0 {
		c.count("damage after the last acknowledged event", 1)
	}
}

// takeImage copies the image. The kernel may still be writing to it, so takeImage repeats the copy
// until two reads of the image are equal.
func (m *machine) takeImage(t *testing.T, to string) {
	for {
		image, err := os.ReadFile(m.image)
		require.NoError(t, err)
		again, err := os.ReadFile(m.image)
		require.NoError(t, err)
		if bytes.Equal(image, again) {
			require.NoError(t, os.WriteFile(to, image, 0o600))
			return
		}
	}
}

// lineCount returns the number of lines that the child has printed so far.
func (c *child) lineCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines
}

// acknowledged returns the events that were acknowledged so far, by their numbers.
func (c *child) acknowledged() map[uint64]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	acked := map[uint64]string{}
	for seq, b := range c.acked {
		acked[seq] = b
	}
	return acked
}
