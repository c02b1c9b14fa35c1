package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a mail server that does as it is told: a hook can take over at each step of the dialogue.
//
// The steps are "greeting" (and again after XCLIENT), "ehlo", "starttls", "xclient", "xforward", "mail", "rcpt", "data",
// "body" (after 354, before anything is read), "dot" (after the message was read) and "rset".
type server struct {
	keywords []string
	lmtp     bool
	tls      *tls.Config // STARTTLS works, or with implicit TLS from the start
	implicit bool
	proxy    bool // a PROXY header line of version 1 comes first
	hooks    map[string]hook
	room     int // octets that the system takes for a connection before they are read; 0 for what is usual

	stopped chan struct{} // closed by stop, for hooks that wait

	ln   net.Listener
	wg   sync.WaitGroup
	mu   sync.Mutex
	open map[net.Conn]bool
	log  []string // commands of all connections, with the number of the connection: "1 MAIL FROM:<>"
	mail []received
	num  int
}

// A hook answers in the server's stead. Its result says whether the connection goes on.
type hook func(p *peer, line string) bool

// received is a message that the server took.
type received struct {
	from string
	to   []string
	data string
}

// peer is the server's side of one connection.
type peer struct {
	s    *server
	nc   net.Conn
	r    *bufio.Reader
	num  int
	from string
	to   []string
}

func (s *server) start(t testing.TB) *server {
	t.Helper()
	return s.listen(t, "tcp", "127.0.0.1:0")
}

func (s *server) listen(t testing.TB, network, address string) *server {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) (err error) {
		if s.room == 0 {
			return nil
		}
		failed := rc.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, s.room)
		})
		return errors.Join(failed, err)
	}}
	ln, err := config.Listen(context.Background(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	s.ln, s.open, s.stopped = ln, map[net.Conn]bool{}, make(chan struct{})
	s.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open[nc] = true
			s.num++
			p := &peer{s: s, nc: nc, r: bufio.NewReader(nc), num: s.num}
			s.mu.Unlock()
			s.wg.Go(func() {
				defer func() {
					p.nc.Close()
					s.mu.Lock()
					delete(s.open, nc)
					s.mu.Unlock()
				}()
				p.serve()
			})
		}
	})
	t.Cleanup(s.stop)
	return s
}

func (s *server) stop() {
	close(s.stopped)
	s.ln.Close()
	s.mu.Lock()
	for nc := range s.open {
		nc.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *server) addr() string { return s.ln.Addr().String() }

func (s *server) commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

func (s *server) messages() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mail)
}

// say writes as it is.
func (p *peer) say(s string) { io.WriteString(p.nc, s) }

// line reads a command without its CRLF.
func (p *peer) line() (string, bool) {
	line, err := p.r.ReadString('\n')
	line = strings.TrimSuffix(line, "\r\n")
	if err == nil {
		p.s.mu.Lock()
		p.s.log = append(p.s.log, fmt.Sprintf("%d %s", p.num, line))
		p.s.mu.Unlock()
	}
	return line, err == nil
}

// data reads a message up to its end and takes the stuffed dots away.
func (p *peer) data() (string, bool) {
	var b strings.Builder
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			return b.String(), false
		}
		if line == ".\r\n" {
			return b.String(), true
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}

// untilClosed waits for the other side to end the connection, without reading the rest of a message into memory.
func (p *peer) untilClosed() { io.Copy(io.Discard, p.r) }

// reset breaks the connection with a TCP reset.
func (p *peer) reset() {
	if tcp, ok := p.nc.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	p.nc.Close()
}

// hook runs the step's hook: handled says whether there was one.
func (p *peer) hook(step, line string) (handled, goOn bool) {
	h := p.s.hooks[step]
	if h == nil {
		return false, true
	}
	return true, h(p, line)
}

func (p *peer) serve() {
	if p.s.proxy {
		if _, ok := p.line(); !ok {
			return
		}
	}
	if p.s.implicit && !p.secure() {
		return
	}
	if !p.step("greeting", "", "220 test.example ESMTP") {
		return
	}
	for {
		line, ok := p.line()
		if !ok || !p.command(line) {
			return
		}
	}
}

func (p *peer) secure() bool {
	nc := tls.Server(p.nc, p.s.tls)
	if nc.Handshake() != nil {
		return false
	}
	p.nc, p.r = nc, bufio.NewReader(nc)
	return true
}

// step runs the hook of the step or gives the reply.
func (p *peer) step(name, line, reply string) bool {
	handled, goOn := p.hook(name, line)
	if !handled {
		p.say(reply + "\r\n")
	}
	return goOn
}

func (p *peer) command(line string) bool {
	verb, arg, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO", "LHLO":
		reply := "250 test.example"
		if len(p.s.keywords) > 0 {
			reply = "250-test.example\r\n250-" + strings.Join(p.s.keywords, "\r\n250-")
			i := strings.LastIndex(reply, "250-")
			reply = reply[:i] + "250 " + reply[i+4:]
		}
		return p.step("ehlo", line, reply)
	case "HELO":
		p.say("250 test.example\r\n")
	case "STARTTLS":
		if handled, goOn := p.hook("starttls", line); handled {
			return goOn
		}
		p.say("220 go ahead\r\n")
		return p.secure()
	case "XCLIENT":
		if handled, goOn := p.hook("xclient", line); handled {
			return goOn
		}
		return p.step("greeting", "", "220 test.example ESMTP")
	case "XFORWARD":
		return p.step("xforward", line, "250 2.0.0 Ok")
	case "MAIL":
		p.from, p.to = arg, nil
		return p.step("mail", line, "250 2.1.0 Ok")
	case "RCPT":
		if handled, goOn := p.hook("rcpt", line); handled {
			return goOn
		}
		p.to = append(p.to, arg)
		p.say("250 2.1.5 Ok\r\n")
	case "DATA":
		if handled, goOn := p.hook("data", line); handled {
			return goOn
		}
		return p.takeMessage()
	case "RSET":
		p.from, p.to = "", nil
		return p.step("rset", line, "250 2.0.0 Ok")
	case "QUIT":
		p.say("221 2.0.0 Bye\r\n")
		return false
	default:
		p.say("502 5.5.2 What?\r\n")
	}
	return true
}

func (p *peer) takeMessage() bool {
	p.say("354 End data with <CR><LF>.<CR><LF>\r\n")
	if handled, goOn := p.hook("body", ""); handled {
		return goOn
	}
	data, ok := p.data()
	if !ok {
		return false
	}
	if handled, goOn := p.hook("dot", ""); handled {
		return goOn
	}
	p.s.mu.Lock()
	p.s.mail = append(p.s.mail, received{from: p.from, to: p.to, data: data})
	n := len(p.s.mail)
	p.s.mu.Unlock()
	if !p.s.lmtp {
		p.say(fmt.Sprintf("250 2.0.0 Ok: queued as Q%d\r\n", n))
		return true
	}
	for range p.to {
		p.say(fmt.Sprintf("250 2.0.0 Saved as Q%d\r\n", n))
	}
	return true
}

// allKeywords is what a server offers that has everything but what changes the dialogue.
var allKeywords = []string{"PIPELINING", "SIZE 20480000", "8BITMIME", "SMTPUTF8", "DSN", "AUTH PLAIN", "REQUIRETLS", "ENHANCEDSTATUSCODES"}

// stallTimes make a server that stalls at a step fail soon; the other steps have all the time. Nothing is asserted about how soon.
func stallTimes(step string) Timeouts {
	const soon = 150 * time.Millisecond
	t := longTimes
	switch step {
	case "data", "body":
		t.Data = soon
	case "dot":
		t.Reply = soon
	default:
		t.Command = soon
	}
	return t
}

// longTimes are never reached.
var longTimes = Timeouts{Connect: time.Minute, Command: time.Minute, Data: time.Minute, Reply: time.Minute}

func newUpstream(t testing.TB, cfg Config) Upstream {
	t.Helper()
	if cfg.Hostname == "" {
		cfg.Hostname = "mx.example.org"
	}
	if cfg.Timeouts == (Timeouts{}) {
		cfg.Timeouts = longTimes
	}
	u, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

func mustOpen(t testing.TB, u Upstream, client Client) Conn {
	t.Helper()
	c, err := u.Open(context.Background(), client)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return c
}

var (
	alice = Path{Local: "alice", Domain: "example.org"}
	bob   = Path{Local: "bob", Domain: "example.com"}
)

// deliver runs a transaction up to the first reply that is not positive.
func deliver(ctx context.Context, c Conn, body Body, to ...Path) (DataResult, error) {
	reply, err := c.Mail(ctx, Mail{From: bob})
	if err != nil || !reply.Positive() {
		return DataResult{Reply: reply}, err
	}
	for _, p := range to {
		reply, err := c.Rcpt(ctx, Rcpt{To: p})
		if err != nil || !reply.Positive() {
			return DataResult{Reply: reply}, err
		}
	}
	return c.Data(ctx, body)
}

func text(s string) Body { return Body{Message: strings.NewReader(s)} }

// wantError checks for an *Error and gives it.
func wantError(t testing.TB, err error, op string, offered bool) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, expected an *Error of %q", err, op)
	}
	if e.Op != op || e.Offered != offered {
		t.Fatalf("error %v (op %q, offered %v), expected op %q, offered %v", err, e.Op, e.Offered, op, offered)
	}
	return e
}

// bigMessage is a message that no socket buffer holds.
func bigMessage(size int64) (*countReader, Body) {
	r := &countReader{left: size}
	return r, Body{Message: r}
}

// countReader gives lines of text and counts what was taken of it.
type countReader struct{ left, taken int64 }

var someLines = bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog, and does so again and again.\r\n"), 400)

func (r *countReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p, someLines)
	n -= n % 75
	if n == 0 {
		return 0, errors.New("buffer too small for a line")
	}
	r.left -= int64(n)
	r.taken += int64(n)
	return n, nil
}

func unixSocket(t testing.TB) string { return filepath.Join(t.TempDir(), "lmtp") }
