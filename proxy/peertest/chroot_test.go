package peertest

import (
	"strings"
	"testing"
)

func TestEximDeliversAndRefuses(t *testing.T) {
	s := StartExim(t, Exim{})
	c := Dial(t, s.Addr)
	c.Expect(220)
	c.Want("EHLO client.example", 250)
	c.Want("MAIL FROM:<eve@example.com>", 250)
	if text := c.Want("RCPT TO:<nobody@example.org>", 550); !strings.Contains(text, "Unknown user") {
		t.Errorf("an unknown user is refused with %q", text)
	}
	c.Want("RCPT TO:<someone@elsewhere.example>", 550)
	c.Want("RCPT TO:<alice@example.org>", 250)
	c.Want("DATA", 354)
	c.Data("Subject: x\r\n\r\nhello\r\n.dot\r\n")
	c.Expect(250)
	got := s.Messages("alice", 1)[0]
	if !got.Has("\n\nhello\n.dot\n") {
		t.Errorf("the message is %q", got.Raw)
	}
	s.Stop()
	s.Start()
	out, exit := Swaks(t, "--server", s.Addr, "--from", "eve@example.com", "--to", "bob@example.org")
	if exit != 0 {
		t.Errorf("after the start, swaks ended with %d:\n%s", exit, out)
	}
	s.Messages("bob", 1)
}

func TestOpenSMTPDDeliversAndRefuses(t *testing.T) {
	s := StartOpenSMTPD(t, OpenSMTPD{})
	c := Dial(t, s.Addr)
	c.Expect(220)
	c.Want("EHLO client.example", 250)
	c.Want("MAIL FROM:<eve@example.com>", 250)
	c.Want("RCPT TO:<nobody@example.org>", 550)
	c.Want("RCPT TO:<someone@elsewhere.example>", 550)
	c.Want("RCPT TO:<alice@example.org>", 250)
	c.Want("DATA", 354)
	c.Data("Subject: x\r\nFrom: eve@example.com\r\nDate: Mon, 16 Nov 2026 09:12:03 +0100\r\n\r\nhello\r\n.dot\r\n")
	c.Expect(250)
	got := s.Messages("alice", 1)[0]
	if !got.Has("\n\nhello\n.dot\n") {
		t.Errorf("the message is %q", got.Raw)
	}
	s.Stop()
	s.Start()
	out, exit := Swaks(t, "--server", s.Addr, "--from", "eve@example.com", "--to", "bob@example.org")
	if exit != 0 {
		t.Errorf("after the start, swaks ended with %d:\n%s", exit, out)
	}
	s.Messages("bob", 1)
}

func TestOpenSMTPDReadsProxyHeader(t *testing.T) {
	s := StartOpenSMTPD(t, OpenSMTPD{Proxy: true})
	c := Dial(t, s.Addr)
	// Version 2, command PROXY, TCP over IPv4: 192.0.2.7:40000 to 127.0.0.1:25.
	c.Send("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\x00\x00\x01\x9c\x40\x00\x19")
	c.Expect(220)
	c.Want("EHLO out.example.com", 250)
	if code, text := c.Deliver("eve@example.com", []string{"alice@example.org"}, "Subject: x\r\n\r\nx\r\n"); code != 250 {
		t.Fatalf("delivery: %d %s\n%s", code, text, s.Log())
	}
	if got := s.Messages("alice", 1)[0].Header("Received"); len(got) != 1 || !strings.Contains(got[0], "[192.0.2.7]") {
		t.Errorf("Received is %q", got)
	}
}
