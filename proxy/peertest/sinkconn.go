package peertest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/pires/go-proxyproto"
)

// sinkConn is one session.
type sinkConn struct {
	s    *SinkServer
	conn net.Conn
	r    *bufio.Reader
	num  int
	tx   Transaction // the one in progress; its Helo, TLS, Source and Extra belong to the session
	open bool        // after MAIL
}

func newSinkConn(s *SinkServer, c net.Conn, n int) *sinkConn {
	return &sinkConn{s: s, conn: c, r: bufio.NewReader(c), num: n, tx: Transaction{Conn: n}}
}

func (c *sinkConn) run() {
	defer func() { c.conn.Close() }()
	if c.s.cfg.Proxy {
		h, err := proxyproto.Read(c.r)
		if err != nil {
			return
		}
		if h.SourceAddr != nil {
			c.tx.Source = h.SourceAddr.String()
		}
	}
	if c.s.cfg.Implicit && !c.handshake() {
		return
	}
	if _, ok := c.answer("CONNECT", "", "220 "+c.s.cfg.Hostname+" ESMTP sink"); !ok {
		return
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.ask("EOF", line)
			return
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		c.s.record(line)
		if !c.command(line) {
			return
		}
	}
}

// ask gives the script's answer to an event.
func (c *sinkConn) ask(verb, line string) Answer {
	if c.s.cfg.Script == nil {
		return Answer{}
	}
	return c.s.cfg.Script(Event{Conn: c.num, Verb: verb, Line: line, Tx: c.tx.clone()})
}

// answer replies to an event by the script, or else with usual. It gives what was said; ok is false when the
// connection is over.
func (c *sinkConn) answer(verb, line, usual string) (said string, ok bool) {
	a := c.ask(verb, line)
	switch {
	case a.Raw != "":
		said = a.Raw
	case a.Quiet:
	case a.Reply != "":
		said = a.Reply + "\r\n"
	case a == (Answer{}) && usual != "":
		said = usual + "\r\n"
	}
	if said != "" {
		if _, err := c.conn.Write([]byte(said)); err != nil {
			return said, false
		}
	}
	if a.Reset {
		c.linger()
	}
	return said, !a.Close && !a.Reset
}

// linger makes the coming Close a TCP reset. Where that fails, the end is an orderly one.
func (c *sinkConn) linger() {
	conn := c.conn
	if tc, ok := conn.(*tls.Conn); ok {
		conn = tc.NetConn()
	}
	if b, ok := conn.(bufferedConn); ok {
		conn = b.Conn
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
		tcp.Close()
	}
}

// multiline writes a reply of several lines, without the last CRLF.
func multiline(code int, lines []string) string {
	var b strings.Builder
	last := len(lines) - 1
	for _, l := range lines[:last] {
		fmt.Fprintf(&b, "%d-%s\r\n", code, l)
	}
	fmt.Fprintf(&b, "%d %s", code, lines[last])
	return b.String()
}

func (c *sinkConn) command(line string) (goOn bool) {
	verb, _, _ := strings.Cut(line, " ")
	verb, _, _ = strings.Cut(strings.ToUpper(verb), ":")
	switch verb {
	case "EHLO", "HELO", "LHLO":
		return c.hello(verb, line)
	case "STARTTLS":
		if c.s.cfg.TLS == nil || c.tx.TLS {
			_, ok := c.answer(verb, line, "502 5.5.1 TLS is not possible")
			return ok
		}
		said, ok := c.answer(verb, line, "220 2.0.0 Go ahead")
		return ok && (!positive(said) || c.handshake())
	case "MAIL":
		c.reset()
		c.tx.Mail = line
		said, ok := c.answer(verb, line, "250 2.1.0 Sender ok")
		c.open = positive(said)
		return ok
	case "RCPT":
		return c.rcpt(line)
	case "DATA":
		return c.data(line)
	case "RSET":
		c.reset()
		_, ok := c.answer(verb, line, "250 2.0.0 Ok")
		return ok
	case "XCLIENT", "XFORWARD":
		c.tx.Extra = append(c.tx.Extra, line)
		usual := "250 2.0.0 Ok"
		if verb == "XCLIENT" {
			usual = "220 " + c.s.cfg.Hostname + " ESMTP sink"
		}
		_, ok := c.answer(verb, line, usual)
		return ok
	case "QUIT":
		c.answer(verb, line, "221 2.0.0 Bye")
		return false
	case "NOOP":
		_, ok := c.answer(verb, line, "250 2.0.0 Ok")
		return ok
	}
	_, ok := c.answer(verb, line, "500 5.5.2 Unknown command")
	return ok
}

func (c *sinkConn) hello(verb, line string) bool {
	c.reset()
	if c.s.cfg.LMTP != (verb == "LHLO") {
		_, ok := c.answer(verb, line, "500 5.5.1 This is not the protocol spoken here")
		return ok
	}
	c.tx.Helo = line
	lines := []string{c.s.cfg.Hostname}
	if verb != "HELO" {
		lines = append(lines, c.s.cfg.Keywords...)
		if c.s.cfg.TLS != nil && !c.tx.TLS {
			lines = append(lines, "STARTTLS")
		}
	}
	_, ok := c.answer(verb, line, multiline(250, lines))
	return ok
}

func (c *sinkConn) rcpt(line string) bool {
	usual := "250 2.1.5 Recipient ok"
	if !c.open {
		usual = "503 5.5.1 MAIL first"
	}
	said, ok := c.answer("RCPT", line, usual)
	if positive(said) {
		c.tx.Rcpts = append(c.tx.Rcpts, line)
	} else {
		c.tx.Refused = append(c.tx.Refused, line)
	}
	return ok
}

func (c *sinkConn) data(line string) bool {
	usual := "354 End with a dot"
	if len(c.tx.Rcpts) == 0 {
		usual = "503 5.5.1 No valid recipients"
	}
	said, ok := c.answer("DATA", line, usual)
	if !ok || !strings.HasPrefix(said, "354") {
		return ok
	}
	if !c.readMessage() {
		return false
	}
	answers := []string{""}
	if c.s.cfg.LMTP {
		answers = c.tx.Rcpts
	}
	for i, rcpt := range answers {
		usual := fmt.Sprintf("250 2.0.0 Ok: queued as SINK%d", i+1)
		said, ok := c.answer(".", rcpt, usual)
		c.tx.Replies = append(c.tx.Replies, strings.TrimSuffix(said, "\r\n"))
		if !ok {
			c.s.finish(c.tx.clone())
			return false
		}
	}
	c.s.finish(c.tx.clone())
	c.reset()
	return true
}

// readMessage reads to the final dot: a line of a dot alone between two CRLF. It gives false when the input ends
// before, or the script ends the session.
func (c *sinkConn) readMessage() bool {
	asked := false
	afterCRLF := true
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			c.tx.Data = append(c.tx.Data, line...)
			c.ask("EOF", "")
			return false
		}
		if afterCRLF && string(line) == ".\r\n" {
			return true
		}
		stuffed := afterCRLF && line[0] == '.'
		if stuffed {
			line = line[1:]
		}
		c.tx.Data = append(c.tx.Data, line...)
		afterCRLF = strings.HasSuffix(string(c.tx.Data[max(0, len(c.tx.Data)-2):]), "\r\n")
		if !asked && c.s.cfg.BytesAt > 0 && len(c.tx.Data) >= c.s.cfg.BytesAt {
			asked = true
			if _, ok := c.answer("BYTES", "", ""); !ok {
				return false
			}
		}
	}
}

// reset forgets the transaction, and keeps what belongs to the session.
func (c *sinkConn) reset() {
	c.open = false
	c.tx = Transaction{Conn: c.tx.Conn, Helo: c.tx.Helo, TLS: c.tx.TLS, Source: c.tx.Source, Extra: c.tx.Extra}
}

func (c *sinkConn) handshake() bool {
	tc := tls.Server(bufferedConn{Conn: c.conn, r: c.r}, c.s.cfg.TLS)
	if err := tc.Handshake(); err != nil {
		return false
	}
	c.conn, c.r = tc, bufio.NewReader(tc)
	c.tx = Transaction{Conn: c.tx.Conn, TLS: true, Source: c.tx.Source}
	return true
}

// bufferedConn reads first what a reader before TLS has taken from the connection.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (b bufferedConn) Read(p []byte) (int, error) { return b.r.Read(p) }

func (tx Transaction) clone() Transaction {
	tx.Rcpts = slices.Clone(tx.Rcpts)
	tx.Refused = slices.Clone(tx.Refused)
	tx.Data = slices.Clone(tx.Data)
	tx.Extra = slices.Clone(tx.Extra)
	tx.Replies = slices.Clone(tx.Replies)
	return tx
}

func positive(said string) bool { return strings.HasPrefix(said, "2") }
