package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
)

const (
	maxPacket     = 4096             // octets read from a datagram; servers were told a smaller size
	maxIdle       = 32               // sockets kept for one server
	maxSocketUse  = 200              // questions on one socket, so that its port does not stay the same for long
	maxSocketAge  = time.Minute      // likewise
	maxStrays     = 64               // packets ignored while waiting for the right one
	missesAllowed = 3                // questions in a row that others answered and this server did not
	suspension    = 30 * time.Second // how long such a server is asked last
)

// server is one recursive server with the sockets that are connected to it.
type server struct {
	addr netip.AddrPort

	noEDNS  atomic.Bool // it answered only without EDNS0
	buffers sync.Pool   // of *[maxPacket]byte

	mu        sync.Mutex
	misses    int       // in a row
	suspended time.Time // asked last until then
	idle      []*socket
	closed    bool
}

// socket is a connected UDP socket: the kernel drops what does not come from the server's address and port.
type socket struct {
	conn net.Conn
	uses int
	born time.Time
}

func (s *server) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.misses, s.suspended = 0, time.Time{}
}

func (s *server) missed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.misses++; s.misses >= missesAllowed {
		s.suspended = time.Now().Add(suspension)
	}
}

func (s *server) isSuspended(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.suspended.After(now)
}

// preferred gives the servers in their order, those that are suspended last.
func preferred(servers []*server) []*server {
	if len(servers) == 1 {
		return servers
	}
	now := time.Now()
	order := make([]*server, 0, len(servers))
	var late []*server
	for _, s := range servers {
		if s.isSuspended(now) {
			late = append(late, s)
		} else {
			order = append(order, s)
		}
	}
	return append(order, late...)
}

// refusal is an answer that is none: the server is there and can't say.
type refusal struct{ what string }

func (r *refusal) Error() string { return r.what }

// errCase says that an answer did not repeat the case of the letters in the question, and errTruncated that it had no room:
// both call for TCP.
var (
	errCase      = errors.New("the case of the name was not repeated")
	errTruncated = errors.New("truncated")
)

// ask puts q to the server once, over UDP and where needed over TCP and without EDNS0. The error is a *refusal where the
// server could be reached but does not know.
func (s *server) ask(ctx context.Context, q question, mixCase bool) (*mdns.Msg, error) {
	edns := !s.noEDNS.Load()
	msg, err := s.askOnce(ctx, q, mixCase, edns)
	if err != nil || !edns || !rejectsEDNS(msg.Rcode) {
		return usable(msg, err)
	}
	// RFC 6891, section 7: a server that knows no EDNS0 answers FORMERR.
	msg, err = s.askOnce(ctx, q, mixCase, false)
	if err == nil && !rejectsEDNS(msg.Rcode) {
		s.noEDNS.Store(true)
	}
	return usable(msg, err)
}

func rejectsEDNS(rcode int) bool {
	return rcode == mdns.RcodeFormatError || rcode == mdns.RcodeNotImplemented || rcode == mdns.RcodeBadVers
}

// usable lets only answers through that say something about the name.
func usable(msg *mdns.Msg, err error) (*mdns.Msg, error) {
	switch {
	case err != nil:
		return nil, err
	case msg.Rcode != mdns.RcodeSuccess && msg.Rcode != mdns.RcodeNameError:
		name, ok := mdns.RcodeToString[msg.Rcode]
		if !ok {
			name = fmt.Sprintf("response code %d", msg.Rcode)
		}
		return nil, &refusal{what: name}
	case isReferral(msg):
		return nil, &refusal{what: errReferral.Error()}
	}
	return msg, nil
}

func (s *server) askOnce(ctx context.Context, q question, mixCase, edns bool) (*mdns.Msg, error) {
	p, err := newPacket(q, mixCase, edns)
	if err != nil {
		return nil, &refusal{what: err.Error()}
	}
	msg, err := s.udp(ctx, p)
	if errors.Is(err, errTruncated) || errors.Is(err, errCase) {
		if msg, err = s.tcp(ctx, p); err != nil {
			err = fmt.Errorf("tcp: %w", err)
		}
	}
	return msg, err
}

func (s *server) udp(ctx context.Context, p *packet) (*mdns.Msg, error) {
	sock, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	reusable := false
	release := endWith(ctx, sock.conn)
	defer func() {
		// Where an answer is still to come, it must not be found by the next question.
		if release() && reusable {
			s.put(sock)
		} else {
			sock.conn.Close()
		}
	}()
	sock.uses++
	if _, err := sock.conn.Write(p.octets); err != nil {
		return nil, err
	}
	buf, ok := s.buffers.Get().(*[maxPacket]byte)
	if !ok {
		buf = new([maxPacket]byte)
	}
	defer s.buffers.Put(buf)
	for range maxStrays {
		n, err := sock.conn.Read(buf[:])
		if err != nil {
			return nil, err
		}
		switch err := p.matches(buf[:n]); {
		case errors.Is(err, errStray):
			continue
		case err != nil:
			reusable = true
			return nil, err
		}
		reusable = true
		return unpack(buf[:n])
	}
	return nil, errors.New("too many packets that answer something else")
}

func (s *server) tcp(ctx context.Context, p *packet) (*mdns.Msg, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer endWith(ctx, conn)()
	out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(p.octets)), uint16(len(p.octets)))
	if _, err := conn.Write(append(out, p.octets...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, err
	}
	// Here the handshake has shown who answers, so that the case of the letters proves nothing more.
	switch err := p.matches(buf); {
	case errors.Is(err, errStray):
		return nil, &refusal{what: "an answer to another question"}
	case errors.Is(err, errTruncated):
		return nil, &refusal{what: "truncated over TCP too"}
	case err != nil && !errors.Is(err, errCase):
		return nil, err
	}
	return unpack(buf)
}

func unpack(octets []byte) (*mdns.Msg, error) {
	msg := new(mdns.Msg)
	if err := msg.Unpack(octets); err != nil {
		return nil, &refusal{what: "malformed answer: " + err.Error()}
	}
	return msg, nil
}

// endWith makes reads and writes of conn end with ctx. release undoes that; it gives false where ctx had ended first.
func endWith(ctx context.Context, conn net.Conn) (release func() bool) {
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline) // fails only on a closed conn, where the next write fails too
	}
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}

// take gives a socket that nobody else uses.
func (s *server) take(ctx context.Context) (*socket, error) {
	s.mu.Lock()
	for len(s.idle) > 0 {
		last := len(s.idle) - 1
		sock := s.idle[last]
		s.idle = s.idle[:last]
		if sock.uses < maxSocketUse && time.Since(sock.born) < maxSocketAge {
			s.mu.Unlock()
			return sock, nil
		}
		sock.conn.Close()
	}
	s.mu.Unlock()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", s.addr.String())
	if err != nil {
		return nil, err
	}
	return &socket{conn: conn, born: time.Now()}, nil
}

func (s *server) put(sock *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.idle) >= maxIdle {
		sock.conn.Close()
		return
	}
	s.idle = append(s.idle, sock)
}

func (s *server) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, sock := range s.idle {
		sock.conn.Close()
	}
	s.idle = nil
}
