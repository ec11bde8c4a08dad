package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	xproxy "golang.org/x/net/proxy"
)

// hangs is how long something may stand still that should go on; far more than
// any fault lasts.
const hangs = time.Minute

// load is what uses the tunnel during a soak.
type load struct {
	proxies []*url.URL // the same listener as SOCKS5 and as HTTP
	clients []*http.Client
	done    <-chan struct{} // nothing new begins

	// calm is held for reading by whatever is in flight: who holds it has the
	// tunnel for itself, with the idle connections open.
	calm sync.RWMutex

	names            atomic.Int64 // used so far; none twice
	moved, wrong     atomic.Int64 // octets
	transfers, lines atomic.Int64 // that ended well
	chats            atomic.Int64 // long-lived connections opened
	mu               sync.Mutex
	resets           []reset
}

// reset is a connection that did not last.
type reset struct {
	what         string
	begun, ended time.Time
	err          error
}

func newLoad(proxies []*url.URL, done <-chan struct{}) *load {
	l := &load{proxies: proxies, done: done}
	for _, via := range proxies {
		l.clients = append(l.clients, &http.Client{
			Transport: &http.Transport{Proxy: http.ProxyURL(via), DisableKeepAlives: true},
			Timeout:   hangs,
		})
	}
	return l
}

// name is a host name that was never looked up.
func (l *load) name(kind string) string {
	return fmt.Sprintf("%s-%d%s", kind, l.names.Add(1), soakDomain)
}

func (l *load) note(what string, begun time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resets = append(l.resets, reset{what, begun, time.Now(), err})
}

// transferring makes one transfer after the other.
func (l *load) transferring(r *rand.Rand) {
	for pauseFor(l.done, time.Duration(r.IntN(2000))*time.Millisecond) {
		p := payload{seed: r.Uint64(), size: 1 << (8 + r.IntN(13))}
		p.size += r.IntN(p.size)
		if p.size < 1<<20 && r.IntN(3) == 0 {
			p.rate = 32<<10 + p.size/8
		}
		what, move := "download", l.download
		if r.IntN(2) == 0 {
			what, move = "upload", l.upload
		}
		l.calm.RLock()
		begun := time.Now()
		if err := move(l.clients[r.IntN(len(l.clients))], p); err != nil {
			l.note(what, begun, err)
		} else {
			l.transfers.Add(1)
		}
		l.calm.RUnlock()
	}
}

func (l *load) download(client *http.Client, p payload) error {
	resp, err := client.Get("http://" + l.name("down") + "/down?" + p.query())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, why)
	}
	check := p.checker()
	_, err = io.Copy(check, resp.Body)
	l.moved.Add(int64(check.seen))
	l.wrong.Add(int64(check.wrong))
	if err == nil && check.seen != p.size {
		err = fmt.Errorf("%d octets of %d", check.seen, p.size)
	}
	return err
}

func (l *load) upload(client *http.Client, p payload) error {
	req, err := http.NewRequest(http.MethodPost, "http://"+l.name("up")+"/up?"+p.query(), p.reader(nil))
	if err != nil {
		return err
	}
	req.ContentLength = int64(p.size)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf("0 of %d wrong", p.size); err == nil && string(reply) != want {
		err = fmt.Errorf("status %s, reply %q, want %q", resp.Status, reply, want)
	}
	if err == nil {
		l.moved.Add(int64(p.size))
	}
	return err
}

// chatting keeps a connection open and says something now and then.
func (l *load) chatting(r *rand.Rand) {
	for {
		begun := time.Now()
		err := l.chat(r)
		if err == nil {
			return
		}
		l.note("idle connection", begun, err)
	}
}

// chat is one connection; nil means that the end has come.
func (l *load) chat(r *rand.Rand) error {
	l.calm.RLock()
	c, err := l.dial(l.proxies[r.IntN(len(l.proxies))], l.name("echo")+":7")
	l.calm.RUnlock()
	if err != nil {
		return err
	}
	defer c.Close()
	l.chats.Add(1)
	in := bufio.NewReader(c)
	for pauseFor(l.done, time.Duration(r.IntN(5000))*time.Millisecond) {
		if err := l.line(c, in, r.Uint64()); err != nil {
			return err
		}
	}
	return nil
}

// line sends a line and wants it back.
func (l *load) line(c net.Conn, in *bufio.Reader, n uint64) error {
	l.calm.RLock()
	defer l.calm.RUnlock()
	c.SetDeadline(time.Now().Add(hangs))
	if _, err := fmt.Fprintf(c, "%020d\n", n); err != nil {
		return err
	}
	got, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("%020d\n", n); got != want {
		l.wrong.Add(1)
		return fmt.Errorf("got line %q, want %q", got, want)
	}
	l.lines.Add(1)
	return nil
}

// dial opens a connection through a proxy: by SOCKS5, or by CONNECT.
func (l *load) dial(via *url.URL, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), hangs)
	defer cancel()
	if via.Scheme == "http" {
		return connectThrough(ctx, via.Host, address)
	}
	socks, err := xproxy.SOCKS5("tcp", via.Host, nil, xproxy.Direct)
	if err != nil {
		return nil, err
	}
	return socks.(xproxy.ContextDialer).DialContext(ctx, "tcp", address)
}

func connectThrough(ctx context.Context, proxy, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", proxy)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", address)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil) // the far end says nothing of its own accord
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New("CONNECT: " + resp.Status)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// probe makes one small request on a connection of its own.
func (l *load) probe(r *rand.Rand) {
	begun := time.Now()
	for {
		err := l.download(l.clients[r.IntN(len(l.clients))], payload{seed: 1, size: 100})
		if err == nil {
			return
		}
		l.note("request", begun, err)
		if time.Since(begun) > hangs {
			return
		}
	}
}

// close drops what the clients keep.
func (l *load) close() {
	for _, c := range l.clients {
		c.CloseIdleConnections()
	}
}
