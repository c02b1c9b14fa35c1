package peertest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// stepLimit bounds each read and write of a [Client], so that a server which says nothing fails the test.
const stepLimit = 30 * time.Second

// Client is an SMTP client that sends exactly what it is told to, right or wrong. Its methods fail the test on the
// first thing that is not as asked, so they belong in the test's own goroutine.
type Client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	log  strings.Builder
}

// Dial connects to host:port, or to the Unix socket at "unix:/path". It reads no greeting: Expect(220) does. The
// connection is closed when the test ends.
func Dial(t testing.TB, addr string) *Client {
	t.Helper()
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	conn, err := net.DialTimeout(network, addr, stepLimit)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	return newClient(t, conn)
}

// DialFrom is [Dial] from a loopback address of one's own choice, such as 127.0.0.7.
func DialFrom(t testing.TB, ip, addr string) *Client {
	t.Helper()
	dialer := net.Dialer{Timeout: stepLimit, LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("connect from %s: %v", ip, err)
	}
	return newClient(t, conn)
}

func newClient(t testing.TB, conn net.Conn) *Client {
	c := &Client{t: t, conn: conn, r: bufio.NewReaderSize(conn, 4096)}
	t.Cleanup(c.Close)
	return c
}

// Send writes the bytes as they are, in one write.
func (c *Client) Send(raw string) {
	c.t.Helper()
	if err := c.TrySend(raw); err != nil {
		c.fatalf("send %s: %v", brief(raw), err)
	}
}

// TrySend is Send for when the server may be gone.
func (c *Client) TrySend(raw string) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(stepLimit)); err != nil {
		return err
	}
	fmt.Fprintf(&c.log, "C: %s\n", brief(raw))
	_, err := io.WriteString(c.conn, raw)
	return err
}

// Reply reads one reply, of one line or several. The text has a line each, without the codes. An error is a closed
// connection (io.EOF), a time-out, or a reply that is not one.
func (c *Client) Reply() (code int, text string, err error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(stepLimit)); err != nil {
		return 0, "", err
	}
	var lines []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			if line != "" && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			fmt.Fprintf(&c.log, "S: %s [%v]\n", brief(line), err)
			return 0, "", err
		}
		fmt.Fprintf(&c.log, "S: %s\n", brief(line))
		got, more, rest, err := parseReplyLine(line)
		if err != nil {
			return 0, "", err
		}
		if code != 0 && got != code {
			return 0, "", fmt.Errorf("reply changes its code from %d to %d", code, got)
		}
		code = got
		lines = append(lines, rest)
		if !more {
			return code, strings.Join(lines, "\n"), nil
		}
		if len(lines) == 200 {
			return 0, "", errors.New("reply of more than 200 lines")
		}
	}
}

func parseReplyLine(line string) (code int, more bool, text string, err error) {
	body, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return 0, false, "", fmt.Errorf("reply line %q does not end in CRLF", line)
	}
	if len(body) < 3 {
		return 0, false, "", fmt.Errorf("reply line %q has no code", line)
	}
	code, err = strconv.Atoi(body[:3])
	if err != nil || code < 200 || code > 599 {
		return 0, false, "", fmt.Errorf("reply line %q has no code", line)
	}
	if len(body) == 3 {
		return code, false, "", nil
	}
	if body[3] != ' ' && body[3] != '-' {
		return 0, false, "", fmt.Errorf("reply line %q has neither space nor hyphen after the code", line)
	}
	return code, body[3] == '-', body[4:], nil
}

// Expect reads one reply, fails the test unless it has that code, and gives its text.
func (c *Client) Expect(code int) string {
	c.t.Helper()
	got, text, err := c.Reply()
	if err != nil {
		c.fatalf("expected %d, got no reply: %v", code, err)
	}
	if got != code {
		c.fatalf("expected %d, got %d %s", code, got, text)
	}
	return text
}

// Cmd sends the line with CRLF and reads the reply to it.
func (c *Client) Cmd(line string) (code int, text string) {
	c.t.Helper()
	c.Send(line + "\r\n")
	code, text, err := c.Reply()
	if err != nil {
		c.fatalf("no reply to %s: %v", brief(line), err)
	}
	return code, text
}

// Want sends the line with CRLF, fails the test unless the reply has that code, and gives its text.
func (c *Client) Want(line string, code int) string {
	c.t.Helper()
	c.Send(line + "\r\n")
	return c.Expect(code)
}

// Data sends a message after the server's 354: dots are stuffed and the final dot is added. It reads no reply.
func (c *Client) Data(message string) {
	c.t.Helper()
	c.Send(DotStuff(message))
}

// DotStuff gives a message as it goes over the wire: a dot before each line that begins with one, and the final dot.
// Line ends are left as they are; CRLF is added to a last line that lacks it.
func DotStuff(message string) string {
	var b strings.Builder
	for line := range strings.SplitAfterSeq(message, "\r\n") {
		if strings.HasPrefix(line, ".") {
			b.WriteByte('.')
		}
		b.WriteString(line)
	}
	if !strings.HasSuffix(message, "\r\n") && message != "" {
		b.WriteString("\r\n")
	}
	b.WriteString(".\r\n")
	return b.String()
}

// Deliver sends one whole transaction and gives the reply to the final dot. Every command before it must succeed.
func (c *Client) Deliver(from string, to []string, message string) (code int, text string) {
	c.t.Helper()
	c.Want("MAIL FROM:<"+from+">", 250)
	for _, r := range to {
		c.Want("RCPT TO:<"+r+">", 250)
	}
	c.Want("DATA", 354)
	c.Data(message)
	code, text, err := c.Reply()
	if err != nil {
		c.fatalf("no reply to the message: %v", err)
	}
	return code, text
}

// StartTLS asks for TLS and goes over to it. It fails the test when the server refuses or the handshake fails.
func (c *Client) StartTLS(cfg *tls.Config) tls.ConnectionState {
	c.t.Helper()
	c.Want("STARTTLS", 220)
	return c.Handshake(cfg)
}

// Handshake begins TLS at once, as on a port with implicit TLS.
func (c *Client) Handshake(cfg *tls.Config) tls.ConnectionState {
	c.t.Helper()
	if n := c.r.Buffered(); n != 0 {
		c.fatalf("%d octets in plain text after the reply to STARTTLS", n)
	}
	tc := tls.Client(c.conn, cfg)
	if err := tc.SetDeadline(time.Now().Add(stepLimit)); err != nil {
		c.fatalf("set the time limit: %v", err)
	}
	if err := tc.Handshake(); err != nil {
		c.fatalf("TLS handshake: %v", err)
	}
	c.conn, c.r = tc, bufio.NewReaderSize(tc, 4096)
	return tc.ConnectionState()
}

// WantClosed fails the test unless the server closes the connection with no further reply. A reset counts as closed.
func (c *Client) WantClosed() {
	c.t.Helper()
	code, text, err := c.Reply()
	if err == nil {
		c.fatalf("expected the connection to close, got %d %s", code, text)
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.fatalf("the connection was not closed within %v", stepLimit)
	}
}

// CloseWrite ends the sending half of the connection, which the server sees as the end of input.
func (c *Client) CloseWrite() {
	c.t.Helper()
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok {
		c.fatalf("a %T has no halves to close", c.conn)
	}
	if err := half.CloseWrite(); err != nil {
		c.fatalf("close the sending half: %v", err)
	}
}

// Reset drops the TCP connection without a farewell (RST).
func (c *Client) Reset() {
	c.t.Helper()
	conn := c.conn
	if tc, ok := conn.(*tls.Conn); ok {
		conn = tc.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			c.fatalf("drop the connection: %v", err)
		}
	}
	conn.Close()
}

// Close closes the connection; a second time does nothing.
func (c *Client) Close() { c.conn.Close() }

// LocalAddr is the client's own address, as the server sees it.
func (c *Client) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// Transcript is what was said so far; long lines are cut.
func (c *Client) Transcript() string { return c.log.String() }

func (c *Client) fatalf(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s\nthe dialogue:\n%s", fmt.Sprintf(format, args...), c.log.String())
}

// brief quotes what was said, cut to a readable length.
func brief(s string) string {
	const most = 200
	if len(s) > most {
		return fmt.Sprintf("%q... (%d octets)", s[:most], len(s))
	}
	return strconv.Quote(s)
}
