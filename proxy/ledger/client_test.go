package ledger

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"syscall"
	"time"
)

// A client sends mail like a mail server: what is not answered for good it sends again.
type client struct {
	addr    string
	local   net.IP // where its connections come from
	secure  bool   // STARTTLS
	from    string
	helo    string
	book    *book
	afterTx func()            // called after each attempt
	at      func(step string) // called at each step, if not nil
	last    int               // the last reply to a message
}

// A clientFault is what a client does wrong in its first attempt.
type clientFault struct {
	step  string
	kind  string
	wait  func() // at the step "final dot": for the moment to act
	acted func() // told that it was done, where that is not nil
}

// errGone says that the client has ended the connection itself, or that it was ended.
var errGone = errors.New("the connection is gone")

// A talk is one connection of a client.
type talk struct {
	conn  net.Conn
	text  *textproto.Reader
	fault *clientFault
	fired *bool
	slow  bool // octet by octet from here on
	at    func(step string)
	gone  bool // the other side hears no more of us
}

// deliver sends a message until every recipient has a final answer, or patience is at its end. The fault, and what else is
// wrong in the world, is there in the first attempt.
func (c *client) deliver(a *account, fault *clientFault) {
	wait := 5 * time.Millisecond
	for limit := time.Now().Add(patience); time.Now().Before(limit); {
		pending := c.book.try(a)
		if len(pending) == 0 {
			return
		}
		c.attempt(a, pending, fault)
		if c.afterTx != nil {
			c.afterTx()
		}
		fault = nil
		pause(wait)
		wait = min(2*wait, 100*time.Millisecond)
	}
}

// attempt is one connection with one transaction.
func (c *client) attempt(a *account, rcpts []string, fault *clientFault) {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: c.local}}
	conn, err := dialer.Dial("tcp", c.addr)
	if err != nil {
		return
	}
	t := &talk{conn: conn, text: textproto.NewReader(bufio.NewReader(conn)), fault: fault, fired: &a.fired, at: c.at}
	defer func() {
		if t.gone {
			c.book.keep(conn)
			return
		}
		t.conn.Close()
	}()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return
	}
	if err := c.greet(t); err != nil {
		return
	}
	if fault != nil && fault.step == "RSET" {
		if t.step("RSET", "MAIL FROM:<"+c.from+">") != nil || t.expect("RCPT TO:<"+rcpts[0]+">", 250) != nil || t.expect("RSET", 250) != nil {
			return
		}
	}
	if err := c.transact(t, a, rcpts); err != nil {
		return
	}
	if t.act("reply") == nil && t.expect("QUIT", 221) == nil {
		return
	}
}

func (c *client) greet(t *talk) error {
	if err := t.act("connect"); err != nil {
		return err
	}
	if code, err := t.answer(); err != nil || code != 220 {
		return errGone
	}
	if err := t.step("EHLO", "EHLO "+c.helo); err != nil {
		return err
	}
	if !c.secure {
		return nil
	}
	if err := t.step("STARTTLS", "STARTTLS"); err != nil {
		return err
	}
	if err := t.act("handshake"); err != nil {
		return err
	}
	secure := tls.Client(t.conn, &tls.Config{InsecureSkipVerify: true})
	if err := secure.Handshake(); err != nil {
		return err
	}
	t.conn, t.text = secure, textproto.NewReader(bufio.NewReader(secure))
	return t.step("second EHLO", "EHLO "+c.helo)
}

// transact goes from MAIL to the reply to the message.
func (c *client) transact(t *talk, a *account, rcpts []string) error {
	if t.fault != nil && t.fault.kind == "all ahead" {
		return c.ahead(t, a, rcpts)
	}
	if err := t.step("MAIL", "MAIL FROM:<"+c.from+">"); err != nil {
		return c.refusedAll(a, rcpts, err)
	}
	var accepted []string
	for i, r := range rcpts {
		err := t.step(fmt.Sprint("RCPT ", i+1), "RCPT TO:<"+r+">")
		var refusal *textproto.Error
		switch {
		case err == nil:
			accepted = append(accepted, r)
		case errors.As(err, &refusal):
			c.refusedSome(a, refusal, r)
		default:
			return err
		}
	}
	if len(accepted) == 0 {
		return nil
	}
	if err := t.step("DATA", "DATA"); err != nil {
		return c.refusedAll(a, accepted, err)
	}
	if err := t.sendMessage(a.message); err != nil {
		return err
	}
	return c.outcome(t, a, accepted)
}

// outcome takes in the reply to the message.
func (c *client) outcome(t *talk, a *account, accepted []string) error {
	code, err := t.answer()
	c.last = code
	if err != nil {
		return err
	}
	if code/100 == 2 || code/100 == 5 {
		c.book.settled(a, code, accepted...)
	}
	return nil
}

func (c *client) refusedAll(a *account, rcpts []string, err error) error {
	var refusal *textproto.Error
	if errors.As(err, &refusal) {
		c.refusedSome(a, refusal, rcpts...)
	}
	return err
}

func (c *client) refusedSome(a *account, refusal *textproto.Error, rcpts ...string) {
	if refusal.Code/100 == 5 {
		c.book.settled(a, refusal.Code, rcpts...)
	}
}

// ahead writes the whole transaction, QUIT included, in one go, and reads the replies afterwards.
func (c *client) ahead(t *talk, a *account, rcpts []string) error {
	*t.fired = true
	lines := "MAIL FROM:<" + c.from + ">\r\n"
	for _, r := range rcpts {
		lines += "RCPT TO:<" + r + ">\r\n"
	}
	if err := t.send(lines + "DATA\r\n"); err != nil {
		return err
	}
	var accepted []string
	if _, err := t.answer(); err != nil {
		return err
	}
	for _, r := range rcpts {
		code, err := t.answer()
		if err != nil {
			return err
		}
		if code == 250 {
			accepted = append(accepted, r)
		}
	}
	if code, err := t.answer(); err != nil || code != 354 {
		return errGone
	}
	if err := t.send(stuffed(a.message) + ".\r\nQUIT\r\n"); err != nil {
		return err
	}
	if err := c.outcome(t, a, accepted); err != nil {
		return err
	}
	_, err := t.answer()
	return errors.Join(err, errGone)
}

// step sends a command and wants 2xx or 3xx.
func (t *talk) step(name, line string) error {
	if err := t.act(name); err != nil {
		return err
	}
	if err := t.send(line + "\r\n"); err != nil {
		return err
	}
	return t.positive()
}

func (t *talk) positive() error {
	code, text, err := t.text.ReadResponse(0)
	if err != nil {
		return errGone
	}
	if code/100 > 3 {
		return &textproto.Error{Code: code, Msg: text}
	}
	return nil
}

func (t *talk) expect(line string, code int) error {
	if err := t.send(line + "\r\n"); err != nil {
		return err
	}
	if got, err := t.answer(); err != nil || got != code {
		return errGone
	}
	return nil
}

// answer reads one reply.
func (t *talk) answer() (code int, err error) {
	code, _, err = t.text.ReadResponse(0)
	return code, err
}

func (t *talk) send(s string) error {
	if !t.slow {
		_, err := io.WriteString(t.conn, s)
		return err
	}
	for i := range len(s) {
		if _, err := io.WriteString(t.conn, s[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// places are where a client may stop within a message: how much of it is sent by then.
var places = []string{"header", "within a line", "within CRLF", "before the dot", "behind the dot", "behind dot and CR"}

func place(name, wire string) int {
	switch name {
	case "header":
		return strings.Index(wire, "\r\n\r\n") + 4
	case "within a line":
		return strings.Index(wire, "middle of ") + 4
	case "within CRLF":
		at := strings.Index(wire, "middle of ")
		return at + strings.Index(wire[at:], "\r\n") + 1
	case "before the dot":
		return len(wire) - 3
	case "behind the dot":
		return len(wire) - 2
	case "behind dot and CR":
		return len(wire) - 1
	}
	return len(wire)
}

// sendMessage sends a message with its final dot.
func (t *talk) sendMessage(message []byte) error {
	wire := stuffed(message) + ".\r\n"
	if t.fault != nil {
		if at := place(t.fault.step, wire); at < len(wire) {
			if err := t.send(wire[:at]); err != nil {
				return err
			}
			if err := t.act(t.fault.step); err != nil {
				return err
			}
			wire = wire[at:]
		}
	}
	if err := t.send(wire); err != nil {
		return err
	}
	if err := t.act("final dot"); err != nil {
		return err
	}
	if t.fault != nil && t.fault.step == "unread reply" {
		t.peek()
		return t.act("unread reply")
	}
	return nil
}

// stuffed doubles the dots at the beginning of lines.
func stuffed(message []byte) string {
	return strings.ReplaceAll("\n"+string(message), "\n.", "\n..")[1:]
}

// peek waits until there is a reply to read, and leaves it unread.
func (t *talk) peek() {
	conn := t.conn
	if s, ok := conn.(*tls.Conn); ok {
		conn = s.NetConn()
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return
	}
	var b [1]byte
	_ = raw.Read(func(fd uintptr) bool { // fails at the deadline
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return !errors.Is(err, syscall.EAGAIN)
	})
}

func (f *clientFault) done() {
	if f.acted != nil {
		f.acted()
	}
}

// act does what the fault says, if its step has come. An error says that the attempt is over.
func (t *talk) act(step string) error {
	if t.at != nil {
		t.at(step)
	}
	if t.fault == nil || t.fault.step != step {
		return nil
	}
	*t.fired = true
	if t.fault.wait != nil {
		t.fault.wait()
	}
	switch t.fault.kind {
	case "close":
		t.conn.Close()
		t.fault.done()
		return errGone
	case "reset":
		resetOnClose(t.conn)
		t.conn.Close()
		t.fault.done()
		return errGone
	case "close, reading on":
		if c, ok := t.conn.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite() // it may be closed already
		}
		t.fault.done()
		_, _ = io.Copy(io.Discard, t.conn)
		return errGone
	case "stall":
		_, _ = io.Copy(io.Discard, t.conn) // until we are given up
		return errGone
	case "vanish":
		deafen(t.conn)
		t.fault.done()
		t.gone = true
		return errGone
	case "half a line, then close":
		_ = t.send("MAI")
		t.conn.Close()
		return errGone
	case "garbage":
		if err := t.send("\x80\x01what is this\r\n"); err != nil {
			return err
		}
		_, err := t.answer()
		return err
	case "octet by octet":
		t.slow = true
	}
	return nil
}

// inSession sends messages on one connection, as far as it carries; before is called before each.
func (c *client) inSession(accounts []*account, rcpts [][]string, before func(n int)) {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: c.local}}
	conn, err := dialer.Dial("tcp", c.addr)
	if err != nil {
		return
	}
	unused := false
	t := &talk{conn: conn, text: textproto.NewReader(bufio.NewReader(conn)), fired: &unused}
	defer func() { t.conn.Close() }()
	if conn.SetDeadline(time.Now().Add(patience)) != nil || c.greet(t) != nil {
		return
	}
	for i, a := range accounts {
		before(i)
		if err := c.transact(t, a, rcpts[i]); err != nil {
			return
		}
	}
	_ = t.expect("QUIT", 221) // all is said
}
