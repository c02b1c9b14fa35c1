package wire

import (
	"io"
	"net"
	"testing"
)

// A client that leaves shows whether it can have read the reply to its message: the delivery memory goes by that.
func TestFarewell(t *testing.T) {
	// arrived waits until the reply is there for the client, which does not read it.
	arrived := func(sock net.Conn) {
		awaitInput(rawConn(sock))
	}
	for name, tc := range map[string]struct {
		tls    bool
		before func(c *client, sock net.Conn) // while the reply is held back
		after  func(c *client, sock net.Conn)
		want   string
	}{
		"read": {
			after: func(c *client, _ net.Conn) { c.want("250"); _ = c.Close() }, want: "client closed",
		},
		"read, under TLS": {
			tls: true, after: func(c *client, _ net.Conn) { c.want("250"); _ = c.Close() }, want: "client closed",
		},
		"read, and waited for the end of TLS": {
			tls: true, want: "client closed",
			after: func(c *client, _ net.Conn) {
				c.want("250")
				c.halfClose()
				if _, err := c.r.ReadByte(); err != io.EOF {
					c.t.Errorf("the end of TLS: %v", err)
				}
				_ = c.Close()
			},
		},
		"not read": {
			after: func(c *client, sock net.Conn) { arrived(sock); _ = c.Close() }, want: "reset",
		},
		"not read, under TLS": {
			tls: true, after: func(c *client, sock net.Conn) { arrived(sock); _ = c.Close() }, want: "reset",
		},
		"closed before the reply came": {
			before: func(c *client, _ net.Conn) { _ = c.Close() }, want: "reset",
		},
		"closed before the reply came, under TLS": {
			tls: true, before: func(c *client, _ net.Conn) { _ = c.Close() }, want: "reset",
		},
		"closed its side and read on": {
			before: func(c *client, _ net.Conn) { c.halfClose() },
			after:  func(c *client, _ net.Conn) { c.want("250"); c.wantEnd() }, want: "client closed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held, release := make(chan struct{}), make(chan struct{})
			s := serve(t, Config{TLS: testTLS()}, func(s *site) {
				s.onData = func(*smtpConn) { close(held); <-release }
			})
			c := s.dial()
			sock := c.Conn
			c.hello()
			if tc.tls {
				c.do("STARTTLS", "220")
				c = c.encrypt()
				c.do("EHLO x", "250-")
			}
			c.envelope()
			c.send("hello\r\n.\r\n")
			<-held
			if tc.before != nil {
				tc.before(c, sock)
			}
			close(release)
			if tc.after != nil {
				tc.after(c, sock)
			}
			if r := s.reason(); r != tc.want {
				t.Errorf("reason %q, want %q", r, tc.want)
			}
		})
	}
}
