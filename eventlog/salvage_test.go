package eventlog

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// lostManifest returns a log of several segments without a manifest, and its directory before that.
func lostManifest(t *testing.T) (dir string, before segment.Directory) {
	dir = closedLog(t, 40, Options{SegmentSize: 400})
	before, err := segment.ReadDirectory(os.DirFS(dir))
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, segment.ManifestName)))
	require.NoError(t, os.Remove(filepath.Join(dir, segment.ManifestCopyName)))
	return dir, before
}

func salvaged(t *testing.T, dir string) (to string, s Salvaged) {
	to = filepath.Join(memDir(t), "deep", "new")
	source := tree(t, dir)
	s, err := Salvage(t.Context(), dir, to, SalvageOptions{})
	require.NoError(t, err)
	require.Equal(t, source, tree(t, dir), "Salvage changed the damaged log")
	return to, s
}

// A log without a manifest is copied byte for byte, under another UUID, and continues with the next
// number.
func TestSalvage_ManifestLost(t *testing.T) {
	dir, before := lostManifest(t)
	put(t, []byte("kept"), dir, QuarantineDir, "file")
	put(t, []byte("stray"), dir, segment.WALDir, "x.swp")
	to, s := salvaged(t, dir)
	require.True(t, s.NewUUID)
	require.NotEqual(t, before.Manifest.UUID, s.UUID)
	require.EqualValues(t, 40, *s.Watermark)
	require.EqualValues(t, 40, s.Frames)
	require.Equal(t, []string{"wal/x.swp"}, s.LeftOut)
	want, got := tree(t, dir), tree(t, to)
	delete(want, "wal/x.swp")
	maps.DeleteFunc(got, func(name, _ string) bool { return strings.HasSuffix(name, "MANIFEST") })
	delete(want, LockName)
	require.Equal(t, want, got)

	r := begin(t, to, Options{})
	frames, damage := items(t, r)
	require.Empty(t, damage)
	require.Len(t, frames, 40)
	log, err := r.Finish(frames[39].ID())
	require.NoError(t, err)
	require.EqualValues(t, 41, log.NextSeq())
	require.NoError(t, write(log, body))
	require.NoError(t, log.Close())
}

// Gaps, damage and losses at the end are the same in the new log, also if only the segments are left.
func TestSalvage_KeepsLosses(t *testing.T) {
	dir, before := lostManifest(t)
	segments, err := segment.Names(os.DirFS(dir))
	require.NoError(t, err)
	require.Greater(t, len(segments), 4)
	require.NoError(t, os.Remove(filepath.Join(dir, segment.WALDir, segments[2])))
	first := read(t, dir, segment.WALDir, segments[0])
	first[len(first)/2+20] ^= 1 // in the header of the third frame
	put(t, first, dir, segment.WALDir, segments[0])
	for _, name := range segments[len(segments)-2:] {
		require.NoError(t, os.Remove(filepath.Join(dir, segment.WALDir, name)))
	}
	wants := func(d segment.Directory) *segment.Scan {
		scan := segment.NewScan(os.DirFS(dir), d, segment.ScanOptions{Locked: true})
		for _, err := range scan.Items() {
			require.NoError(t, err)
		}
		return scan
	}
	want := wants(before).Losses()
	require.Len(t, want.Lost(), 3)
	lossesOf := func(to string) *segment.Losses {
		r := begin(t, to, Options{})
		items(t, r)
		losses := r.scan.Losses()
		require.NoError(t, r.Abandon())
		return losses
	}
	to, _ := salvaged(t, dir)
	require.Equal(t, want.Lost(), lossesOf(to).Lost())
	require.Equal(t, want.Acknowledged(), lossesOf(to).Acknowledged())

	// Without the watermark, the end of the log is known from its headers only.
	require.NoError(t, os.Remove(filepath.Join(dir, segment.WatermarkCopyName)))
	before.Watermark = 0
	want = wants(before).Losses()
	to, s := salvaged(t, filepath.Join(dir, segment.WALDir))
	require.Nil(t, s.Watermark)
	require.Empty(t, s.LeftOut)
	require.NoFileExists(t, filepath.Join(to, segment.WatermarkName))
	require.Equal(t, want.Lost(), lossesOf(to).Lost())
	require.Equal(t, want.Acknowledged(), lossesOf(to).Acknowledged())
	repaired(t, to, Options{})
}

// An intact manifest is kept, with its skipped numbers. A damaged one still has the UUID.
func TestSalvage_ManifestFound(t *testing.T) {
	dir := closedLog(t, 5, Options{})
	m, err := segment.DecodeManifest(read(t, dir, segment.ManifestName))
	require.NoError(t, err)
	m.Revision, m.Skipped = 7, []segment.SeqRange{{First: 2, Last: 2}}
	text := m.Encode()
	put(t, text, dir, segment.ManifestName)
	to, s := salvaged(t, dir)
	require.True(t, s.ManifestIntact)
	require.Equal(t, text, read(t, to, segment.ManifestName))
	require.Equal(t, text, read(t, to, segment.ManifestCopyName))

	put(t, text[:len(text)-1], dir, segment.ManifestName)
	put(t, nil, dir, segment.ManifestCopyName)
	_, s = salvaged(t, dir)
	require.False(t, s.ManifestIntact)
	require.False(t, s.NewUUID)
	require.Contains(t, string(text), s.UUID.String())
}

// A snapshot whose header belongs to the log is copied, also with a damaged body. One of another log
// is left out.
func TestSalvage_Snapshots(t *testing.T) {
	dir, before := lostManifest(t)
	ours := segment.Snapshot{Version: segment.SnapshotVersion, Last: segment.FrameID{Seq: 45, Segment: 1}, Synced: true, Body: []byte("body")}
	content := ours.Encode(before.Manifest.UUID)
	content[len(content)-1] ^= 1
	put(t, content, dir, segment.SnapshotDir, ours.Name())
	foreign := ours
	foreign.Last.Seq = 44
	put(t, foreign.Encode(segment.Fingerprint(7).UUID(before.Manifest.UUID)), dir, segment.SnapshotDir, foreign.Name())
	to, s := salvaged(t, dir)
	require.Equal(t, 1, s.Snapshots)
	require.Equal(t, 3, s.Files, "two watermarks and the snapshot")
	require.Equal(t, []string{"snapshots/" + foreign.Name()}, s.LeftOut)
	d, err := segment.ReadDirectory(os.DirFS(to))
	require.NoError(t, err)
	require.EqualValues(t, 45, d.Snapshots)
}

// Salvage refuses a directory with content and one inside the damaged log, also behind a link.
func TestSalvage_OutDir(t *testing.T) {
	dir, _ := lostManifest(t)
	full := memDir(t)
	put(t, nil, full, "file")
	link := filepath.Join(memDir(t), "link")
	require.NoError(t, os.Symlink(filepath.Join(dir, segment.WALDir), link))
	before := tree(t, dir)
	for _, to := range []string{full, dir, filepath.Join(dir, "new"), filepath.Join(dir, "a", "b"), filepath.Join(link, "new")} {
		_, err := Salvage(t.Context(), dir, to, SalvageOptions{})
		require.ErrorIs(t, err, ErrOutDir, to)
	}
	require.Equal(t, before, tree(t, dir))
	require.Equal(t, []string{"file"}, names(t, full))

	linked := memDir(t) // wal/ is a link to a directory elsewhere
	put(t, read(t, dir, segment.WatermarkName), linked, segment.WatermarkName)
	require.NoError(t, os.Symlink(filepath.Join(dir, segment.WALDir), filepath.Join(linked, segment.WALDir)))
	_, err := Salvage(t.Context(), linked, filepath.Join(dir, segment.WALDir, segment.Name(50)), SalvageOptions{})
	require.ErrorIs(t, err, ErrOutDir)
	require.Equal(t, before, tree(t, dir))
	_, err = Salvage(t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "new"), SalvageOptions{})
	require.ErrorIs(t, err, segment.ErrNotALog)
	empty := memDir(t)
	_, err = Salvage(t.Context(), dir, empty, SalvageOptions{})
	require.NoError(t, err)
}

// If Salvage is interrupted at any file, it removes everything that it made. Until the end there is
// no manifest, so that no opening takes the directory for a log.
func TestSalvage_Interrupted(t *testing.T) {
	dir, _ := lostManifest(t)
	put(t, []byte("kept"), dir, QuarantineDir, "file")
	parent := memDir(t)
	to := filepath.Join(parent, "a", "new")
	calls := 0
	for stopAt := 1; ; stopAt++ {
		calls = 0
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Salvage(ctx, dir, to, SalvageOptions{Progress: func(int64) {
			if calls++; calls == stopAt {
				_, err := os.Lstat(filepath.Join(to, segment.ManifestName))
				require.ErrorIs(t, err, os.ErrNotExist)
				if slices.Contains(namesIn(to), segment.WALDir) && segmentBytes(t, to) > 0 {
					_, err = Begin(to, Options{})
					require.ErrorIs(t, err, segment.ErrManifestLost)
				}
				cancel()
			}
		}})
		cancel()
		if err == nil {
			break
		}
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, names(t, parent))
	}
	require.Greater(t, calls, 10)
	require.FileExists(t, filepath.Join(to, segment.ManifestName))
}

// If the disk is full, Salvage removes everything that it made.
func TestSalvage_FullDisk(t *testing.T) {
	dir, _ := lostManifest(t)
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Skipf("no small disk can be mounted here: %s", out)
	}
	t.Cleanup(func() { require.NoError(t, exec.Command("umount", disk).Run()) })
	_, err := Salvage(t.Context(), dir, filepath.Join(disk, "new"), SalvageOptions{})
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, "The copy was removed again, and "+dir+" is as it was: remove the cause, and start again")
	require.Empty(t, names(t, disk))
}

func namesIn(dir string) (all []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func segmentBytes(t *testing.T, dir string) (n int64) {
	found, err := segment.Names(os.DirFS(dir))
	require.NoError(t, err)
	for _, name := range found {
		n += int64(len(read(t, dir, segment.WALDir, name)))
	}
	return n
}
