package simos

import (
	"sort"
)

// SectorBytes is the number of bytes that a device writes atomically.
const SectorBytes = 512

// inode is a file or a directory. It does not depend on its names.
type inode struct {
	path    string            // the first path, for the recorded operations
	entries map[string]*inode // the present entries of a directory; nil for a file
	history []content         // of a file, in the order of content.at
	bytes   [][]byte          // content of a file after each change
}

// content is the content of a file, and the versions of it that may be on the device. It is
// replaced and never changed.
type content struct {
	at        int     // the content is valid after this number of recorded operations
	sizes     []int64 // any of them may be on the device; the first was synced
	unsynced  bool    // the next sync writes the size
	sectors   []sector
	sizeBytes int64 // as a read returns it
}

// sector is a sector of a file.
type sector struct {
	versions []int // indexes into inode.bytes; any of them may be on the device; the first was synced
	unsynced bool  // the next sync writes the last version
}

// newFile returns a file with durable bytes.
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

// contentAt returns the content of the file after the first at operations.
func (n *inode) contentAt(at int) content {
	i := sort.Search(len(n.history), func(i int) bool { return n.history[i].at > at })
	return n.history[max(0, i-1)]
}

// write records that b was written to a file.
func (d *Disk) write(n *inode, offset int64, b []byte) {
	if len(b) == 0 {
		return
	}
	d.record(Op{Kind: OpWrite, Path: n.path, Offset: offset, Length: int64(len(b))})
	before := n.latest()
	var after []byte
	if offset == int64(len(before)) {
		after = append(before, b...) // no other version uses the capacity after before
	} else {
		after = make([]byte, max(int64(len(before)), offset+int64(len(b))))
		copy(after, before)
		copy(after[offset:], b)
	}
	d.revise(n, after, offset, offset+int64(len(b)))
}

// truncate records a new size of a file. The bytes that it removes count as overwritten with
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

// latest returns the bytes that a read returns. Only an append may use the capacity after them.
func (n *inode) latest() []byte {
	if len(n.bytes) == 0 {
		n.bytes = [][]byte{nil}
	}
	return n.bytes[len(n.bytes)-1]
}

// revise adds a new version of a file's bytes. It differs from the last version only between from
// and to.
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
		c.sectors[i].versions = []int{0} // reads as zeros, because nothing was written here
	}
	for i := int(from / SectorBytes); i < min(sectorsIn(to), len(c.sectors)); i++ {
		v := c.sectors[i].versions
		c.sectors[i] = sector{append(v[:len(v):len(v)], version), true}
	}
	n.history = append(n.history, c)
}

// sync records a sync of a file. If it failed, later syncs do not write its unsynced sectors
// again.
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
