package segment

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"path"

	"github.com/google/uuid"
)

// SummaryDir holds summaries of segments. A summary answers queries about its segment without
// reading it. A log needs no summary: a reader that finds none reads the segment. A file has the
// name of its segment.
const SummaryDir = "index"

// A summary is a head of summaryHeadBytes and SummarySections sections. All integers are
// little-endian.
//
//	0        4        8       16       24       32       40       44                    104    108
//	┌────────┬────────┬────────┬────────┬────────┬────────┬────────┬─────────────────────┬──────┬──────────┐
//	│ magic, │ last   │ first  │ last   │ size of│ offset │ next   │ for each section:   │ head │ sections │
//	│ version│ frame's│ seq    │ seq    │ the    │ of the │ frame's│ length, 8 bytes, and│ CRC  │          │
//	│        │ header │        │        │ segment│ last   │ header │ CRC32C, 4 bytes     │ 32C  │          │
//	│        │ CRC32C │        │        │        │ frame  │ CRC32C │                     │      │          │
//	└────────┴────────┴────────┴────────┴────────┴────────┴────────┴─────────────────────┴──────┴──────────┘
//
// The head's CRC32C is computed over the bytes before it, followed by the 16 bytes of the log's
// UUID. Each section has a checksum of its own, so that a reader can read only the small ones.
const (
	summaryNextOffset  = 40
	summaryTableOffset = summaryNextOffset + 4
	summaryEntryBytes  = 12
	summaryCRCOffset   = summaryTableOffset + SummarySections*summaryEntryBytes
	summaryHeadBytes   = summaryCRCOffset + 4
)

// SummarySections is the number of sections of a summary. Package summary defines their content.
const SummarySections = 5

// SummaryVersion is the version of the summaries that are written. Summaries of other versions are
// ignored.
const SummaryVersion = 1

// summaryMagic is the first four bytes of a summary of this version.
var summaryMagic = [4]byte{0xF7, 'M', 'I', SummaryVersion}

// firstSummaryRead is the number of bytes that OpenSummary reads. They usually have the head and the
// small sections.
const firstSummaryRead = 16 << 10

// SummaryHead identifies the segment of a summary.
type SummaryHead struct {
	FirstSeq, LastSeq uint64
	SizeBytes         int64  // of the segment's file, including unused space
	LastOffset        int64  // of the last frame's header in the segment
	LastHeaderCRC32C  uint32 // in the last frame's header
	NextHeaderCRC32C  uint32 // in the header of the frame LastSeq+1, the next segment's first; 0 if not known
}

// Name returns the file name of the summary and of its segment.
func (h SummaryHead) Name() string { return Name(h.FirstSeq) }

// Matches reports whether the segment in wal/ still has the size and the last frame that it had
// when the summary was built. It reads only the last frame's header. A segment that matches may
// still be damaged in the middle. For a missing segment,
// Matches returns false and no error.
func (h SummaryHead) Matches(fsys fs.FS, log uuid.UUID) (bool, error) {
	f, err := fsys.Open(path.Join(WALDir, h.Name()))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != h.SizeBytes {
		return false, err
	}
	header, err := readAt(f, h.LastOffset, HeaderBytes)
	if err != nil {
		return false, err
	}
	found, _, ok := parseHeader(header, &log)
	//mutant:summary-of-this-segment
	return ok && found.Seq == h.LastSeq && binary.LittleEndian.Uint32(header[headerCRCOffset:]) == h.LastHeaderCRC32C, nil
}

// FirstHeaderCRC32C returns the checksum in the header of a segment's first frame. It returns false if
// the segment cannot be read, has no frame yet, or does not begin with an intact header of the number
// in its name.
func FirstHeaderCRC32C(fsys fs.FS, name string, log uuid.UUID) (crc32c uint32, ok bool) {
	first, _ := ParseName(name)
	info, err := fs.Stat(fsys, path.Join(WALDir, name))
	if err != nil || !info.Mode().IsRegular() {
		return 0, false
	}
	f, err := fsys.Open(path.Join(WALDir, name))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	start, err := readAt(f, 0, maxPrefixBytes+HeaderBytes)
	if err != nil {
		return 0, false
	}
	for id := range IntactHeaders(start, log, first) {
		return id.HeaderCRC32C, id.Seq == first
	}
	return 0, false
}

// Summary is a whole summary in memory.
type Summary struct {
	SummaryHead
	Sections [SummarySections][]byte
}

// Section returns the section with the index i, as that of a SummaryFile does.
func (s Summary) Section(i int) ([]byte, bool) { return s.Sections[i], true }

// Encode returns the content of the summary's file.
func (s Summary) Encode(log uuid.UUID) []byte {
	sizeBytes := summaryHeadBytes
	for _, section := range s.Sections {
		sizeBytes += len(section)
	}
	b := append(make([]byte, 0, sizeBytes), summaryMagic[:]...)
	b = binary.LittleEndian.AppendUint32(b, s.LastHeaderCRC32C)
	b = binary.LittleEndian.AppendUint64(b, s.FirstSeq)
	b = binary.LittleEndian.AppendUint64(b, s.LastSeq)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.SizeBytes))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.LastOffset))
	b = binary.LittleEndian.AppendUint32(b, s.NextHeaderCRC32C)
	for _, section := range s.Sections {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(section)))
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(section, castagnoli))
	}
	b = binary.LittleEndian.AppendUint32(b, summaryCRC(b, &log))
	for _, section := range s.Sections {
		b = append(b, section...)
	}
	return b
}

func summaryCRC(head []byte, log *uuid.UUID) uint32 {
	return crc32.Update(crc32.Checksum(head[:summaryCRCOffset], castagnoli), castagnoli, log[:])
}

// SummaryFile is a summary whose sections are read when they are needed. It keeps no file open. It
// does not change, so several goroutines may use it.
type SummaryFile struct {
	SummaryHead
	fsys    fs.FS
	start   []byte // the first bytes of the file
	offsets [SummarySections + 1]int64
	crc32cs [SummarySections]uint32
}

// OpenSummary reads the head of a segment's summary. It returns false if there is no summary of this
// log and this version with that name, or if its head or its size is damaged.
func OpenSummary(fsys fs.FS, name string, log uuid.UUID) (*SummaryFile, bool) {
	info, err := fs.Stat(fsys, path.Join(SummaryDir, name))
	if err != nil || !info.Mode().IsRegular() {
		return nil, false
	}
	f, err := fsys.Open(path.Join(SummaryDir, name))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	start, err := readAt(f, 0, firstSummaryRead)
	s := &SummaryFile{fsys: fsys, start: start}
	if err != nil || !s.decodeHead(&log) || s.Name() != name || s.offsets[SummarySections] != info.Size() {
		return nil, false
	}
	return s, true
}

// decodeHead decodes the head from the first bytes of the file.
func (s *SummaryFile) decodeHead(log *uuid.UUID) bool {
	b := s.start
	//mutant:summary-head-checksum
	if len(b) < summaryHeadBytes || [4]byte(b) != summaryMagic || binary.LittleEndian.Uint32(b[summaryCRCOffset:]) != summaryCRC(b, log) {
		return false
	}
	s.SummaryHead = SummaryHead{
		LastHeaderCRC32C: binary.LittleEndian.Uint32(b[4:]),
		FirstSeq:         binary.LittleEndian.Uint64(b[8:]), LastSeq: binary.LittleEndian.Uint64(b[16:]),
		SizeBytes: int64(binary.LittleEndian.Uint64(b[24:])), LastOffset: int64(binary.LittleEndian.Uint64(b[32:])),
		NextHeaderCRC32C: binary.LittleEndian.Uint32(b[summaryNextOffset:]),
	}
	s.offsets[0] = summaryHeadBytes
	for i := range s.crc32cs {
		entry := b[summaryTableOffset+i*summaryEntryBytes:]
		s.offsets[i+1] = s.offsets[i] + int64(binary.LittleEndian.Uint64(entry))
		s.crc32cs[i] = binary.LittleEndian.Uint32(entry[8:])
		if s.offsets[i+1] < s.offsets[i] {
			return false
		}
	}
	return s.FirstSeq > 0 && s.LastSeq >= s.FirstSeq && s.LastSeq <= MaxSeq && s.LastOffset >= 0
}

// Section returns the section with the index i. It returns false if the section cannot be read or is
// damaged. The caller must not change the bytes.
func (s *SummaryFile) Section(i int) ([]byte, bool) {
	from, to := s.offsets[i], s.offsets[i+1]
	var section []byte
	if to <= int64(len(s.start)) {
		section = s.start[from:to]
	} else {
		f, err := s.fsys.Open(path.Join(SummaryDir, s.Name()))
		if err != nil {
			return nil, false
		}
		defer f.Close()
		section, err = readAt(f, from, int(to-from))
		if err != nil || int64(len(section)) != to-from {
			return nil, false
		}
	}
	//mutant:summary-section-checksum
	return section, crc32.Checksum(section, castagnoli) == s.crc32cs[i]
}

// SummaryNames returns the names of the files in index/ that have a segment's name, in the order of
// their segments. It is not an error if the log has none.
func SummaryNames(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, SummaryDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, ok := ParseName(e.Name()); ok && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
