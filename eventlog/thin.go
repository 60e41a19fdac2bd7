package eventlog

import "math"

// A log keeps its newest two snapshots. An opening starts from the newest one, or from the second
// one if the newest is damaged. It also keeps some of the older ones, from which a reader rebuilds
// an earlier state.
const (
	newestSnapshots = 2
	// SnapshotGapEvents is the gap up to which older snapshots are removed. Reading that many events
	// takes less than a second.
	SnapshotGapEvents = 1 << 18
	// olderBytesPerEvent limits the total size of the older snapshots, for each event of the log. The
	// smallest frame of a checkpoint has about 90 bytes, so they take less than a tenth of the log.
	olderBytesPerEvent = 8
)

// snapshotFile is the content of a directory entry in snapshots/.
type snapshotFile struct {
	name      string
	seq       uint64 // of its last event
	sizeBytes int64
}

// superfluousSnapshots returns the snapshots that a log with that many events need not keep. The
// argument has all snapshots, oldest first.
//
// An older snapshot is superfluous if its two neighbors are at most gapEvents apart. The beginning
// of the log counts as a neighbor, because the state there is known. If the other older snapshots
// are too large together, the gap is doubled until they are not.
//
// The result depends only on the arguments. If only some of the superfluous snapshots were removed,
// no gap is wider than it would be otherwise, and the next call returns the others.
func superfluousSnapshots(files []snapshotFile, gapEvents, events uint64) []snapshotFile {
	for ; ; gapEvents *= 2 {
		superfluous, keptBytes := thinSnapshots(files, gapEvents)
		if uint64(keptBytes) <= events*olderBytesPerEvent || gapEvents > math.MaxUint64/2 {
			return superfluous
		}
	}
}

// thinSnapshots returns the older snapshots that are superfluous with this gap, and the size of the
// other older ones.
func thinSnapshots(files []snapshotFile, gapEvents uint64) (superfluous []snapshotFile, keptBytes int64) {
	before := uint64(0)
	for i := range max(0, len(files)-newestSnapshots) {
		if files[i+1].seq-before <= gapEvents {
			superfluous = append(superfluous, files[i])
			continue
		}
		before = files[i].seq
		keptBytes += files[i].sizeBytes
	}
	return superfluous, keptBytes
}
