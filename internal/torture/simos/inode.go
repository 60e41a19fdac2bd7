package simos

import (
	"sort"
)

// SectorBytes is what a device writes all at once.
const SectorBytes = 512

// inode is a file or a directory, whatever names it has.
type inode struct {
	path    string            // its first one, for the record
	entries map[string]*inode // of a directory, as they are; nil for a file
	history []content         // of a file, by the number of operations after which it holds
	bytes   [][]byte          // of a file, after each change; a content names them by position
}

// content is what is in a file, and what of it may be on the device. It is
// replaced, never changed.
type content struct {
	at        int // number of recorded operations after which it holds
	sizes     []int64
	unsynced  bool // the size is to be written by the next sync
	sectors   []sector
	sizeBytes int64 // as a reader sees it
}

// sector is a sector of a file.
type sector struct {
	versions []int // positions in the inode's bytes, of which any may be on the device; the first was synced
	unsynced bool  // the last is to be written by the next sync
}

// newFile is a file with durable bytes.
func newFile(path string, b []byte) *inode {
	c := content{sizes: []int64{int64(len(b))}, sizeBytes: int64(len(b)), sectors: make([]sector, sectorsIn(int64(len(b))))}
	for i := range c.sectors {
		c.sectors[i].versions = []int{0}
	}
	return &inode{path: path, history: []content{c}, bytes: [][]byte{b[:len(b):len(b)]}}
}

func sectorsIn(sizeBytes int64) int { return int((sizeBytes + SectorBytes - 1) / SectorBytes) }

func (n *inode) isDir() bool { return n.entries != nil }

func (n *inode) last() content { return n.history[len(n.history)-1] }

// contentAt is the file's content after that many operations.
func (n *inode) contentAt(at int) content {
	i := sort.Search(len(n.history), func(i int) bool { return n.history[i].at > at })
	return n.history[max(0, i-1)]
}

// write notes bytes that were written to a file.
func (d *Disk) write(n *inode, offset int64, b []byte) {
	if len(b) == 0 {
		return
	}
	d.record(Op{Kind: OpWrite, Path: n.path, Offset: offset, Length: int64(len(b))})
	before := n.latest()
	var after []byte
	if offset == int64(len(before)) {
		after = append(before, b...) // what is behind before is nobody's
	} else {
		after = make([]byte, max(int64(len(before)), offset+int64(len(b))))
		copy(after, before)
		copy(after[offset:], b)
	}
	d.revise(n, after, offset, offset+int64(len(b)))
}

// truncate notes a file's new size. What is cut off counts as written, with
// zeros.
func (d *Disk) truncate(n *inode, sizeBytes int64) {
	before := n.latest()
	if int64(len(before)) == sizeBytes {
		return
	}
	d.record(Op{Kind: OpTruncate, Path: n.path, Offset: sizeBytes, Length: sizeBytes - int64(len(before))})
	after := make([]byte, sizeBytes)
	copy(after, before)
	d.revise(n, after, min(sizeBytes, int64(len(before))), int64(len(before)))
}

// latest is what a reader sees. Only an appender may use what is behind it.
func (n *inode) latest() []byte {
	if len(n.bytes) == 0 {
		n.bytes = [][]byte{nil}
	}
	return n.bytes[len(n.bytes)-1]
}

// revise notes a file's new bytes, which differ from the last between from and
// to.
func (d *Disk) revise(n *inode, after []byte, from, to int64) {
	version := len(n.bytes)
	n.bytes = append(n.bytes, after)
	last := n.last()
	c := content{at: len(d.ops), sizeBytes: int64(len(after)), unsynced: true}
	c.sizes = append(last.sizes[:len(last.sizes):len(last.sizes)], c.sizeBytes)
	if len(last.sizes) == 0 {
		c.sizes = []int64{0, c.sizeBytes}
	}
	c.sectors = make([]sector, max(len(last.sectors), sectorsIn(c.sizeBytes)))
	copy(c.sectors, last.sectors)
	for i := len(last.sectors); i < len(c.sectors); i++ {
		c.sectors[i].versions = []int{0} // zeros: nothing was ever there
	}
	for i := int(from / SectorBytes); i < min(sectorsIn(to), len(c.sectors)); i++ {
		v := c.sectors[i].versions
		c.sectors[i] = sector{append(v[:len(v):len(v)], version), true}
	}
	n.history = append(n.history, c)
}

// sync notes that a file was synced, or that it failed: then nothing of it will
// be tried again.
func (d *Disk) sync(n *inode, failed bool) {
	d.record(Op{Kind: OpSync, Path: n.path, Failed: failed})
	last := n.last()
	c := last
	c.at, c.unsynced = len(d.ops), false
	if last.unsynced && !failed {
		c.sizes = []int64{last.sizeBytes}
	}
	c.sectors = make([]sector, len(last.sectors))
	for i, s := range last.sectors {
		if s.unsynced && !failed {
			s.versions = s.versions[len(s.versions)-1:]
		}
		s.unsynced = false
		c.sectors[i] = s
	}
	n.history = append(n.history, c)
}
