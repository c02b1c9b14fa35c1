package upstream

import (
	"sync"
	"time"
)

// A pool keeps idle connections, the one that was used last on top, each with a timer that ends it.
type pool struct {
	limits Pool

	mu     sync.Mutex
	closed bool
	idle   []*idleConn
}

type idleConn struct {
	c     *conn
	timer *time.Timer
}

// take gives an idle connection that was not heard to have ended, or nil.
func (p *pool) take() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		last := len(p.idle) - 1
		i := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		i.timer.Stop()
		if i.c.Alive() {
			return i.c
		}
		i.c.line.kill()
	}
	return nil
}

// put keeps a connection, and says whether there was room for it.
func (p *pool) put(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.limits.Size {
		return false
	}
	i := &idleConn{c: c}
	i.timer = time.AfterFunc(p.limits.Idle, func() {
		if p.remove(i) {
			c.line.quit()
		}
	})
	p.idle = append(p.idle, i)
	return true
}

func (p *pool) remove(i *idleConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, other := range p.idle {
		if other == i {
			p.idle = append(p.idle[:n], p.idle[n+1:]...)
			return true
		}
	}
	return false
}

// drain empties the pool for good.
func (p *pool) drain() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var conns []*conn
	for _, i := range p.idle {
		i.timer.Stop()
		conns = append(conns, i.c)
	}
	p.idle = nil
	return conns
}
