package wire

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// A Conn is one client's connection as go-smtp sees it: from its first command, or the first after STARTTLS or XCLIENT, to the next of these or to
// its end. All Conns of one socket share their facts and Value.
//
// Read, Write and Alive are for the goroutine that runs the session; the other methods may be called from any.
type Conn struct {
	link   *link
	closed atomic.Bool
}

var _ net.Conn = (*Conn)(nil)

// Read gives one whole command, or octets of a message. It blocks until one is there. Whatever ends the connection is io.EOF here, which
// go-smtp turns into io.ErrUnexpectedEOF within a message; Reason says what it was.
func (c *Conn) Read(b []byte) (int, error) {
	if c.closed.Load() || len(b) == 0 {
		return 0, io.EOF
	}
	return c.link.read(b)
}

// Body reads the message after DATA was answered 354: what it says, without the dots that the line has doubled, up to its end.
// The session may read it in place of the reader that go-smtp gives it, which goes through the message octet by octet to find the end
// that the wire has found already, and which is at its end from then on. An end that never came is io.ErrUnexpectedEOF. Behind the end, DataErr
// tells what is wrong with the message.
func (c *Conn) Body() io.Reader { return body{conn: c} }

type body struct{ conn *Conn }

func (b body) Read(p []byte) (int, error) {
	if b.conn.closed.Load() {
		return 0, io.ErrUnexpectedEOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	return b.conn.link.readBody(p)
}

// Write takes what go-smtp answers. A reply leaves in one piece when it is complete.
func (c *Conn) Write(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return c.link.write(p)
}

// Close ends the connection, or after STARTTLS or XCLIENT hands the socket on to the next Conn.
func (c *Conn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.link.release()
	}
	return nil
}

// RemoteAddr is the client's address: the one that a PROXY header or XCLIENT named, else the socket's.
func (c *Conn) RemoteAddr() net.Addr {
	if a := c.link.facts().client; a.IsValid() {
		return net.TCPAddrFromAddrPort(a)
	}
	return c.link.sock.RemoteAddr()
}

// PeerAddr is the address at the other end of the socket: the client's or that of a proxy in front.
func (c *Conn) PeerAddr() net.Addr { return c.link.sock.RemoteAddr() }

// LocalAddr is the address that the client connected to, as a PROXY header or XCLIENT named it, else the socket's.
func (c *Conn) LocalAddr() net.Addr {
	if a := c.link.facts().server; a.IsValid() {
		return net.TCPAddrFromAddrPort(a)
	}
	return c.link.sock.LocalAddr()
}

// TLS is the state of the encryption, nil in plain text.
func (c *Conn) TLS() *tls.ConnectionState { return c.link.facts().tls }

// Extended reports whether the client greeted with EHLO, not HELO.
func (c *Conn) Extended() bool { return c.link.facts().extended }

// Offered reports whether the last reply to EHLO offered the keyword ("SIZE", "DSN"); always false after HELO.
func (c *Conn) Offered(keyword string) bool {
	for _, k := range c.link.facts().offered {
		name, _, _ := strings.Cut(k, " ")
		if strings.EqualFold(name, keyword) {
			return true
		}
	}
	return false
}

// DataErr says, once the reader of Data has ended, what was wrong with the message: a *[DataError] for its lines or size (the
// session answers with its Reply), an error that wraps io.ErrUnexpectedEOF where the connection was lost, nil if nothing was.
func (c *Conn) DataErr() error { return c.link.facts().dataErr }

// BytesIn counts octets received, after decryption.
func (c *Conn) BytesIn() int64 { return c.link.bytesIn.Load() }

// BytesOut counts octets sent, before encryption.
func (c *Conn) BytesOut() int64 { return c.link.bytesOut.Load() }

// Commands counts command lines, good and bad.
func (c *Conn) Commands() int { return int(c.link.commands.Load()) }

// Errors counts replies 500 to 504 and 555.
func (c *Conn) Errors() int { return int(c.link.errors.Load()) }

// EarlyTalk reports whether the client sent octets before the banner (RFC 5321 section 3.1 has it wait).
func (c *Conn) EarlyTalk() bool { return c.link.earlyTalk.Load() }

// BadPipelining reports whether the client sent octets where RFC 2920 has it wait for a reply: after HELO, EHLO, DATA or STARTTLS.
func (c *Conn) BadPipelining() bool { return c.link.badPipelining.Load() }

// Reason says why the connection ended ("quit", "client closed", "idle timeout" …), empty while it lives.
func (c *Conn) Reason() string { return c.link.facts().reason }

// LastCommand is the verb of the last command ("RCPT"); "?" for a line that was none.
func (c *Conn) LastCommand() string { return c.link.facts().lastCommand }

// XClient is what the peer told by XCLIENT; its zero value if it told nothing.
func (c *Conn) XClient() XClient { return c.link.facts().xclient }

// Started is when the connection was accepted, by Config.Now.
func (c *Conn) Started() time.Time { return c.link.begun }

// Value is what SetValue attached, to this Conn or to an earlier one of the same socket.
func (c *Conn) Value() any { return c.link.facts().value }

// SetValue attaches the owner's state to the connection.
func (c *Conn) SetValue(v any) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	c.link.f.value = v
}

// Alive reports, without waiting, whether the client is still there. A client that has closed its side counts as gone unless it sent whole commands
// ahead, to which it may still want the replies.
func (c *Conn) Alive() bool { return !c.closed.Load() && c.link.alive() }

// SetDeadline does nothing: deadlines are the wire's.
func (c *Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing: deadlines are the wire's.
func (c *Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: deadlines are the wire's.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// XClient holds the attributes of an XCLIENT command, decoded; one that was not sent or is unavailable is empty.
type XClient struct {
	Used   bool
	Name   string // reverse host name, "" where unavailable
	Helo   string
	Proto  string // "SMTP" or "ESMTP"
	Login  string
	Client netip.AddrPort
	Server netip.AddrPort
}
