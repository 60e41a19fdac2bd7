package main

import (
	"bytes"
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// log, show and info handle every kind of event, and --kind filters by it.
func TestKinds_AreShown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "testdata/kinds.ndjson"}, nil, io.Discard, io.Discard))
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	shown := map[checkpoint.Kind]bool{}
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		shown[checkpoint.KindOf(r.Event)] = true
		var out bytes.Buffer
		require.Zero(t, run(t.Context(), []string{"log", dir, "-q", "--kind", string(r.Kind())}, nil, &out, io.Discard), r.Kind())
		require.Contains(t, out.String(), stepOf(r))
		require.NotContains(t, out.String(), "newer version")
		id, _ := r.Migration()
		out.Reset()
		require.Zero(t, run(t.Context(), []string{"show", dir, id.String()}, nil, &out, io.Discard))
		require.Contains(t, out.String(), stepOf(r))
		require.NotContains(t, out.String(), "newer version")
		out.Reset()
		require.Zero(t, run(t.Context(), []string{"info", dir, "-o", "json"}, nil, &out, io.Discard))
		require.Contains(t, out.String(), `"`+string(r.Kind())+`"`)
	}
	for _, kind := range checkpoint.Kinds() {
		require.True(t, shown[kind], "testdata/kinds.ndjson has no line of kind %s", kind)
	}
}
