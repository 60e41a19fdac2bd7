// Package segment encodes and reads the files of a log: frames, segments, the manifest, the
// watermark and snapshots. It finds every intact frame in files that may be damaged anywhere.
//
// It refuses to write a file or to know what a frame's body means. It reads only through fs.FS, so
// that it cannot change a log. docs/FORMAT.md has the byte map.
package segment
