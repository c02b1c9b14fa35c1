package peertest

import (
	"crypto/tls"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const sinkMessage = "Subject: x\r\n\r\n.one dot\r\n..two dots\r\nbare\nLF and bare\rCR and 8 bit \xe4\r\n  trailing space \r\n"

func TestSinkRecordsTheExactBytes(t *testing.T) {
	s := StartSink(t, Sink{})
	c := Dial(t, s.Addr)
	if got := c.Expect(220); !strings.Contains(got, "sink.example") {
		t.Errorf("greeting %q lacks the host name", got)
	}
	if got := c.Want("EHLO client.example", 250); !strings.Contains(got, "8BITMIME") {
		t.Errorf("EHLO reply %q lacks 8BITMIME", got)
	}
	if code, text := c.Deliver("eve@example.com", []string{"alice@example.org", "bob@example.org"}, sinkMessage); code != 250 {
		t.Fatalf("delivery: %d %s", code, text)
	}
	c.Want("QUIT", 221)
	c.WantClosed()
	tx := s.Wait(1)[0]
	if string(tx.Data) != sinkMessage {
		t.Errorf("data is\n%q, want\n%q", tx.Data, sinkMessage)
	}
	want := []string{"RCPT TO:<alice@example.org>", "RCPT TO:<bob@example.org>"}
	if !slices.Equal(tx.Rcpts, want) || tx.Mail != "MAIL FROM:<eve@example.com>" || tx.Helo != "EHLO client.example" {
		t.Errorf("envelope is %q, %q, %q", tx.Helo, tx.Mail, tx.Rcpts)
	}
	wantCommands := []string{"EHLO client.example", "MAIL FROM:<eve@example.com>", want[0], want[1], "DATA", "QUIT"}
	if got := s.Commands(); !slices.Equal(got, wantCommands) {
		t.Errorf("commands are %q, want %q", got, wantCommands)
	}
}

// The end of a message is CRLF.CRLF and nothing else: what others take for it is data.
func TestSinkEndsAMessageAtCRLFDotCRLFOnly(t *testing.T) {
	for _, tc := range []struct{ name, sent, want string }{
		{"empty", ".\r\n", ""}, // the CRLF of the DATA command counts as the first
		{"bare LF before the dot", "a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n"},
		{"bare LF after the dot", "a\r\n.\nb\r\n.\r\n", "a\r\n\nb\r\n"},
		{"bare CR around the dot", "a\r.\r\r\n.\r\n", "a\r.\r\r\n"},
		{"CR CRLF before the dot", "a\r\r\n.\r\n", "a\r\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := StartSink(t, Sink{})
			c := Dial(t, s.Addr)
			c.Expect(220)
			c.Want("HELO c", 250)
			c.Want("MAIL FROM:<>", 250)
			c.Want("RCPT TO:<a@example.org>", 250)
			c.Want("DATA", 354)
			c.Send(tc.sent)
			c.Expect(250)
			if got := string(s.Wait(1)[0].Data); got != tc.want {
				t.Errorf("data is %q, want %q", got, tc.want)
			}
		})
	}
}

func TestSinkScript(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script func(Event) Answer
		talk   func(*Client)
		done   int // transactions that were answered
	}{
		{
			name: "a recipient is refused and the message goes to the other",
			script: func(e Event) Answer {
				if e.Verb == "RCPT" && strings.Contains(e.Line, "nobody") {
					return Answer{Reply: "550 5.1.1 No such user"}
				}
				return Answer{}
			},
			talk: func(c *Client) {
				c.Want("MAIL FROM:<a@example.com>", 250)
				c.Want("RCPT TO:<nobody@example.org>", 550)
				c.Want("RCPT TO:<alice@example.org>", 250)
				c.Want("DATA", 354)
				c.Data("x\r\n")
				c.Expect(250)
			},
			done: 1,
		},
		{
			name: "closed after the dot without a reply",
			script: func(e Event) Answer {
				return Answer{Close: e.Verb == "."}
			},
			talk: func(c *Client) {
				c.Want("MAIL FROM:<a@example.com>", 250)
				c.Want("RCPT TO:<alice@example.org>", 250)
				c.Want("DATA", 354)
				c.Data("x\r\n")
				c.WantClosed()
			},
			done: 1,
		},
		{
			name: "421 and close at MAIL",
			script: func(e Event) Answer {
				if e.Verb == "MAIL" {
					return Answer{Reply: "421 4.3.2 Going down", Close: true}
				}
				return Answer{}
			},
			talk: func(c *Client) {
				c.Want("MAIL FROM:<a@example.com>", 421)
				c.WantClosed()
			},
		},
		{
			name: "a reset in the middle of the message",
			script: func(e Event) Answer {
				return Answer{Reset: e.Verb == "BYTES"}
			},
			talk: func(c *Client) {
				c.Want("MAIL FROM:<a@example.com>", 250)
				c.Want("RCPT TO:<alice@example.org>", 250)
				c.Want("DATA", 354)
				c.Send(strings.Repeat("x\r\n", 100))
				c.WantClosed()
			},
		},
		{
			name: "garbage instead of a reply, sent as it is",
			script: func(e Event) Answer {
				if e.Verb == "NOOP" {
					return Answer{Raw: "250-a\r\n250 b\r\n"}
				}
				return Answer{}
			},
			talk: func(c *Client) {
				if got := c.Want("NOOP", 250); got != "a\nb" {
					c.fatalf("reply is %q", got)
				}
			},
		},
		{
			name:   "DATA with no recipient is refused",
			script: nil,
			talk: func(c *Client) {
				c.Want("MAIL FROM:<a@example.com>", 250)
				c.Want("DATA", 503)
				c.Want("FOO", 500)
				c.Want("RSET", 250)
				c.Want("RCPT TO:<alice@example.org>", 503)
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := StartSink(t, Sink{Script: tc.script, BytesAt: 100})
			c := Dial(t, s.Addr)
			c.Expect(220)
			c.Want("EHLO client.example", 250)
			tc.talk(c)
			if got := s.Wait(tc.done); len(got) != tc.done {
				t.Errorf("%d messages were answered, want %d", len(got), tc.done)
			}
		})
	}
}

func TestSinkLMTPAnswersPerRecipient(t *testing.T) {
	sock := filepath.Join(tempDir(t, "sink"), "lmtp")
	s := StartSink(t, Sink{LMTP: true, Unix: sock, Script: func(e Event) Answer {
		if e.Verb == "." && strings.Contains(e.Line, "bob") {
			return Answer{Reply: "452 4.2.2 Mailbox full"}
		}
		return Answer{}
	}})
	c := Dial(t, "unix:"+sock)
	c.Expect(220)
	c.Want("EHLO client.example", 500) // RFC 2033 section 4.1: LHLO only
	c.Want("LHLO client.example", 250)
	if code, _ := c.Deliver("", []string{"alice@example.org", "bob@example.org"}, "x\r\n"); code != 250 {
		t.Errorf("the first recipient hears %d, want 250", code)
	}
	c.Expect(452)
	if got := s.Wait(1)[0].Replies; len(got) != 2 || !strings.HasPrefix(got[1], "452") {
		t.Errorf("recorded replies are %q", got)
	}
}

func TestSinkTLS(t *testing.T) {
	cert := NewCert(t, "sink.example")
	t.Run("STARTTLS", func(t *testing.T) {
		s := StartSink(t, Sink{TLS: cert.ServerConfig()})
		c := Dial(t, s.Addr)
		c.Expect(220)
		if got := c.Want("EHLO a", 250); !strings.Contains(got, "STARTTLS") {
			t.Errorf("STARTTLS is not offered: %q", got)
		}
		c.StartTLS(cert.ClientConfig("sink.example"))
		if got := c.Want("EHLO b", 250); strings.Contains(got, "STARTTLS") {
			t.Errorf("STARTTLS is offered again: %q", got)
		}
		if code, text := c.Deliver("a@example.com", []string{"alice@example.org"}, "x\r\n"); code != 250 {
			t.Fatalf("delivery: %d %s", code, text)
		}
		if tx := s.Wait(1)[0]; !tx.TLS || tx.Helo != "EHLO b" {
			t.Errorf("recorded as TLS %v, %q", tx.TLS, tx.Helo)
		}
	})
	t.Run("implicit", func(t *testing.T) {
		s := StartSink(t, Sink{TLS: cert.ServerConfig(), Implicit: true})
		c := Dial(t, s.Addr)
		if st := c.Handshake(cert.ClientConfig("sink.example")); st.Version < tls.VersionTLS12 {
			t.Errorf("TLS version %x", st.Version)
		}
		c.Expect(220)
	})
}

func TestSinkReadsProxyHeader(t *testing.T) {
	s := StartSink(t, Sink{Proxy: true})
	c := Dial(t, s.Addr)
	c.Send("PROXY TCP4 192.0.2.7 127.0.0.1 40000 25\r\n")
	c.Expect(220)
	c.Want("EHLO a", 250)
	c.Want("XFORWARD ADDR=192.0.2.8", 250)
	c.Deliver("a@example.com", []string{"alice@example.org"}, "x\r\n")
	tx := s.Wait(1)[0]
	if tx.Source != "192.0.2.7:40000" || !slices.Equal(tx.Extra, []string{"XFORWARD ADDR=192.0.2.8"}) {
		t.Errorf("source is %q, extra commands %q", tx.Source, tx.Extra)
	}
}

func TestSinkStopsAndStartsAtTheSameAddress(t *testing.T) {
	s := StartSink(t, Sink{})
	c := Dial(t, s.Addr)
	c.Expect(220)
	s.Stop()
	c.WantClosed()
	s.Start()
	c = Dial(t, s.Addr)
	c.Expect(220)
	if got := s.Connections(); got != 2 {
		t.Errorf("%d connections counted, want 2", got)
	}
}

func TestDotStuff(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain", "a\r\nb\r\n", "a\r\nb\r\n.\r\n"},
		{"dots at line starts only", ".a\r\nb.c\r\n..\r\n", "..a\r\nb.c\r\n...\r\n.\r\n"},
		{"no line end at the end", "a", "a\r\n.\r\n"},
		{"empty", "", ".\r\n"},
		{"bare LF starts no line", "a\n.b\r\n", "a\n.b\r\n.\r\n"},
	} {
		if got := DotStuff(tc.in); got != tc.want {
			t.Errorf("%s: %q gives %q, want %q", tc.name, tc.in, got, tc.want)
		}
	}
}
