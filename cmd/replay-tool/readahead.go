package main

import (
	"iter"

	"migrationlog/replay"
)

// readAhead yields the given records, which another goroutine reads and decodes.
func readAhead(records iter.Seq2[replay.Record, error]) iter.Seq2[replay.Record, error] {
	return replay.ReadAhead(records)
}
