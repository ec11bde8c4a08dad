package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"time"

	"golang.org/x/net/proxy"
)

// sshCiphers are what ssh -D is measured with: its default and what the others
// use.
var sshCiphers = []struct{ key, name string }{
	{"ssh_D_default", "chacha20-poly1305@openssh.com"},
	{"ssh_D_aes128", "aes128-gcm@openssh.com"},
}

// compare: one stream each way beside ssh -D, which has no TCP/IP of its own
// inside, through an sshd that this starts on loopback.
func (b *bench) compare() error {
	server, err := b.startSSHD()
	if errors.Is(err, exec.ErrNotFound) {
		progress("compare with ssh -D: skipped: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer server.stop() // after its clients, which keep it from ending
	sides, err := b.begin(way{client: "raw"}, way{client: "sstproxy"})
	if err != nil {
		return err
	}
	defer func() { closeSides(sides) }()
	for _, c := range sshCiphers {
		s, err := b.startSSH(server, c.key, c.name)
		if err != nil {
			return err
		}
		sides = append(sides, s)
	}
	if err := b.compareWay(sides, "download", askDownload); err != nil {
		return err
	}
	return b.compareWay(sides, "upload", askUpload)
}

func (b *bench) compareWay(sides []*side, name string, ask byte) error {
	progress("%s beside ssh -D", name)
	l := load{
		ask: ask, streams: 1, settle: true, warm: b.length(400*time.Millisecond, 200*time.Millisecond),
		measure: b.length(1200*time.Millisecond, 500*time.Millisecond),
	}
	m, err := b.interleave(l, b.times(7, 2), sides...)
	if err != nil {
		return err
	}
	for i, c := range sshCiphers {
		raw, ours, ssh := m[0], m[1], m[2+i]
		tell(c.key+"_"+name+"_vs_raw", ssh.goodput/raw.goodput)
		b.out.compareSSH(fmt.Sprintf("%s, 1 stream, ssh -D with %s", name, c.name), name+"_vs_"+c.key, "Gbit/s", ssh.goodput*gbit, ours.goodput*gbit, ">= 0.9")
		b.out.compareSSH("  CPU of the client", "cpu_"+name+"_vs_"+c.key, "s/GB", ssh.cpu.client, ours.cpu.client, "")
	}
	return nil
}

// sshd is an OpenSSH server of the bench's own: its keys are in the directory
// of the bench, and nobody else's count.
type sshd struct {
	*process
	port string
	key  string // file of the private key that may log in
}

// startSSHD returns an error that is exec.ErrNotFound if OpenSSH is not there.
func (b *bench) startSSHD() (*sshd, error) {
	path, err := exec.LookPath("/usr/sbin/sshd") // it wants to be called by its whole name
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("/usr/sbin/sshd: %w", exec.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	s := &sshd{key: filepath.Join(b.dir, "login")}
	host := filepath.Join(b.dir, "host")
	for _, file := range []string{s.key, host} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w\n%s", err, out)
		}
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	s.process, err = start(path, "-D", "-e", "-f", "/dev/null", "-h", host, "-o", "ListenAddress=127.0.0.1:"+s.port,
		"-o", "AuthorizedKeysFile="+s.key+".pub", "-o", "StrictModes=no", "-o", "PidFile=none", "-o", "PermitRootLogin=prohibit-password")
	if err != nil {
		return nil, err
	}
	if err := s.listens(s.port); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// startSSH starts an ssh -D with a cipher as a side.
func (b *bench) startSSH(server *sshd, name, cipher string) (*side, error) {
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &side{name: name, number: byte(b.sides.Add(1))}
	s.sunk = func() (int64, error) { return b.far.sunk(s.number) }
	s.client, err = start("ssh", "-F", "none", "-N", "-D", "127.0.0.1:"+port, "-c", cipher, "-i", server.key, "-p", server.port, "-l", me.Username,
		"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	if err := s.client.listens(port); err != nil {
		s.close()
		return nil, err
	}
	d, err := proxy.SOCKS5("tcp", "127.0.0.1:"+port, nil, proxy.Direct)
	s.dial = func() (net.Conn, error) { return d.Dial("tcp", b.far.Plain) }
	return s, err
}

// freePort is a port of loopback that nobody listens on now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// listens waits until a child that does not say so takes connections.
func (p *process) listens(port string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			return c.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen: %w", p.cmd.Path, err)
		}
	}
}
