// Package simos knows what a program does to a disk, what the disk may do to the
// program, and what may be on it after a power cut. It refuses to know the program.
//
// It has the names and signatures of package os, as far as the log needs them,
// and passes every call on to the real file system. Below a directory that is
// watched, a [Disk] records what changes and fails the calls that it is told to
// fail: see [Watch], [Disk.FailAt] and [Disk.Cut].
//
// # What a power cut leaves
//
// The rules are those of POSIX, not those of one file system:
//
//   - Sectors of 512 bytes are atomic. One that was written since its file was last
//     synced holds what the device had, or what it was after any write since.
//   - A file's size is the one that was synced, or that after any change since.
//   - A name in a directory is as it was when the directory was last synced, or as
//     after any change since. Names are independent of each other, and of what is in
//     the files. A rename changes both its names or neither, and is durable as soon
//     as one of the two directories is synced.
//   - A failed sync of a file leaves what was unsynced readable and no longer
//     unsynced: no later sync writes it, unless it is written to again. That is what
//     Linux does. A failed sync of a directory changes nothing: a file system that
//     cannot write its journal stops, and does not forget.
package simos
