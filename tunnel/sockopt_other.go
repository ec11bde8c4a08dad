//go:build !linux && !darwin

package tunnel

// setNotSentLowat does nothing: this system has no such option, and the size
// of a batch alone keeps the queue short.
func setNotSentLowat(uintptr, int) error { return nil }
