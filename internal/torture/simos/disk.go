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

// Disk is a directory, and all below it, whose changes are recorded and whose
// calls can be failed. It is safe for concurrent use; one call at a time is made.
type Disk struct {
	dir string

	mu    sync.Mutex
	ops   []Op
	root  *inode
	trees []tree // by the number of ops after which they hold
	fault
}

// OpKind is the kind of a recorded operation.
type OpKind string

// The kinds of operation. A mark is the caller's own.
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

// Op is one recorded operation that changed what is, or what lasts.
type Op struct {
	Kind   OpKind
	Path   string // relative to the disk's directory; of a rename or a link, the new name
	Offset int64  // of a write; the new size of a truncate
	Length int64  // of a write
	Failed bool   // of a sync
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

// disks are the watched directories. The map is replaced, never changed, so that
// looking into it takes no lock.
var (
	disks   atomic.Pointer[map[string]*Disk]
	disksMu sync.Mutex
)

// Watch begins to record what is done below dir, which must exist. What is there
// is taken for durable. It panics for what it cannot represent, such as symbolic
// links.
func Watch(dir string) *Disk { return WatchImage(dir, ReadImage(dir)) }

// WatchImage is Watch for a directory into which the image has just been
// written.
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

// Stop ends the watch. The record stays.
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

// diskOf is the disk that a path is on, nil where nobody watches.
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

// Ops is the record so far. It must not be changed.
func (d *Disk) Ops() []Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops[:len(d.ops):len(d.ops)]
}

// Mark puts a mark into the record.
func (d *Disk) Mark(v any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.record(Op{Kind: OpMark, Mark: v})
}

func (d *Disk) record(op Op) { d.ops = append(d.ops, op) }

// tree is what the directories hold: what is durable, and the changes since, in
// their order. The maps are replaced, never changed.
type tree struct {
	at      int // number of recorded operations after which it holds
	durable map[*inode]map[string]*inode
	pending []*change
}

// place is a name in a directory.
type place struct {
	dir  *inode
	name string
}

// change is one change to the directories: node is now at to, or nothing is, and
// nothing is at from.
type change struct {
	to   place
	node *inode
	from place // of a rename; else zero
}

// touches reports whether the change is one of this name.
func (c *change) touches(p place) bool { return c.to == p || c.from == p }

// apply makes the change in entries, of which the directories' maps may be
// changed.
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

// treeAt is what the directories held after that many operations.
func (d *Disk) treeAt(at int) tree {
	i := sort.Search(len(d.trees), func(i int) bool { return d.trees[i].at > at })
	return d.trees[i-1]
}

// change notes a change to the directories that has just been recorded.
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

// settle makes a directory's names durable. With a rename from or to another one
// goes what happened to its other name before.
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

// find is the inode that a path names. One that was made past this package, as
// lock files are, is taken for made now.
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

// place is where a path's last name is; its directory exists.
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

// relative is a path below the disk's directory, "" for that itself.
func (d *Disk) relative(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(d.abs(path), d.dir), string(filepath.Separator))
}

// adopt notes what is new at a place. It returns nil where nothing is.
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
