package names

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// clients is a listener that bounds how many of its connections are open: one
// more ends the one that has been waited for longest, so that nobody keeps the
// others out by asking nothing. While all have a question under way, no other
// gets in.
type clients struct {
	net.Listener
	max int

	mu   sync.Mutex
	open list.List // of *client, the one whose last answer is longest ago first
}

// client is a connection of clients.
type client struct {
	net.Conn
	of    *clients
	place *list.Element
	busy  bool // what was read last has no answer yet
}

// Accept implements net.Listener.
func (l *clients) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, idle := l.add(conn)
		if idle != nil {
			idle.Close()
		}
		if c != nil {
			return c, nil
		}
		conn.Close()
	}
}

// add takes in a connection, and returns the one that has to go for it. If there
// is no room, c is nil.
func (l *clients) add(conn net.Conn) (c, idle *client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open.Len() >= l.max {
		if idle = l.idle(); idle == nil {
			return nil, nil
		}
		l.open.Remove(idle.place)
	}
	c = &client{Conn: conn, of: l}
	c.place = l.open.PushBack(c)
	return c, idle
}

// idle is the connection that has been waited for longest, or nil. The caller
// holds the mutex.
func (l *clients) idle() *client {
	for e := l.open.Front(); e != nil; e = e.Next() {
		if c, ok := e.Value.(*client); ok && !c.busy {
			return c
		}
	}
	return nil
}

// Read implements net.Conn.
func (c *client) Read(b []byte) (int, error) {
	c.setBusy(false)
	n, err := c.Conn.Read(b)
	c.setBusy(n > 0)
	return n, err
}

func (c *client) setBusy(busy bool) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.busy = busy
}

// Write implements net.Conn. Who does not take the answer keeps its place no
// longer than who does not ask.
func (c *client) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(tcpIdleTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.of.open.MoveToBack(c.place)
	return n, err
}

// Close implements net.Conn.
func (c *client) Close() error {
	c.of.mu.Lock()
	c.of.open.Remove(c.place)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// clientShare is the part of all questions under way that one client may have.
const clientShare = 4

// enter counts a question of a client, unless it has too many under way. A
// program on this machine is known by its socket, another machine by its address.
func (s *Server) enter(from netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking[from] >= max(s.cfg.MaxQueries/clientShare, 1) {
		return false
	}
	s.asking[from]++
	return true
}

func (s *Server) leave(from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking[from]--; s.asking[from] == 0 {
		delete(s.asking, from)
	}
}

// sender is who counts as one client.
func sender(a net.Addr) netip.AddrPort {
	var from netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		from = a.AddrPort()
	case *net.TCPAddr:
		from = a.AddrPort()
	}
	if addr := from.Addr().Unmap(); !addr.IsLoopback() {
		return netip.AddrPortFrom(addr, 0)
	}
	return from
}
