package wire

import (
	"net/netip"
	"sync"
)

// A Census counts the connections that are open, in all, by address and by network, and knows how often new ones came of late. Listeners
// that share one share its limits. The zero value is ready for use.
type Census struct {
	mu    sync.Mutex
	total int
	ips   map[netip.Addr]int
	nets  map[netip.Prefix]int

	arrivals Rate
}

// network is the /24 or /64 that an address is counted under.
func network(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // the invalid address: all such count as one network
	}
	return p
}

// enter counts one connection more, unless there are limit already.
func (c *Census) enter(limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= limit {
		return false
	}
	c.total++
	return true
}

func (c *Census) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
}

// enterFrom counts a connection from the address, unless it or its network has its limit already.
func (c *Census) enterFrom(a netip.Addr, perIP, perNet int) bool {
	n := network(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ips[a] >= perIP || c.nets[n] >= perNet {
		return false
	}
	if c.ips == nil {
		c.ips, c.nets = make(map[netip.Addr]int), make(map[netip.Prefix]int)
	}
	c.ips[a]++
	c.nets[n]++
	return true
}

func (c *Census) leaveFrom(a netip.Addr) {
	n := network(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ips[a]--; c.ips[a] <= 0 {
		delete(c.ips, a)
	}
	if c.nets[n]--; c.nets[n] <= 0 {
		delete(c.nets, n)
	}
}
