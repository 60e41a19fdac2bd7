package simos

import (
	"io/fs"
	"os"
)

// The types of package os that do not depend on the disk.
type (
	FileInfo     = fs.FileInfo  // os.FileInfo
	FileMode     = fs.FileMode  // os.FileMode
	DirEntry     = fs.DirEntry  // os.DirEntry
	PathError    = fs.PathError // os.PathError
	LinkError    = os.LinkError
	SyscallError = os.SyscallError
)

// The flags of OpenFile, and the bits of a FileMode.
const (
	O_RDONLY = os.O_RDONLY
	O_WRONLY = os.O_WRONLY
	O_RDWR   = os.O_RDWR
	O_APPEND = os.O_APPEND
	O_CREATE = os.O_CREATE
	O_EXCL   = os.O_EXCL
	O_SYNC   = os.O_SYNC
	O_TRUNC  = os.O_TRUNC

	ModeDir     = os.ModeDir
	ModePerm    = os.ModePerm
	ModeSymlink = os.ModeSymlink
	ModeType    = os.ModeType

	PathSeparator = os.PathSeparator
)

// The errors of package os.
var (
	ErrInvalid    = os.ErrInvalid
	ErrPermission = os.ErrPermission
	ErrExist      = os.ErrExist
	ErrNotExist   = os.ErrNotExist
	ErrClosed     = os.ErrClosed
)

// Getpid is like os.Getpid.
func Getpid() int { return os.Getpid() }

// Getenv is like os.Getenv.
func Getenv(key string) string { return os.Getenv(key) }

// Hostname is like os.Hostname.
func Hostname() (string, error) { return os.Hostname() }

// TempDir is like os.TempDir.
func TempDir() string { return os.TempDir() }

// IsExist is like os.IsExist.
func IsExist(err error) bool { return os.IsExist(err) }

// IsNotExist is like os.IsNotExist.
func IsNotExist(err error) bool { return os.IsNotExist(err) }

// SameFile is like os.SameFile.
func SameFile(a, b FileInfo) bool { return os.SameFile(a, b) }
