package peertest

import (
	"strings"
	"testing"
)

func TestDovecotDeliversOverTCPAndSocket(t *testing.T) {
	s := StartDovecot(t, Dovecot{})
	for i, addr := range []string{s.Addr, "unix:" + s.Socket} {
		c := Dial(t, addr)
		c.Expect(220)
		c.Want("LHLO client.example", 250)
		if code, text := c.Deliver("eve@example.com", []string{"alice@example.org"}, "Subject: x\r\n\r\nhello\r\n"); code != 250 {
			t.Fatalf("delivery at %s: %d %s\n%s", addr, code, text, s.Log())
		}
		msgs := s.Messages("alice@example.org", i+1)
		if len(msgs) != i+1 || !msgs[i].Has("\n\nhello\n") {
			t.Errorf("alice's mail after %s: %q", addr, msgs)
		}
	}
}

func TestDovecotRefusesPerRecipient(t *testing.T) {
	s := StartDovecot(t, Dovecot{Full: []string{"full@example.org"}})
	c := Dial(t, s.Addr)
	c.Expect(220)
	c.Want("LHLO client.example", 250)
	c.Want("MAIL FROM:<eve@example.com>", 250)
	if text := c.Want("RCPT TO:<nobody@example.org>", 550); !strings.Contains(text, "5.1.1") {
		t.Errorf("an unknown user is refused with %q, want 5.1.1", text)
	}
	c.Want("RCPT TO:<full@example.org>", 250)
	c.Want("RCPT TO:<bob@example.org>", 250)
	c.Want("DATA", 354)
	c.Data("Subject: x\r\n\r\nhello\r\n")
	// One reply per accepted recipient, in their order (RFC 2033 section 4.2).
	if text := c.Expect(552); !strings.Contains(text, "5.2.2") {
		t.Errorf("a full mailbox is refused with %q, want 5.2.2", text)
	}
	c.Expect(250)
	if got := s.Messages("bob@example.org", 1); len(got) != 1 {
		t.Errorf("bob has %d messages, want 1", len(got))
	}
	if got := s.Messages("full@example.org", 0); len(got) != 0 {
		t.Errorf("the full mailbox has %d messages, want none", len(got))
	}
}
