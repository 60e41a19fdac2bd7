// Package segment knows the bytes of a log: the frame, the segment file, the
// manifest, the watermark, and how to find every whole frame in files that may be
// damaged anywhere.
//
// It refuses to write a file or to know what a frame's body means. It reads
// through fs.FS alone, so that what is built on it cannot change a log. The
// byte map is docs/FORMAT.md.
package segment
