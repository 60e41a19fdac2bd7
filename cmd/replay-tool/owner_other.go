//go:build !unix

package main

import "os"

// ownerOf returns false: this system has no user ids.
func ownerOf(os.FileInfo) (uid int, ok bool) { return 0, false }

// isReadOnly returns false: this system has no such error.
func isReadOnly(error) bool { return false }
