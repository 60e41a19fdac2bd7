package migrationlog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
	"migrationlog/replay"
)

// The logs of a replicated store in testdata read as on the day when they were written: the same
// events with their positions, and the same rows, from the frames alone and with the snapshots. The
// digests in them are those of the events and rows before them, computed as docs/FORMAT.md says.
func TestGoldenLogs_Replicated(t *testing.T) {
	for _, name := range []string{"applied", "restored"} {
		dir := filepath.Join("testdata/golden/v1-replicated", name)
		log := filepath.Join(dir, "log")
		before := hashes(t, dir)
		var events strings.Builder
		view, sums := projection.New(), digests{}
		reader, err := replay.Open(log)
		require.NoError(t, err)
		scanned := 0
		for item, err := range segment.NewScan(os.DirFS(log), directoryOf(t, log), segment.ScanOptions{}).Items() {
			require.NoError(t, err)
			require.Nil(t, item.Damage)
			record := replay.Decode(item)
			fmt.Fprintln(&events, eventText(t, record))
			sums.add(t, view, record, item.Frame.Body)
			scanned++
		}
		require.Equal(t, readText(t, dir, "events.txt"), events.String(), name)
		require.Equal(t, readText(t, dir, "rows.txt"), rowsText(t, view), name)
		report, err := reader.Verify(t.Context())
		require.NoError(t, err)
		require.True(t, report.Clean(), "%s: %+v", name, report)
		require.EqualValues(t, scanned, report.FramesOK)
		fold, err := reader.FoldTo(t.Context(), replay.Point{})
		require.NoError(t, err)
		require.Equal(t, readText(t, dir, "rows.txt"), rowsText(t, fold.View), "%s: from a snapshot", name)
		require.Equal(t, before, hashes(t, dir))
	}
}

// digests computes the digests of a replicated log.
type digests struct{ chain [32]byte }

// add applies the next event to the view. If the event is a digest, add requires that it has the
// digests of the events before it.
func (d *digests) add(t *testing.T, view *projection.View, r replay.Record, body []byte) {
	restored := false
	switch e := r.Event.(type) {
	case checkpoint.Digest:
		if d.chain == [32]byte{} { // the digest after the restored events continues another log
			d.chain = e.Chain
			view.RaiseEpoch(e.Epoch)
		}
		require.Equal(t, view.Epoch(), e.Epoch, "seq %d", r.Seq)
		require.Equal(t, stateDigestOf(t, view), e.State, "seq %d", r.Seq)
		require.Equal(t, d.chain, e.Chain, "seq %d", r.Seq)
	case checkpoint.Restored:
		restored = true
	}
	if _, isDigest := r.Event.(checkpoint.Digest); !isDigest && !restored {
		d.chain = sha256.Sum256(append(d.chain[:], body...))
	}
	if r.Unknown != nil {
		c := projection.UnknownChange(r.Unknown.MigrationID)
		c.SetIndex(r.RaftIndex)
		view.ApplyChange(r.Seq, r.PrevSeq, c)
		return
	}
	c := projection.ChangeOf(r.Event)
	c.SetIndex(r.RaftIndex)
	view.ApplyChange(r.Seq, r.PrevSeq, c)
}

// stateDigestOf returns the state digest of a view.
func stateDigestOf(t *testing.T, view *projection.View) [32]byte {
	sum := new(big.Int)
	for at := range view.RowSlots() {
		b, err := at.AppendRestored(nil)
		require.NoError(t, err)
		hash := sha256.Sum256(b)
		sum.Add(sum, new(big.Int).SetBytes(hash[:]))
	}
	sum.Mod(sum, new(big.Int).Lsh(big.NewInt(1), 256))
	input := binary.BigEndian.AppendUint64([]byte("migrationlog state 1"), view.Epoch())
	input = binary.BigEndian.AppendUint64(input, uint64(view.Len()))
	return sha256.Sum256(append(input, sum.FillBytes(make([]byte, 32))...))
}

// eventText returns a line with the content of a record.
func eventText(t *testing.T, r replay.Record) string {
	kind, id := "unknown", checkpoint.MigrationID{}
	if r.Unknown != nil {
		id = r.Unknown.MigrationID
	} else {
		kind, id = checkpoint.KindOf(r.Event).String(), r.Event.Migration()
	}
	line := fmt.Sprintf("seq %d prev %d index %d term %d epoch %d ms %d %s %s", r.Seq, r.PrevSeq, r.RaftIndex, r.RaftTerm, r.Epoch(), r.WallMS(), kind, id)
	switch e := r.Event.(type) {
	case checkpoint.Upserted:
		line += fmt.Sprintf(" attempt %d %+v", e.Checkpoint.Attempt, e.Checkpoint.Payload)
	case checkpoint.Restored:
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		line += fmt.Sprintf(" attempt %d %+v encoded %x", e.Checkpoint.Attempt, e.Checkpoint.Payload, b)
	case checkpoint.Aborted:
		line += fmt.Sprintf(" %q %+v", e.Reason, e.Compensations)
	case checkpoint.AbortBegun:
		line += fmt.Sprintf(" %q %+v", e.Reason, e.Compensations)
	case checkpoint.Compensated:
		line += fmt.Sprintf(" step %d", e.Step)
	case checkpoint.Digest:
		line += fmt.Sprintf(" state %x chain %x", e.State, e.Chain)
	}
	return line
}

// rowsText returns a line for each row of a view.
func rowsText(t *testing.T, view *projection.View) string {
	var lines bytes.Buffer
	for row := range view.Rows() {
		b, err := view.AppendRestored(nil, row.Checkpoint.MigrationID)
		require.NoError(t, err)
		fmt.Fprintf(&lines, "%s seq %d last %d index %d began %d restored %x\n",
			row.Checkpoint.MigrationID, row.Seq, row.LastSeq, row.LastIndex, row.Facts.BeganSeq, b)
	}
	return lines.String()
}

func readText(t *testing.T, dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(b)
}

func directoryOf(t *testing.T, dir string) segment.Directory {
	m, _, err := segment.ReadManifest(os.DirFS(dir))
	require.NoError(t, err)
	return segment.Directory{Manifest: m}
}
