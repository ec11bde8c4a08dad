package proxy

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUnixSocketModes: the mode is the one asked for, whatever the umask.
func TestUnixSocketModes(t *testing.T) {
	for perm, want := range map[fs.FileMode]fs.FileMode{0: 0o600, 0o600: 0o600, 0o660: 0o660, 0o666: 0o666, 0o700: 0o700} {
		path := socketPath(t)
		l, err := Endpoint{Network: "unix", Address: path, Perm: perm}.Listen()
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%o: got %v and %v, want %o", perm, info.Mode(), err, want)
		}
	}
}

// TestUnixSocketSwapped: no symbolic link is followed, be it to a dead socket.
func TestUnixSocketSwapped(t *testing.T) {
	dir := filepath.Dir(socketPath(t))
	dead, link := filepath.Join(dir, "dead"), filepath.Join(dir, "link")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := os.Symlink(dead, link); err != nil {
		t.Fatal(err)
	}
	if l, err := (Endpoint{Network: "unix", Address: link}).Listen(); err == nil {
		l.Close()
		t.Error("a symbolic link was replaced")
	}
	for _, path := range []string{dead, link} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

// needRoot skips a test that acts as other users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to act as another user")
	}
}

// TestUnixSocketOfOthers: another user's socket is not replaced.
func TestUnixSocketOfOthers(t *testing.T) {
	needRoot(t)
	path := socketPath(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := os.Chown(path, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if l, err := (Endpoint{Network: "unix", Address: path}).Listen(); err == nil {
		l.Close()
		t.Error("another user's socket was replaced")
	}
}

const nobody = 65534

// dialAs connects as another user. Its thread ends with it.
func dialAs(uid int, network, address string) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result)
	go func() { // ends at once
		runtime.LockOSThread() // and never unlocked, so nobody else gets the thread
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- result{nil, errno}
			return
		}
		c, err := net.Dial(network, address)
		done <- result{c, err}
	}()
	r := <-done
	return r.c, r.err
}

// TestUnixSocketStrangers: the mode alone does not let anybody in.
func TestUnixSocketStrangers(t *testing.T) {
	needRoot(t)
	for name, tt := range map[string]struct {
		e  Endpoint
		in bool
	}{
		"default":  {Endpoint{}, false},
		"0700":     {Endpoint{Perm: 0o700}, false},
		"any user": {Endpoint{AnyUser: true}, true},
		"0666":     {Endpoint{Perm: 0o666}, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := socketPath(t)
			dir := filepath.Dir(path)
			tt.e.Network, tt.e.Address = "unix", path
			l, err := tt.e.Listen()
			if err != nil {
				t.Fatal(err)
			}
			serveOn(t, holding(t), ModeAuto, l)
			// As where a socket's mode is not looked at.
			if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
				t.Fatal(err)
			}
			for uid, in := range map[int]bool{nobody: tt.in, 0: true} {
				c, err := dialAs(uid, "unix", path)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				_, werr := io.WriteString(c, "\x05\x01\x00")
				got := make([]byte, 2)
				_, err = io.ReadFull(c, got)
				if (werr == nil && err == nil && got[1] == 0) != in {
					t.Errorf("user %d: got % x and %v, want in %t", uid, got, err, in)
				}
			}
		})
	}
}

// TestListenerKeepAlive: a client that vanishes is noticed, where that can happen without
// the kernel's saying so.
func TestListenerKeepAlive(t *testing.T) {
	for address, want := range map[string]int{"127.0.0.1:0": 0, "localhost:0": 0, "0.0.0.0:0": 1} {
		l, err := Endpoint{Network: "tcp", Address: address}.Listen()
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		client, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		got := -1
		if err := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE) }); err != nil {
			t.Fatal(err)
		}
		if got != want || err != nil {
			t.Errorf("%s: keepalive is %d, %v, want %d", address, got, err, want)
		}
	}
}
