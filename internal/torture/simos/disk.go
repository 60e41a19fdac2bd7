package simos

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// Disk is a watched directory with everything below it. It records all changes and can make calls
// fail. It is safe for concurrent use, but runs only one call at a time.
type Disk struct {
	dir string

	mu    sync.Mutex
	ops   []Op
	root  *inode
	trees []tree // in the order of tree.at
	fault
}

// OpKind is the kind of a recorded operation.
type OpKind string

// The kinds of operation. A mark is added by the test: see Disk.Mark.
const (
	OpCreate   OpKind = "create"
	OpMkdir    OpKind = "mkdir"
	OpLink     OpKind = "link"
	OpRemove   OpKind = "remove"
	OpRename   OpKind = "rename"
	OpWrite    OpKind = "write"
	OpTruncate OpKind = "truncate"
	OpSync     OpKind = "sync"
	OpSyncDir  OpKind = "sync dir"
	OpMark     OpKind = "mark"
)

// Op is one recorded operation. It changed the content of the disk, or made content durable.
type Op struct {
	Kind   OpKind
	Path   string // relative to the disk's directory; the new name if the operation is a rename or a link
	Offset int64  // of a write; for a truncate, the new size
	Length int64  // of a write; for a truncate, the change of the size
	Failed bool   // true if a sync failed
	Mark   any
}

func (o Op) String() string {
	switch o.Kind {
	case OpMark:
		return fmt.Sprintf("mark %v", o.Mark)
	case OpWrite, OpTruncate:
		return fmt.Sprintf("%s %s at %d, %d bytes", o.Kind, o.Path, o.Offset, o.Length)
	}
	if o.Failed {
		return fmt.Sprintf("%s %s failed", o.Kind, o.Path)
	}
	return fmt.Sprintf("%s %s", o.Kind, o.Path)
}

// disks has the watched directories. The map is replaced and never changed, so that a lookup needs
// no lock.
var (
	disks   atomic.Pointer[map[string]*Disk]
	disksMu sync.Mutex
)

// Watch starts to record all operations below dir, which must exist. It assumes that the present
// content is durable. It panics if it finds a file that it cannot represent, such as a symbolic
// link.
func Watch(dir string) *Disk { return WatchImage(dir, ReadImage(dir)) }

// WatchImage is like Watch, but does not read the directory. The caller must just have written the
// image into it.
func WatchImage(dir string, image *Image) *Disk {
	dir, err := filepath.Abs(dir)
	if err != nil {
		panic(err)
	}
	d := &Disk{dir: dir}
	t := tree{durable: map[*inode]map[string]*inode{}}
	d.root = plant(image, t.durable, map[*Image]*inode{})
	d.trees = []tree{t}
	register(dir, d)
	return d
}

// Stop stops the recording. The operations recorded so far stay available.
func (d *Disk) Stop() { register(d.dir, nil) }

func register(dir string, d *Disk) {
	disksMu.Lock()
	defer disksMu.Unlock()
	next := map[string]*Disk{}
	if old := disks.Load(); old != nil {
		maps.Copy(next, *old)
	}
	if d == nil {
		delete(next, dir)
	} else {
		next[dir] = d
	}
	disks.Store(&next)
}

// diskOf returns the disk that contains the path, or nil if the path is not watched.
func diskOf(path string) *Disk {
	watched := disks.Load()
	if watched == nil || len(*watched) == 0 {
		return nil
	}
	if !filepath.IsAbs(path) {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil
		}
		path = abs
	}
	for path = filepath.Clean(path); ; path = filepath.Dir(path) {
		if d, ok := (*watched)[path]; ok {
			return d
		}
		if len(path) <= 1 {
			return nil
		}
	}
}

// Ops returns the operations recorded so far. The caller must not change them.
func (d *Disk) Ops() []Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops[:len(d.ops):len(d.ops)]
}

// Mark adds a mark to the recorded operations.
func (d *Disk) Mark(v any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.record(Op{Kind: OpMark, Mark: v})
}

func (d *Disk) record(op Op) { d.ops = append(d.ops, op) }

// tree is the content of the directories: the durable names, and the later changes in their order.
// The maps are replaced and never changed.
type tree struct {
	at      int // the tree is valid after this number of recorded operations
	durable map[*inode]map[string]*inode
	pending []*change
}

// place is a name in a directory.
type place struct {
	dir  *inode
	name string
}

// change is one change to the directories. Afterwards the name to belongs to node, or is removed if
// node is nil. The name from is removed.
type change struct {
	to   place
	node *inode
	from place // the zero value unless the change is a rename
}

// touches reports whether the change changes this name.
func (c *change) touches(p place) bool { return c.to == p || c.from == p }

// apply makes the change in entries. It changes the directories' maps in place, so the caller must
// have cloned them.
func (c *change) apply(entries map[*inode]map[string]*inode) {
	if c.from.dir != nil {
		delete(entries[c.from.dir], c.from.name)
	}
	if c.node == nil {
		delete(entries[c.to.dir], c.to.name)
		return
	}
	if entries[c.to.dir] == nil {
		entries[c.to.dir] = map[string]*inode{}
	}
	entries[c.to.dir][c.to.name] = c.node
}

// treeAt returns the content of the directories after the first at operations.
func (d *Disk) treeAt(at int) tree {
	i := sort.Search(len(d.trees), func(i int) bool { return d.trees[i].at > at })
	return d.trees[i-1]
}

// change applies a change of the directories. Its operation must be the last recorded one.
func (d *Disk) change(c *change) {
	if c.from.dir != nil {
		delete(c.from.dir.entries, c.from.name)
	}
	if c.node == nil {
		delete(c.to.dir.entries, c.to.name)
	} else {
		c.to.dir.entries[c.to.name] = c.node
	}
	last := d.trees[len(d.trees)-1]
	pending := append(last.pending[:len(last.pending):len(last.pending)], c)
	d.trees = append(d.trees, tree{at: len(d.ops), durable: last.durable, pending: pending})
}

// settle makes the names in a directory durable. If one of its names was renamed from or to another
// directory, the earlier changes of the name there become durable too.
func (d *Disk) settle(dir *inode) {
	last := d.trees[len(d.trees)-1]
	settled := map[*change]bool{}
	names := map[place]bool{}
	for i := len(last.pending) - 1; i >= 0; i-- {
		c := last.pending[i]
		if c.to.dir == dir || c.from.dir == dir || names[c.to] || c.from.dir != nil && names[c.from] {
			settled[c] = true
			names[c.to], names[c.from] = true, true
		}
	}
	if len(settled) == 0 {
		return
	}
	next := tree{at: len(d.ops), durable: maps.Clone(last.durable)}
	for dir, entries := range next.durable {
		next.durable[dir] = maps.Clone(entries)
	}
	for _, c := range last.pending {
		if settled[c] {
			c.apply(next.durable)
		} else {
			next.pending = append(next.pending, c)
		}
	}
	d.trees = append(d.trees, next)
}

// find returns the inode of a path, or nil if there is none. If a file was made without this
// package, as lock files are, find records its creation now.
func (d *Disk) find(path string) *inode {
	at, below := d.root, d.dir
	for _, name := range d.names(path) {
		below = filepath.Join(below, name)
		next := at.entries[name]
		if next == nil {
			if next = d.adopt(place{at, name}, below); next == nil {
				return nil
			}
		}
		at = next
	}
	return at
}

// place returns the directory and the last name of a path. The directory must exist.
func (d *Disk) place(path string) place {
	return place{d.find(filepath.Dir(d.abs(path))), filepath.Base(path)}
}

func (d *Disk) names(path string) []string {
	relative := d.relative(path)
	if relative == "" {
		return nil
	}
	return strings.Split(relative, string(filepath.Separator))
}

func (d *Disk) abs(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return abs
}

// relative returns the path relative to the disk's directory, or "" for that directory itself.
func (d *Disk) relative(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(d.abs(path), d.dir), string(filepath.Separator))
}

// adopt records the creation of a file or directory that it finds at path. It returns nil if
// nothing is there.
func (d *Disk) adopt(at place, path string) *inode {
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	node := &inode{path: d.relative(path)}
	kind := OpCreate
	if info.IsDir() {
		kind, node.entries = OpMkdir, map[string]*inode{}
	} else {
		node.history = []content{{at: len(d.ops)}}
	}
	d.record(Op{Kind: kind, Path: node.path})
	d.change(&change{to: at, node: node})
	if info.Mode().IsRegular() && info.Size() > 0 {
		b, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		d.write(node, 0, b)
	}
	return node
}

func isDir(info fs.FileInfo, err error) bool { return err == nil && info.IsDir() }
