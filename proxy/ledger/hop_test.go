package ledger

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/proxy/peertest"
)

// A hop is a scripted next hop. It does everything right but for the fault that it is armed with.
type hop struct {
	addr string
	kind hopKind
	book *book
	tls  *tls.Config

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	vanished []net.Conn // open still, and deaf
	owing    int        // connections on which a message was accepted that is not read to its end yet
	fault    *hopFault
	fired    int
	reached  func(step string) // called at each step, without locks
	wg       sync.WaitGroup
}

// A hopKind is what a next hop speaks and offers.
type hopKind struct {
	name     string
	scheme   string
	options  string // in the configuration
	lmtp     bool
	keywords []string
}

var (
	// Clients share its connections.
	pooledHop = hopKind{name: "smtp", scheme: "smtp", keywords: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800", "ENHANCEDSTATUSCODES", "XFORWARD NAME ADDR PROTO HELO"}}
	// Each client has one of its own, and every command waits for its reply.
	personalHop = hopKind{name: "xclient", scheme: "smtp", keywords: []string{"8BITMIME", "SMTPUTF8", "SIZE 52428800", "XCLIENT NAME ADDR PROTO HELO"}}
	// TLS is taken where it works, or asked for, or there from the first octet.
	tlsHop      = hopKind{name: "tls", scheme: "smtp", options: ", tls: opportunistic", keywords: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800", "STARTTLS"}}
	requiredHop = hopKind{name: "tls required", scheme: "smtp", options: ", tls: required", keywords: tlsHop.keywords}
	impliedHop  = hopKind{name: "smtps", scheme: "smtps", keywords: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800"}}
	lmtpHop     = hopKind{name: "lmtp", scheme: "lmtp", lmtp: true, keywords: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800"}}

	allHops = []hopKind{pooledHop, personalHop, tlsHop, requiredHop, impliedHop, lmtpHop}
)

// offersTLS reports whether it has STARTTLS, which stands last among the keywords.
func (k hopKind) offersTLS() bool { return k.keywords[len(k.keywords)-1] == "STARTTLS" }

// A hopFault is what goes wrong at a step.
type hopFault struct {
	step    string
	kind    string
	took    bool // where no reply says so: the message was taken
	readOn  bool // after an early reply: go on reading
	lasting bool // on every connection, until it is taken away
}

// startHop starts a next hop at an address of its own, which ends with the test.
func startHop(t testing.TB, kind hopKind, addr string, b *book, tlsConfig *tls.Config) *hop {
	t.Helper()
	h := &hop{addr: addr, kind: kind, book: b, tls: tlsConfig, conns: make(map[net.Conn]bool)}
	if err := h.open(); err != nil {
		t.Fatalf("starting a next hop: %v", err)
	}
	t.Cleanup(func() {
		h.close()
		h.wg.Wait()
	})
	return h
}

func (h *hop) open() error {
	l, err := net.Listen("tcp", h.addr)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listener = l
	h.wg.Go(func() { h.serve(l) })
	return nil
}

// settle waits until every message that was accepted early is read to its end, or cut: who says 250 has to keep it.
func (h *hop) settle() {
	for limit := time.Now().Add(patience); time.Now().Before(limit); pause(time.Millisecond) {
		h.mu.Lock()
		owing := h.owing
		h.mu.Unlock()
		if owing == 0 {
			return
		}
	}
}

func (h *hop) owe(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owing += n
}

// hopAddresses gives addresses for next hops, and a certificate that is good for all of them.
func hopAddresses(t testing.TB, n int) ([]string, peertest.Cert) {
	t.Helper()
	var addrs, hosts []string
	for range n {
		addr := ownAddress(t)
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		addrs, hosts = append(addrs, addr), append(hosts, host)
	}
	return addrs, peertest.NewCert(t, hosts...)
}

// hangUp ends all connections, so that the next message comes on a fresh one.
func (h *hop) hangUp() {
	h.settle()
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		c.Close()
	}
}

// close ends the listener and all connections.
func (h *hop) close() {
	h.settle()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listener != nil {
		h.listener.Close()
		h.listener = nil
	}
	for c := range h.conns {
		c.Close()
	}
	for _, c := range h.vanished {
		c.Close()
	}
	h.vanished = nil
}

// vanish keeps a connection of which the other side hears no more: no end, no reset, no acknowledgement.
func (h *hop) vanish(c net.Conn) {
	deafen(c)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.vanished = append(h.vanished, c)
}

// arm sets the fault that the next connection, or step, meets.
func (h *hop) arm(f *hopFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault, h.fired = f, 0
}

// disarm takes the fault away and says how often it was met.
func (h *hop) disarm() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = nil
	return h.fired
}

// watch has a function called at each step; nil for none.
func (h *hop) watch(reached func(step string)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reached = reached
}

// at gives the fault of a step, if there is one.
func (h *hop) at(step string) *hopFault {
	h.mu.Lock()
	reached, f := h.reached, h.fault
	if f != nil && f.step == step {
		h.fired++
		if !f.lasting {
			h.fault = nil
		}
	} else {
		f = nil
	}
	h.mu.Unlock()
	if reached != nil {
		reached(step)
	}
	return f
}

// poke has a fault happen on the connections that are open, which are idle, and says whether there was one.
func (h *hop) poke(kind string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		switch kind {
		case "close":
			c.Close()
		case "reset":
			resetOnClose(c)
			c.Close()
		case "421":
			_, _ = io.WriteString(c, "421 4.4.2 Idle for too long\r\n") // it may have been closed
			c.Close()
		case "garbage":
			_, _ = io.WriteString(c, garbage)
		case "250":
			_, _ = io.WriteString(c, "250 2.0.0 Ok\r\n")
		case "vanish":
			deafen(c)
		}
	}
	return len(h.conns) > 0
}

// deafen has the system throw away whatever arrives on a connection, before it acknowledges it: to the other side it is
// half open, as if this host had lost its power or its cable.
func deafen(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return
	}
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	_ = raw.Control(func(fd uintptr) { // fails on a connection that is over
		_ = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
	})
}

func resetOnClose(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // where that fails the end is an orderly one, a fault too
	}
}

func (h *hop) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		h.mu.Lock()
		if h.listener != l {
			h.mu.Unlock()
			c.Close()
			return
		}
		h.conns[c] = true
		h.wg.Go(func() {
			hc := &hopConn{hop: h, sock: c, conn: c, r: bufio.NewReader(c)}
			if err := hc.run(); !errors.Is(err, errVanished) {
				hc.conn.Close()
				c.Close()
			}
			h.mu.Lock()
			delete(h.conns, c)
			h.mu.Unlock()
		})
		h.mu.Unlock()
	}
}

// A hopConn is one connection to a hop.
type hopConn struct {
	hop    *hop
	sock   net.Conn
	conn   net.Conn
	r      *bufio.Reader
	used   bool // a message was taken on it
	hellos int
	rcpts  []string // accepted
	asked  int      // RCPTs of the transaction
}

var (
	errOver     = errors.New("the connection is over")
	errVanished = errors.New("the next hop is not there any more")
)

// run serves until the connection is over, as the error says.
func (c *hopConn) run() error {
	if c.hop.kind.scheme == "smtps" {
		if err := c.handshake(); err != nil {
			return err
		}
	}
	if err := c.reply("banner", "220 next.example ready"); err != nil {
		return err
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if err := c.command(strings.TrimRight(line, "\r\n")); err != nil {
			return err
		}
	}
}

// again names a step on a connection that has carried a message before.
func (c *hopConn) again(step string) string {
	if c.used {
		return step + " again"
	}
	return step
}

func (c *hopConn) command(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO", "LHLO":
		c.hellos++
		step := "EHLO"
		if c.hellos > 1 {
			step = "second EHLO"
		}
		return c.reply(step, c.greeting())
	case "HELO":
		return c.reply("HELO", "250 next.example")
	case "STARTTLS":
		if err := c.reply("STARTTLS", "220 2.0.0 Go ahead"); err != nil {
			return err
		}
		return c.handshake()
	case "XCLIENT":
		return c.reply("XCLIENT", "220 next.example ready")
	case "XFORWARD":
		return c.reply(c.again("XFORWARD"), "250 2.0.0 Ok")
	case "MAIL":
		c.rcpts, c.asked = nil, 0
		return c.reply(c.again("MAIL"), "250 2.1.0 Ok")
	case "RCPT":
		return c.rcpt(rest)
	case "DATA":
		return c.data()
	case "RSET":
		c.rcpts, c.asked = nil, 0
		return c.reply("RSET", "250 2.0.0 Ok")
	case "QUIT":
		_ = c.reply("QUIT", "221 2.0.0 Bye") // it is over in any case
		return errOver
	}
	return c.say("500 5.5.2 What?")
}

func (c *hopConn) greeting() string {
	lines := append([]string{"next.example"}, c.hop.kind.keywords...)
	if _, secure := c.conn.(*tls.Conn); secure && c.hop.kind.offersTLS() {
		lines = lines[:len(lines)-1]
	}
	return "250-" + strings.Join(lines[:len(lines)-1], "\r\n250-") + "\r\n250 " + lines[len(lines)-1]
}

func (c *hopConn) handshake() error {
	if f := c.hop.at("handshake"); f != nil {
		if _, err := c.misbehave(f, "", nil); err != nil {
			return err
		}
	}
	secure := tls.Server(c.conn, c.hop.tls)
	c.conn, c.r = secure, bufio.NewReader(secure)
	return secure.Handshake()
}

// rcpt answers RCPT. The accepted recipient is kept as it is written.
func (c *hopConn) rcpt(rest string) error {
	c.asked++
	said, err := c.ask(c.again(fmt.Sprint("RCPT ", c.asked)), "250 2.1.5 Ok")
	if strings.HasPrefix(said, "250") {
		_, address, _ := strings.Cut(rest, "<")
		address, _, _ = strings.Cut(address, ">")
		c.rcpts = append(c.rcpts, address)
	}
	return err
}

func (c *hopConn) data() error {
	usual := "354 Go ahead"
	if len(c.rcpts) == 0 {
		return c.say("503 5.5.1 No recipients")
	}
	said, err := c.ask(c.again("DATA"), usual)
	if err != nil || !strings.HasPrefix(said, "354") {
		return err
	}
	message, early, err := c.message()
	accepted := strings.HasPrefix(early, "250")
	if accepted {
		if err == nil {
			c.take(message, c.rcpts...)
		}
		c.hop.owe(-1)
	}
	if err != nil {
		return err
	}
	defer func() { c.used = true }()
	if early != "" {
		return nil
	}
	if !c.hop.kind.lmtp {
		return c.end(c.again("dot"), message, c.rcpts...)
	}
	for i, r := range c.rcpts {
		if err := c.end(c.again(fmt.Sprint("dot ", i+1)), message, r); err != nil {
			return err
		}
	}
	return nil
}

func (c *hopConn) take(message []byte, rcpts ...string) {
	for _, r := range rcpts {
		c.hop.book.take(message, r)
	}
}

// end is what follows on the final dot. What it says is what it does; where it says nothing that can be understood, the
// fault tells whether the message was taken.
func (c *hopConn) end(step string, message []byte, rcpts ...string) error {
	took := func(f *hopFault, said string) bool {
		return strings.HasPrefix(said, "250") || said == "" && f != nil && f.took
	}
	f := c.hop.at(step)
	if f == nil {
		c.take(message, rcpts...)
		c.hop.at("taken")
		if err := c.say("250 2.0.0 Taken"); err != nil {
			return err
		}
		if f := c.hop.at("after"); f != nil {
			_, err := c.misbehave(f, "", nil)
			return err
		}
		return nil
	}
	_, err := c.misbehave(f, "250 2.0.0 Taken", func(said string) {
		if took(f, said) {
			c.take(message, rcpts...)
		}
	})
	return err
}

// message reads up to the final dot. early is what was said before. A message that was accepted so is owed: where all of it
// had reached our system, the proxy could not know that we had not read it, and has our word.
func (c *hopConn) message() (message []byte, early string, err error) {
	inBody := false
	at := func(step string) error {
		f := c.hop.at(step)
		if f == nil || early != "" {
			return nil
		}
		early, err = c.misbehave(f, "", nil)
		if err == nil && !f.readOn {
			err = errOver
		}
		return err
	}
	for {
		line, err := c.r.ReadBytes('\n')
		if err != nil {
			return nil, early, err
		}
		if bytes.Equal(line, []byte(".\r\n")) {
			return message, early, nil
		}
		if line[0] == '.' {
			line = line[1:]
		}
		message = append(message, line...)
		step := ""
		switch {
		case !inBody && len(line) == 2:
			inBody, step = true, "header"
		case bytes.HasPrefix(line, []byte("middle of ")):
			step = "middle"
		case bytes.HasPrefix(line, []byte("end of ")):
			step = "before the dot"
		}
		if step != "" {
			if err := at(step); err != nil {
				return nil, early, err
			}
		}
	}
}

func (c *hopConn) say(reply string) error {
	_, err := io.WriteString(c.conn, reply+"\r\n")
	return err
}

// reply answers a command.
func (c *hopConn) reply(step, usual string) error {
	_, err := c.ask(step, usual)
	return err
}

// ask answers a command and gives what was said.
func (c *hopConn) ask(step, usual string) (said string, err error) {
	if f := c.hop.at(step); f != nil {
		return c.misbehave(f, usual, nil)
	}
	return usual, c.say(usual)
}

const garbage = "\x00\xff}{ no reply at all\r\n"

// misbehave does what a fault says in place of the usual reply. before, if not nil, is told what will have been said, in a
// way that can be understood, before a word of it is. An error ends the connection.
func (c *hopConn) misbehave(f *hopFault, usual string, before func(said string)) (said string, err error) {
	note := func(s string) {
		if said = s; before != nil {
			before(s)
		}
	}
	write := func(s string) error {
		_, err := io.WriteString(c.conn, s)
		return err
	}
	switch f.kind {
	case "4xx":
		note("451 4.3.0 Not now")
		return said, c.say(said)
	case "5xx":
		note("554 5.3.0 Never")
		return said, c.say(said)
	case "421":
		note("421 4.3.2 Going down")
		return said, errors.Join(c.say(said), errOver)
	case "250":
		note("250 2.0.0 Early")
		if within(f.step) {
			c.hop.owe(1)
		}
		return said, c.say(said)
	case "in pieces", "byte by byte":
		note(usual)
		return said, c.dribble(usual+"\r\n", f.kind)
	case "multi-line":
		note(usual)
		code := usual[:3]
		return said, write(code + "-one line\r\n" + code + "-\r\n" + lastLine(usual))
	case "twice":
		note(usual)
		return said, write(usual + "\r\n" + usual + "\r\n")
	}
	note("")
	switch f.kind {
	case "close":
		return "", errOver
	case "reset":
		resetOnClose(c.conn)
		return "", errOver
	case "vanish":
		c.hop.vanish(c.sock)
		return "", errVanished
	case "garbage":
		err = write(garbage)
	case "another reply":
		other := "354 Go ahead\r\n"
		if strings.HasPrefix(usual, "354") {
			other = "250 2.0.0 Ok\r\n"
		}
		err = write(other)
	case "two codes":
		err = write(usual[:3] + "-so\r\n550 no\r\n")
	case "half, then close":
		return "", errors.Join(write(usual[:2]), errOver)
	case "half, then stall":
		err = write(usual[:2])
	case "endless line":
		err = write(usual + strings.Repeat(" more", 1000) + "\r\n")
	case "bare LF":
		err = write(usual + "\n")
	}
	// Stay silent until the other side gives up.
	if err == nil {
		_, err = io.Copy(io.Discard, c.r)
	}
	return "", errors.Join(err, errOver)
}

// dribble writes a reply in several packets.
func (c *hopConn) dribble(s, kind string) error {
	size := 1
	if kind == "in pieces" {
		size = 1 + len(s)/3
	}
	for len(s) > 0 {
		n := min(size, len(s))
		if _, err := io.WriteString(c.conn, s[:n]); err != nil {
			return err
		}
		s = s[n:]
		pause(100 * time.Microsecond) // so that the pieces are packets
	}
	return nil
}

func lastLine(reply string) string {
	return reply[strings.LastIndexByte(reply, '\n')+1:] + "\r\n"
}
