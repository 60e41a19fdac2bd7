// Package simos knows the operations of a program on a disk, the faults of the disk, and the possible
// contents of the disk after a power cut. It refuses to know the program.
//
// It has those functions and types of package os that the log needs, with the same signatures, and
// passes every call on to the real file system. If the path is below a watched directory, a [Disk]
// also records the changes, and can make a call fail. See [Watch], [Disk.FailAt] and [Disk.Cut].
//
// # The disk after a power cut
//
// The rules are those of POSIX, not those of one file system:
//
//   - Sectors of 512 bytes are atomic. If a sector was written after the last sync of its file, it
//     has the synced content or the content after any later write.
//   - The size of a file is the synced size or the size after any later change.
//   - A name in a directory has the state of the directory's last sync or the state after any later
//     change of the name. Names are independent of each other and of the content of the files. A
//     rename changes both names or neither. It is durable as soon as one of the two directories is
//     synced.
//   - If the sync of a file fails, the unsynced bytes stay readable, but no later sync writes them
//     unless they are written again. Linux behaves in this way. If the sync of a directory fails,
//     nothing changes, because a file system that cannot write its journal stops and loses nothing
//     from memory.
package simos
