package netns

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The files that tell programs how names are resolved.
const (
	resolvConf = "/etc/resolv.conf"
	nsswitch   = "/etc/nsswitch.conf"
)

// nameServices are the sockets by which the C library and its modules ask daemons
// of this machine for names, which would go out by the machine's own network.
var nameServices = []string{
	"/run/nscd/socket", "/var/run/nscd/socket", "/run/.nscd_socket",
	"/run/systemd/resolve/io.systemd.Resolve", "/run/avahi-daemon/socket",
}

// stages are directories for the files in the making: any will do that none of
// the above lies in.
var stages = []string{"/tmp", "/mnt", "/sys"}

// bindResolver puts an own resolv.conf and nsswitch.conf over those of the machine,
// in this process's mount namespace, and something dead over the sockets of its
// name services. It returns a descriptor of the resolv.conf to be written.
func bindResolver() (fd int, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("mount namespace: %w", err)
	}
	stage, err := mountStage()
	if err != nil {
		return -1, err
	}
	if fd, err = bindFiles(stage); err != nil {
		return -1, err
	}
	if err := unix.Unmount(stage, unix.MNT_DETACH); err != nil {
		return -1, fmt.Errorf("unmount %s: %w", stage, err)
	}
	return fd, nil
}

func mountStage() (string, error) {
	err := error(fs.ErrNotExist)
	for _, dir := range stages {
		if err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=1m"); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("mount tmpfs: %w", err)
}

func bindFiles(stage string) (fd int, err error) {
	own := filepath.Join(stage, "resolv.conf")
	fd, err = unix.Open(own, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", own, err)
	}
	// Without it the command would look for a name server on its own loopback.
	if err := bind(own, resolvConf); err != nil {
		return -1, err
	}
	switchConf, err := os.ReadFile(nsswitch)
	if err == nil {
		own = filepath.Join(stage, "nsswitch.conf")
		if err := os.WriteFile(own, withHosts(switchConf), 0o444); err != nil {
			return -1, err
		}
		if err := bind(own, nsswitch); err != nil {
			return -1, err
		}
	}
	own = filepath.Join(stage, "dead")
	if err := os.WriteFile(own, nil, 0); err != nil {
		return -1, err
	}
	for _, socket := range nameServices {
		if err := bind(own, socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return -1, err
		}
	}
	return fd, nil
}

// bind puts one file over another.
func bind(file, over string) error {
	if err := unix.Mount(file, over, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind over %s: %w", over, err)
	}
	return nil
}

// withHosts is an nsswitch.conf(5) by which names are looked up in /etc/hosts and
// in the DNS, and nowhere else.
func withHosts(conf []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(conf) {
		if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("hosts:")) {
			b.Write(line)
		}
	}
	if n := b.Len(); n > 0 && b.Bytes()[n-1] != '\n' {
		b.WriteByte('\n')
	}
	b.WriteString("hosts: files dns\n")
	return b.Bytes()
}

// writeResolver makes f name the servers.
func writeResolver(f *os.File, servers []netip.Addr) error {
	b := []byte("# of the tunnel\n")
	for _, a := range servers {
		b = fmt.Appendf(b, "nameserver %v\n", a)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(b)))
}
