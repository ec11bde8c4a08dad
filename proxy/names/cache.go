package names

import (
	"container/list"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Bounds of how long an answer is kept. "A maximum of one to three hours have
// been found to work well" for negative ones: RFC 2308, section 5.
const (
	maxTTL         = 24 * time.Hour
	maxNegativeTTL = time.Hour
	entryOverhead  = 256 // octets of an entry beside its message
)

// cache keeps answers, up to a number of octets. What was used least recently
// goes first. Its methods may be called concurrently.
type cache struct {
	mu      sync.Mutex
	room    int
	entries map[key]*list.Element
	used    list.List // of *entry, the most recent first
}

type entry struct {
	key          key
	wire         []byte
	stored, gone time.Time
}

func (e *entry) size() int { return len(e.wire) + len(e.key.name) + entryOverhead }

func newCache(size int) *cache { return &cache{room: size, entries: map[key]*list.Element{}} }

// put keeps an answer, if it may be kept.
func (c *cache) put(k key, m *dns.Msg, now time.Time) {
	ttl := lifetime(m)
	wire, err := m.Pack()
	if ttl <= 0 || err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.entries[k])
	e := &entry{key: k, wire: wire, stored: now, gone: now.Add(ttl)}
	c.entries[k] = c.used.PushFront(e)
	c.room -= e.size()
	for c.room < 0 {
		c.drop(c.used.Back())
	}
}

// drop forgets an entry. The mutex is held.
func (c *cache) drop(el *list.Element) {
	if el == nil {
		return
	}
	e := c.used.Remove(el).(*entry)
	delete(c.entries, e.key)
	c.room += e.size()
}

// get returns a copy of what is kept, with the time that is left, or nil.
func (c *cache) get(k key, now time.Time) *dns.Msg {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.entries[k]
	if el == nil {
		return nil
	}
	e := el.Value.(*entry)
	m := new(dns.Msg)
	if !now.Before(e.gone) || m.Unpack(e.wire) != nil {
		c.drop(el)
		return nil
	}
	c.used.MoveToFront(el)
	age := uint32(now.Sub(e.stored) / time.Second)
	for _, rr := range records(m) {
		h := rr.Header()
		h.Ttl -= min(age, h.Ttl)
	}
	m.Authoritative = false
	return m
}

// records are those of an answer that have a time to live.
func records(m *dns.Msg) (list []dns.RR) {
	list = append(append(list, m.Answer...), m.Ns...)
	return append(list, withoutOPT(m.Extra)...)
}

// lifetime is how long an answer may be kept; 0 is not at all. A negative one
// needs the SOA record that says so (RFC 2308, section 5).
func lifetime(m *dns.Msg) time.Duration {
	if m.Truncated || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return 0
	}
	limit := maxTTL
	if m.Rcode == dns.RcodeNameError || !answers(m) {
		soa := authority(m)
		if soa == nil {
			return 0
		}
		limit = min(maxNegativeTTL, seconds(soa.Minttl))
	}
	for _, rr := range records(m) {
		limit = min(limit, seconds(rr.Header().Ttl))
	}
	return limit
}

// answers reports whether there is a record of the type that was asked for: one
// with aliases alone leads to none.
func answers(m *dns.Msg) bool {
	for _, rr := range m.Answer {
		if t := rr.Header().Rrtype; len(m.Question) == 1 && (t == m.Question[0].Qtype || m.Question[0].Qtype == dns.TypeANY) {
			return true
		}
	}
	return false
}

func authority(m *dns.Msg) *dns.SOA {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa
		}
	}
	return nil
}

// seconds reads a time to live: "with the most significant bit set" it is zero
// (RFC 2181, section 8).
func seconds(ttl uint32) time.Duration {
	if ttl >= 1<<31 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
