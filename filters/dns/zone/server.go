package zone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	portTries  = 50               // to find a port that is free for UDP and TCP
	maxUDP     = 4096             // octets of an answer, whatever the client offers to take
	tcpIdle    = 10 * time.Second // between questions on a connection
	maxCached  = 100_000          // packed answers
	udpReaders = 2
)

// Server answers from a zone over UDP and TCP, on one port of the loopback address.
type Server struct {
	zone *Zone
	udp  *net.UDPConn
	tcp  net.Listener
	work sync.WaitGroup
	quit chan struct{} // closed by Close

	delay atomic.Int64 // nanoseconds that each answer waits
	loss  atomic.Int64 // every so many queries over UDP one is lost; 0 is none
	seen  atomic.Int64 // queries over UDP
	count counter

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
	packed map[packedKey][]byte
}

// packedKey is what an answer depends on.
type packedKey struct {
	name string // as asked, in lower case, on the wire
	typ  uint16
	size uint16 // of the largest answer that the client takes over UDP; 0 over TCP
	edns bool
}

// Serve begins to answer from z on a free port of 127.0.0.1.
func Serve(z *Zone) (*Server, error) {
	var err error
	for range portTries {
		var udp *net.UDPConn
		if udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			return nil, fmt.Errorf("zone server: %w", err)
		}
		var tcp net.Listener
		if tcp, err = net.Listen("tcp4", udp.LocalAddr().String()); err != nil {
			udp.Close() // another process has that port for TCP
			continue
		}
		return start(z, udp, tcp), nil
	}
	return nil, fmt.Errorf("zone server: no port free for UDP and TCP: %w", err)
}

func start(z *Zone, udp *net.UDPConn, tcp net.Listener) *Server {
	s := &Server{
		zone: z, udp: udp, tcp: tcp,
		quit:   make(chan struct{}),
		count:  counter{n: make(map[countKey]int)},
		conns:  make(map[net.Conn]bool),
		packed: make(map[packedKey][]byte),
	}
	for range udpReaders {
		s.work.Go(s.serveUDP)
	}
	s.work.Go(s.serveTCP)
	return s
}

// Addr gives the address as "127.0.0.1:port", for UDP and TCP.
func (s *Server) Addr() string { return s.udp.LocalAddr().String() }

// Close ends the server and waits until all its goroutines have ended.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.quit)
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	err := errors.Join(s.udp.Close(), s.tcp.Close())
	s.work.Wait()
	return err
}

// SetDelay has every answer wait for d, as if the server were far away.
func (s *Server) SetDelay(d time.Duration) { s.delay.Store(int64(d)) }

// SetLoss has one of every n queries over UDP lost; 0 has none lost.
func (s *Server) SetLoss(n int) { s.loss.Store(int64(n)) }

// Queries counts the queries that arrived, lost ones included, by lower-case name without the final dot and type:
// "example.org TXT".
func (s *Server) Queries() map[string]int { return s.count.byName() }

// Total counts the queries that arrived.
func (s *Server) Total() int { return s.count.total() }

func (s *Server) serveUDP() {
	buf := make([]byte, 65535)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // closed
		}
		q, ok := parseQuery(buf[:n])
		if !ok {
			continue
		}
		s.count.add(q)
		if n := s.loss.Load(); n > 0 && s.seen.Add(1)%n == 0 {
			continue
		}
		out := s.replies(q, true)
		s.after(func() {
			for _, p := range out {
				s.udp.WriteToUDPAddrPort(p, from) // a client that is gone gets nothing
			}
		})
	}
}

// after runs send once the delay of SetDelay is over.
func (s *Server) after(send func()) {
	d := time.Duration(s.delay.Load())
	if d <= 0 {
		send()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.work.Go(func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			send()
		case <-s.quit:
		}
	})
}

func (s *Server) serveTCP() {
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.conns[c] = true
		s.work.Go(func() { s.serveConn(c) })
		s.mu.Unlock()
	}
}

func (s *Server) serveConn(c net.Conn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		c.Close()
	}()
	for {
		c.SetDeadline(time.Now().Add(tcpIdle))
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		buf := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		q, ok := parseQuery(buf)
		if !ok {
			return
		}
		s.count.add(q)
		if d := time.Duration(s.delay.Load()); d > 0 {
			select {
			case <-time.After(d):
			case <-s.quit:
				return
			}
		}
		for _, p := range s.replies(q, false) {
			out := binary.BigEndian.AppendUint16(nil, uint16(len(p)))
			if _, err := c.Write(append(out, p...)); err != nil {
				return
			}
		}
	}
}

// counter counts queries.
type counter struct {
	mu sync.Mutex
	n  map[countKey]int
}

type countKey struct {
	name string // in lower case, with the final dot
	typ  uint16
}

// add counts q and notes in it how often the same was asked before.
func (c *counter) add(q *query) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := countKey{name: q.name, typ: q.typ}
	q.before = c.n[k]
	c.n[k]++
}

func (c *counter) byName() map[string]int {
	c.mu.Lock()
	n := maps.Clone(c.n)
	c.mu.Unlock()
	out := make(map[string]int, len(n))
	for k, v := range n {
		name := k.name
		if name != "." {
			name = strings.TrimSuffix(name, ".")
		}
		out[name+" "+dns.Type(k.typ).String()] += v
	}
	return out
}

func (c *counter) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := 0
	for _, v := range c.n {
		sum += v
	}
	return sum
}
