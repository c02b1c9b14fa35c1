package dns_test

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	mdns "github.com/miekg/dns"
)

// stub is a DNS server for what a zone file cannot say: each query is answered by a function, in its own goroutine.
type stub struct {
	answer func(q *mdns.Msg, tcp bool) *mdns.Msg
	raw    func(q []byte) [][]byte // instead of answer

	udp  net.PacketConn
	tcp  net.Listener
	work sync.WaitGroup

	mu   sync.Mutex
	seen int
}

func newStub(t testing.TB, answer func(q *mdns.Msg, tcp bool) *mdns.Msg) *stub {
	t.Helper()
	return start(t, &stub{answer: answer})
}

// newRawStub makes one that sends what raw gives, over UDP only.
func newRawStub(t testing.TB, raw func(q []byte) [][]byte) *stub {
	t.Helper()
	return start(t, &stub{raw: raw})
}

func start(t testing.TB, s *stub) *stub {
	t.Helper()
	for s.tcp == nil {
		var err error
		if s.udp, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if s.tcp, err = net.Listen("tcp4", s.udp.LocalAddr().String()); err != nil {
			s.udp.Close() // the port is taken for TCP
			s.tcp = nil
		}
	}
	s.work.Go(s.serveUDP)
	s.work.Go(s.serveTCP)
	t.Cleanup(func() {
		s.udp.Close()
		s.tcp.Close()
		s.work.Wait()
	})
	return s
}

func (s *stub) addr() string { return s.udp.LocalAddr().String() }

// asked gives how many queries have come.
func (s *stub) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

func (s *stub) note() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen++
}

func (s *stub) serveUDP() {
	buf := make([]byte, 65535)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		octets := append([]byte(nil), buf[:n]...)
		q := new(mdns.Msg)
		if q.Unpack(octets) != nil {
			continue
		}
		s.note()
		s.work.Go(func() {
			if s.raw != nil {
				for _, p := range s.raw(octets) {
					s.udp.WriteTo(p, from)
				}
				return
			}
			if p, err := s.answer(q, false).Pack(); err == nil {
				s.udp.WriteTo(p, from)
			}
		})
	}
}

func (s *stub) serveTCP() {
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			return
		}
		s.work.Go(func() {
			defer c.Close()
			conn := &mdns.Conn{Conn: c}
			q, err := conn.ReadMsg()
			if err != nil || s.answer == nil {
				return
			}
			s.note()
			conn.WriteMsg(s.answer(q, true))
		})
	}
}

// refuseAll says of every name that it does not exist, without an SOA record.
func refuseAll(q *mdns.Msg, _ bool) *mdns.Msg {
	return new(mdns.Msg).SetRcode(q, mdns.RcodeNameError)
}

func writeFile(t testing.TB, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
