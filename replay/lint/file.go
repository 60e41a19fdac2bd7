package lint

import (
	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// fileRows has the rows that the import of a file would make. It links each line to the line before
// it of the same incarnation, as the frames of a log are linked.
type fileRows map[checkpoint.MigrationID]fileRow

type fileRow struct {
	phase   checkpoint.Phase
	attempt uint32
	last    uint64 // the incarnation's last line
}

// fileEffect is the effect that a line would have in an import.
type fileEffect uint8

const (
	fileAppend    fileEffect = iota
	fileDuplicate            // the row has its phase and attempt
	fileAbsent               // an abort or a removal without a row
)

// next sets the link of the next line, and returns its effect.
func (f fileRows) next(r *replay.Record) fileEffect {
	id, ok := r.Migration()
	if !ok {
		return fileAppend
	}
	row, has := f[id]
	r.PrevSeq = row.last
	row.last = r.Seq
	switch r.Event.(type) {
	case checkpoint.Upserted, checkpoint.Restored:
		c, _ := r.Checkpoint()
		if has && row.phase == c.Phase() && row.attempt == c.Attempt {
			return fileDuplicate
		}
		row.phase, row.attempt = c.Phase(), c.Attempt
	case checkpoint.Aborted, checkpoint.Removed:
		delete(f, id)
		if !has {
			return fileAbsent
		}
		return fileAppend
	}
	f[id] = row
	return fileAppend
}
