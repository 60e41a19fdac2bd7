package replay_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
	"migrationlog/replay"
)

// onDisk writes the files of a log below a new directory.
func onDisk(t testing.TB, fsys fstest.MapFS) string {
	dir := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.CopyFS(dir, fsys))
	return dir
}

// Open returns a different error for each kind of path that is no log, and creates nothing there.
func TestOpen_Refuses(t *testing.T) {
	log := logOf(t, []any{upserted(t, idA, checkpoint.AddLearner{}, 1)})
	without := func(names ...string) fstest.MapFS {
		fsys := fstest.MapFS{}
		for name, file := range log {
			fsys[name] = file
		}
		for _, name := range names {
			delete(fsys, name)
		}
		return fsys
	}
	newer := without()
	text := "migrationlog format 99\n"
	text += fmt.Sprintf("crc32c %08x\n", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
	newer[segment.ManifestName] = &fstest.MapFile{Data: []byte(text)}
	for name, tc := range map[string]struct {
		path string // below a directory that holds nothing else
		log  fstest.MapFS
		want error
		text string
	}{
		"nothing":                   {"nowhere", nil, fs.ErrNotExist, "nowhere"},
		"nothing, in a directory":   {"log/nowhere", log, fs.ErrNotExist, "nowhere"},
		"a file":                    {"log/MANIFEST", log, segment.ErrNotALog, "it is a file"},
		"a file below a file":       {"log/MANIFEST/x", log, nil, "not a directory"},
		"an empty directory":        {".", nil, segment.ErrNotALog, ""},
		"the directory above a log": {".", log, segment.ErrNotALog, ""},
		"the directory of segments": {"log/wal", log, segment.ErrIsWALDir, ""},
		"a log without manifests":   {"log", without(segment.ManifestName, segment.ManifestCopyName), segment.ErrManifestLost, "restore MANIFEST from a backup"},
		"a log in a newer format":   {"log", newer, segment.ErrNewerFormat, "version 99"},
	} {
		above := t.TempDir()
		if tc.log != nil {
			require.NoError(t, os.CopyFS(filepath.Join(above, "log"), tc.log))
		}
		before := files(t, above)
		_, err := replay.Open(filepath.Join(above, tc.path))
		require.Error(t, err, name)
		if tc.want != nil {
			require.ErrorIs(t, err, tc.want, name)
		}
		require.ErrorContains(t, err, filepath.Join(above, tc.path), "%s: the path is named", name)
		require.ErrorContains(t, err, tc.text, name)
		require.Equal(t, before, files(t, above), name)
	}
}

// files are the contents of all files below dir, and the directories, which have none.
func files(t testing.TB, dir string) map[string]string {
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[path] = ""
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	}))
	return all
}

// Reading changes nothing in the directory and leaves no lock file.
func TestReader_WritesNothing(t *testing.T) {
	dir := onDisk(t, history(t))
	before := files(t, dir)
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	require.Equal(t, testLog, reader.Manifest().UUID)
	require.Len(t, recordsOf(t, reader, replay.Query{}), len(queries[0].want))
	_, err = reader.StateAt(t.Context(), replay.Point{Seq: 3})
	require.NoError(t, err)
	_, err = reader.Verify(t.Context())
	require.NoError(t, err)
	_, err = reader.Snapshot()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, before, files(t, dir))
}

// A log without events is clean, and its state is empty.
func TestReader_EmptyLog(t *testing.T) {
	reader := openFS(t, logOf(t, []any{}))
	require.Empty(t, recordsOf(t, reader, replay.Query{}))
	report, err := reader.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, replay.Report{}, report)
	view, err := reader.StateAt(t.Context(), replay.Point{})
	require.NoError(t, err)
	require.Zero(t, view.Len())
	require.Zero(t, view.LastSeq())
}

// If the context is canceled, a read returns the context's error and no result.
func TestReader_Canceled(t *testing.T) {
	reader := openFS(t, history(t))
	cause := errors.New("the node is drained")
	for name, read := range map[string]func(ctx context.Context) error{
		"records": func(ctx context.Context) (err error) {
			for r, e := range reader.Records(ctx, replay.Query{}) {
				require.Nil(t, err, "the error comes last")
				require.Equal(t, replay.Record{}, r)
				err = e
			}
			return err
		},
		"the state": func(ctx context.Context) error {
			view, err := reader.StateAt(ctx, replay.Point{})
			require.Nil(t, view)
			return err
		},
		"a fold": func(ctx context.Context) error {
			fold, err := reader.FoldTo(ctx, replay.Point{Seq: 3})
			require.Nil(t, fold)
			return err
		},
		"verify": func(ctx context.Context) error {
			report, err := reader.Verify(ctx)
			require.Equal(t, replay.Report{}, report)
			return err
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		require.ErrorIs(t, read(ctx), context.Canceled, name)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []replay.Record
	var end error
	for r, err := range reader.Records(ctx, replay.Query{}) {
		if err != nil {
			end = err
			continue
		}
		if got = append(got, r); len(got) == 3 {
			cancel()
		}
	}
	require.ErrorIs(t, end, context.Canceled)
	require.Len(t, got, 3, "what was read before is there")
}

// unreadable is a log in which reading one file fails.
type unreadable struct {
	fstest.MapFS
	name string
}

var errDevice = errors.New("the device does not answer")

func (u unreadable) Open(name string) (fs.File, error) {
	if name == u.name {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errDevice}
	}
	return u.MapFS.Open(name)
}

func (u unreadable) ReadFile(name string) ([]byte, error) {
	if name == u.name {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errDevice}
	}
	return u.MapFS.ReadFile(name)
}

// If the device cannot read a segment, the reader returns an error. It does not report damage.
func TestReader_IOError(t *testing.T) {
	for _, first := range []uint64{1, 4, 9} {
		reader, err := replay.OpenFS(unreadable{history(t), "wal/" + segment.Name(first)})
		require.NoError(t, err)
		_, err = reader.Verify(t.Context())
		require.ErrorIs(t, err, errDevice)
		_, err = reader.StateAt(t.Context(), replay.Point{})
		require.ErrorIs(t, err, errDevice)
		var last error
		for r, err := range reader.Records(t.Context(), replay.Query{}) {
			require.NoError(t, last, "the error comes last")
			if last = err; err == nil && r.Damage != nil {
				require.NotContains(t, r.Damage.Segment, segment.Name(first))
			}
		}
		require.ErrorIs(t, last, errDevice)
	}
	_, err := replay.OpenFS(unreadable{history(t), segment.ManifestName})
	require.ErrorIs(t, err, errDevice)
}

// snapshotOf returns the snapshot of a view at the frame with that number.
func snapshotOf(t testing.TB, view *projection.View, seq uint64) segment.Snapshot {
	body, err := view.Snapshot()
	require.NoError(t, err)
	return segment.Snapshot{Version: segment.SnapshotVersion, Last: segment.FrameID{Seq: seq, Segment: 1}, Body: body}
}

// Snapshot returns the rows of the newest intact snapshot even if its frame is not in the log. If
// there is none, it returns fs.ErrNotExist.
func TestReader_Snapshot(t *testing.T) {
	older, newer := projection.New(), projection.New()
	older.Apply(1, 0, upserted(t, idA, checkpoint.AddLearner{VShardID: 1}, 1))
	newer.Apply(1, 0, upserted(t, idA, checkpoint.AddLearner{VShardID: 1}, 1))
	newer.Apply(2, 0, upserted(t, idB, checkpoint.AddLearner{VShardID: 2}, 2))
	one, two := snapshotOf(t, older, 1), snapshotOf(t, newer, 2)
	flipped := two.Encode(testLog)
	flipped[len(flipped)-1] ^= 1
	garbled := segment.Snapshot{Version: segment.SnapshotVersion, Last: two.Last, Body: []byte("no rows")}
	path := func(seq uint64) string { return segment.SnapshotDir + "/" + segment.Name(seq) }
	for name, tc := range map[string]struct {
		files map[string][]byte
		rows  int // -1 if no snapshot is intact
	}{
		"no directory":                       {nil, -1},
		"nothing in it":                      {map[string][]byte{segment.SnapshotDir + "/x.new": nil}, -1},
		"one":                                {map[string][]byte{path(1): one.Encode(testLog)}, 1},
		"two":                                {map[string][]byte{path(1): one.Encode(testLog), path(2): two.Encode(testLog)}, 2},
		"the newer damaged":                  {map[string][]byte{path(1): one.Encode(testLog), path(2): flipped}, 1},
		"the newer with a body of no rows":   {map[string][]byte{path(1): one.Encode(testLog), path(2): garbled.Encode(testLog)}, 1},
		"the newer under another name":       {map[string][]byte{path(1): one.Encode(testLog), path(3): two.Encode(testLog)}, 1},
		"the only one damaged":               {map[string][]byte{path(2): flipped}, -1},
		"the only one with a strange body":   {map[string][]byte{path(2): garbled.Encode(testLog)}, -1},
		"the only one is of another log":     {map[string][]byte{path(2): two.Encode(checkpoint.MigrationID{9})}, -1},
		"one of frames that the log has not": {map[string][]byte{path(2): two.Encode(testLog)}, 2},
	} {
		fsys := logOf(t, []any{})
		for name, b := range tc.files {
			fsys[name] = &fstest.MapFile{Data: b}
		}
		view, err := openFS(t, fsys).Snapshot()
		if tc.rows < 0 {
			want := replay.ErrSnapshotsDamaged
			if _, ok := tc.files[path(2)]; !ok {
				want = fs.ErrNotExist
			}
			require.ErrorIs(t, err, want, name)
			require.ErrorContains(t, err, "snapshots/", name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, tc.rows, view.Len(), name)
	}
}

// OpenFS reads the same records from an fs.FS as Open from the directory.
func TestOpenFS_SameAsOpen(t *testing.T) {
	fsys := history(t)
	fromDir, err := replay.Open(onDisk(t, fsys))
	require.NoError(t, err)
	require.Equal(t, recordsOf(t, openFS(t, fsys), replay.Query{}), recordsOf(t, fromDir, replay.Query{}))
}
