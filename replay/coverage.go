package replay

import "migrationlog/eventlog/segment"

// Coverage counts the segments of a log that a query has read. A query leaves out segments that
// cannot contain its answer. It compares their sizes and last headers with their summaries, or their
// first and last numbers with their neighbors. Damage in the middle of such a segment is not noticed.
type Coverage struct {
	Read      int `json:"segments_read"`
	Unchecked int `json:"segments_unchecked"`
}

// coverageOf returns the coverage of a scan.
func coverageOf(s *segment.Scan) Coverage {
	read, all := s.Read()
	return Coverage{Read: read, Unchecked: all - read}
}
