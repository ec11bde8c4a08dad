//go:build darwin || freebsd

package proxy

import "golang.org/x/sys/unix"

// credentialsOf returns the user at the other end when it connected (unix(4),
// LOCAL_PEERCRED).
func credentialsOf(fd int) (uid uint32, err error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
