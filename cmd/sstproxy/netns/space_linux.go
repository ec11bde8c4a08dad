package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sstproxy/netstack/ndp"
	"sstproxy/netstack/offload"
)

// Space is the namespace of one command. Deliver is called by one goroutine at a
// time, Fill by one, SetLink by any.
type Space struct {
	init    *os.File // the socket to the process that becomes the command
	missing []string
	device  *device
	queue   *queue
	merge   offload.Merger
	wg      sync.WaitGroup

	mu      sync.Mutex
	routes  rtnetlink
	index   int // of the device
	resolv  *os.File
	link    Link
	addrs   []netip.Addr // that the device has
	learned []netip.Addr // of routers' prefixes
	closed  bool
}

// New starts cmd up to the point where its program would begin, in a namespace
// that is ready but for a link. The command starts with Release; the caller waits
// with cmd.Wait as after cmd.Start, in any case. New changes Path, Args, ExtraFiles
// and SysProcAttr of cmd. The error is a *ForbiddenError if this user may have no
// namespaces.
func New(cmd *exec.Cmd, cfg Config) (*Space, error) {
	if cmd.Err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommand, cmd.Err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("netns: socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "init"), os.NewFile(uintptr(pair[1]), "init")
	disguise(cmd, theirs, cfg.noTUN)
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		ours.Close()
		return nil, forbidden(fmt.Errorf("netns: %w", err))
	}
	s, err := join(ours, cfg)
	if err != nil {
		ours.Close()
		cmd.Process.Kill()
		cmd.Wait()
		return nil, forbidden(err)
	}
	return s, nil
}

// disguise makes cmd start this program, which then becomes what cmd was.
func disguise(cmd *exec.Cmd, socket *os.File, pair bool) {
	const standard = 3 // descriptors before the extra ones
	fd := strconv.Itoa(standard + len(cmd.ExtraFiles))
	kind := kindAny
	if pair {
		kind = kindPair
	}
	cmd.Args = append([]string{initName, kind, fd, cmd.Path}, cmd.Args...)
	cmd.Path = "/proc/self/exe"
	cmd.ExtraFiles = append(slices.Clip(cmd.ExtraFiles), socket)
	attr := &syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		*attr = *cmd.SysProcAttr
	}
	attr.Cloneflags |= unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	attr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
	cmd.SysProcAttr = attr
}

// join takes over what the started process has made.
func join(socket *os.File, cfg Config) (*Space, error) {
	report, fds, err := hear(int(socket.Fd()))
	if err == nil && report.Failed != "" {
		err = &initError{report.Failed, report.Errno}
	}
	if err == nil && len(fds) != descriptorCount {
		err = errors.New("descriptors are missing")
	}
	if err != nil {
		return nil, fmt.Errorf("netns: %w", err)
	}
	s := &Space{
		init: socket, missing: report.Missing, queue: newQueue(cfg.Headroom, cfg.PutHeader),
		routes: rtnetlink{fds[1]}, index: report.Index, resolv: os.NewFile(uintptr(fds[2]), resolvConf),
	}
	hosts := os.NewFile(uintptr(fds[3]), hostsFile)
	defer hosts.Close()
	if err := writeHosts(hosts, cfg.Hosts); err != nil {
		return nil, fmt.Errorf("netns: %s: %w", hostsFile, err)
	}
	if s.device, err = newDevice(os.NewFile(uintptr(fds[0]), deviceName), report.TUN); err != nil {
		return nil, fmt.Errorf("netns: %w", err)
	}
	s.merge = offload.Merger{Accept: s.device.write, MaxSegments: maxSegments}
	s.wg.Go(s.read) // ends when the device is closed, or gone with the namespace
	return s, nil
}

// initError is a failure in the other process.
type initError struct {
	text  string
	errno syscall.Errno
}

func (e *initError) Error() string { return e.text }

func (e *initError) Unwrap() error { return e.errno }

// Missing says what the command will lack because this machine forbids it, in a
// few words each.
func (s *Space) Missing() []string { return s.missing }

// Release starts the command. It returns when that has happened; an error that
// wraps ErrCommand tells why not. It is called once.
func (s *Space) Release() error {
	defer s.init.Close()
	if _, err := s.init.Write([]byte{1}); err != nil {
		return fmt.Errorf("%w: %w", ErrCommand, err)
	}
	b := make([]byte, 16)
	n, _ := s.init.Read(b) // nothing: closed by execve, or by its end
	if code, err := strconv.Atoi(string(b[:n])); err == nil {
		return fmt.Errorf("%w: %w", ErrCommand, syscall.Errno(code))
	}
	return nil
}

// SetLink gives the device its addresses, its MTU and the way to everything, and
// the command its name servers. What stays the same is left alone, so that on a
// reconnect with the same address all connections go on; those of an address that
// is gone die. It keeps nothing of l's slices.
func (s *Space) SetLink(l Link) error {
	l, err := l.normalized()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("netns: set link: %w", os.ErrClosed)
	}
	if l.InterfaceID != s.link.InterfaceID {
		s.learned = nil
	}
	s.link = Link{InterfaceID: l.InterfaceID, MTU: l.MTU} // for what routers advertise later
	s.queue.setMTU(l.MTU)
	if err := s.routes.setUp(s.index, l.MTU); err != nil {
		return fmt.Errorf("netns: mtu %d: %w", l.MTU, err)
	}
	if err := s.assign(l.wanted(s.learned)); err != nil {
		return err
	}
	if err := writeResolver(s.resolv, l); err != nil {
		return fmt.Errorf("netns: %s: %w", resolvConf, err)
	}
	return nil
}

// assign makes want the device's addresses. It wants mu held.
func (s *Space) assign(want []netip.Addr) error {
	for _, a := range s.addrs {
		if !slices.Contains(want, a) {
			s.queue.purge()
			_ = s.routes.removeAddr(s.index, a) // fails only if it is not there
		}
	}
	have4, have6 := false, false
	for _, a := range want {
		if err := s.routes.addAddr(s.index, a); err != nil {
			return fmt.Errorf("netns: address %v: %w", a, err)
		}
		have4 = have4 || a.Is4()
		have6 = have6 || a.Is6() && !a.IsLinkLocalUnicast() && !slices.Contains(s.learned, a)
	}
	s.addrs = want
	if have4 {
		if err := s.routes.setDefault(s.index, unix.AF_INET); err != nil {
			return fmt.Errorf("netns: default route: %w", err)
		}
	}
	if have6 {
		if err := s.routes.setDefault(s.index, unix.AF_INET6); err != nil {
			return fmt.Errorf("netns: default route of IPv6: %w", err)
		}
	}
	return nil
}

// Deliver hands the command's network IP packets that arrived on the link, oldest
// first. The slices are borrowed until it returns.
func (s *Space) Deliver(batch [][]byte) {
	for _, b := range batch {
		if ra, ok := ndp.ParseRouterAdvertisement(b); ok {
			s.learn(ra.Prefixes)
		}
		s.deliver(b)
	}
	s.merge.Flush()
}

// deliver merges what it can. The rest passes as it is, and the kernel looks at its
// checksums.
func (s *Space) deliver(b []byte) {
	if len(b) == 0 || s.merge.Add(b) == offload.Taken {
		return
	}
	if _, proto, _ := offload.UpperLayer(b); proto != offload.UDP {
		s.merge.Flush() // it may belong to an open run's connection
	}
	s.device.pass(b)
}

// Ready signals, with a capacity of 1, that Fill may have something.
func (s *Space) Ready() <-chan struct{} { return s.queue.ready }

// Wake makes Ready signal, for a caller that has frames of its own to send.
func (s *Space) Wake() { s.queue.signal() }

// Fill puts as many whole frames as fit and wait into b and returns their length;
// 0 means that nothing waits. It does not block.
func (s *Space) Fill(b []byte) int { return s.queue.fill(b) }

// arena is how much memory the packets that are read share.
const arena = 256 << 10

// read queues what the command sends.
func (s *Space) read() {
	var free []byte
	for {
		if len(free) < maxFrame {
			free = make([]byte, arena)
		}
		n, err := s.device.file.Read(free)
		if err != nil {
			return
		}
		if p, ok := parseFrame(free[:n:n], s.device.link); ok {
			s.queue.push(p)
			free = free[n:]
		}
	}
}

// Close takes the device away from the command; its packets go nowhere from then
// on. It does not end the command. Further calls do nothing.
func (s *Space) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.init.Close()
	s.device.file.Close()
	s.resolv.Close()
	unix.Close(s.routes.fd)
	s.wg.Wait()
	return nil
}

// maxLearned bounds the addresses by what routers advertise.
const maxLearned = 8

// learn gives the device an address of each prefix with the identifier that
// IPV6CP agreed on. The kernel would make up another one (RFC 4291 appendix A);
// the default route it takes from the router itself.
func (s *Space) learn(prefixes []netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.link.InterfaceID == [8]byte{} || s.link.MTU < minMTU6 {
		return
	}
	for _, p := range prefixes {
		a := ndp.WithID(p, s.link.InterfaceID)
		if slices.Contains(s.learned, a) || len(s.learned) == maxLearned {
			continue
		}
		if s.routes.addAddr(s.index, a) == nil { // else there is no IPv6 here
			s.learned, s.addrs = append(s.learned, a), append(s.addrs, a)
		}
	}
}
