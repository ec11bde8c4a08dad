//go:build !unix

package main

import "os"

// checkPrivate knows nothing of this system's permissions: a new file has those
// that its folder gives.
func checkPrivate(os.FileInfo) error { return nil }
