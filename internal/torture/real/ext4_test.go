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

// D1 on a real file system: what a writer had acknowledged when its power was cut
// is there, byte for byte. The cut is a copy of the image that is the device of an
// ext4: what is in the kernel's memory alone is not in it.
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

// machine is a writer on a disk of its own.
type machine struct {
	r      *rand.Rand
	parent string
	image  string
	disk   string // where the image is mounted
	writer *child
	found  map[string]bool // bodies, after any of the cuts
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

// unmount waits for processes that are just being started: until they run another
// program they have open what their parent has.
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

// stop ends the writer. Only then has all been heard that it was about to write.
func (m *machine) stop(t *testing.T) {
	m.writer.kill()
	unmount(t, m.disk)
	require.Empty(t, m.writer.failure)
	issued := map[string]bool{}
	for _, b := range m.writer.issued {
		issued[b] = true
	}
	for b := range m.found {
		require.True(t, issued[b], "an event was never written")
	}
	require.NoError(t, os.RemoveAll(m.parent))
}

// cut stops the writer at about some moment, takes the image as it is then, and
// opens the log that is in it.
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
		c.count("damage behind the last acknowledged event", 1)
	}
}

// takeImage copies the image at one moment: if it changed while it was copied, for
// the kernel may still be writing, it is copied anew.
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

// heard is the number of lines that the child has said so far.
func (c *child) lineCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines
}

// acknowledged are the events, by their numbers, that the child said so far to have
// been acknowledged.
func (c *child) acknowledged() map[uint64]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	acked := map[uint64]string{}
	for seq, b := range c.acked {
		acked[seq] = b
	}
	return acked
}
