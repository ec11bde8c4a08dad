package netns

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The files that tell programs how names are resolved.
const (
	resolvConf = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
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

// bindResolver puts own files over those of the machine, in this process's mount
// namespace, and something dead over the sockets of its name services. It returns
// descriptors of the resolv.conf and the hosts file, which are to be written.
func bindResolver() (resolv, hosts int, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, -1, fmt.Errorf("mount namespace: %w", err)
	}
	stage, err := mountStage()
	if err != nil {
		return -1, -1, err
	}
	if resolv, err = bindEmpty(stage, resolvConf); err != nil {
		return -1, -1, err
	}
	if hosts, err = bindEmpty(stage, hostsFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return -1, -1, err
	}
	if err := bindOthers(stage); err != nil {
		return -1, -1, err
	}
	if err := unix.Unmount(stage, unix.MNT_DETACH); err != nil {
		return -1, -1, fmt.Errorf("unmount %s: %w", stage, err)
	}
	return resolv, hosts, nil
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

// bindEmpty puts an empty file over another. If that is not there, the error is
// fs.ErrNotExist, and the file is nowhere. Without a resolv.conf programs look for
// a name server on their own loopback.
func bindEmpty(stage, over string) (fd int, err error) {
	own := filepath.Join(stage, filepath.Base(over))
	fd, err = unix.Open(own, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", own, err)
	}
	return fd, bind(own, over)
}

// bindOthers puts files over those that are only there on some machines.
func bindOthers(stage string) error {
	dead := filepath.Join(stage, "dead")
	if err := os.WriteFile(dead, nil, 0); err != nil {
		return err
	}
	for _, socket := range nameServices {
		if err := bind(dead, socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	conf, err := os.ReadFile(nsswitch)
	if err != nil {
		return nil // by default it is /etc/hosts and the DNS
	}
	own := filepath.Join(stage, filepath.Base(nsswitch))
	if err := os.WriteFile(own, withHosts(conf), 0o444); err != nil {
		return err
	}
	return bind(own, nsswitch)
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

// writeResolver makes f what the command knows of name servers.
func writeResolver(f *os.File, l Link) error {
	b := []byte("# of the tunnel\n")
	for _, a := range l.DNS {
		b = fmt.Appendf(b, "nameserver %v\n", a)
	}
	if len(l.Search) > 0 {
		b = fmt.Appendf(b, "search %s\n", strings.Join(l.Search, " "))
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(b)))
}

// writeHosts makes f what hosts says, and then the machine's own hosts(5).
func writeHosts(f *os.File, hosts map[string][]netip.Addr) error {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		for _, a := range hosts[name] {
			b = fmt.Appendf(b, "%v\t%s\n", a, name)
		}
	}
	own, err := os.ReadFile(hostsFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = f.Write(append(b, own...))
	return err
}
