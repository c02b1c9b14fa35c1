package wire

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"
)

func TestStartTLS(t *testing.T) {
	s := serve(t, Config{TLS: testTLS()})
	c := s.dial()
	c.want("220")
	if r := c.do("EHLO client.example", "250-"); !strings.Contains(r, "STARTTLS\r\n") {
		t.Errorf("not offered: %q", r)
	}
	c.do("MAIL FROM:<lost@example.org>", "250") // what was said in plain text is forgotten
	c.do("STARTTLS now", "501 5.5.4")
	c.do("STARTTLS", "220 2.0.0")
	c = c.encrypt()
	c.do("RCPT TO:<b@example.com>", "503")
	c.do("MAIL FROM:<a@example.org>", "503 5.5.1 Send EHLO") // RFC 3207 section 4.2
	if r := c.do("EHLO client.example", "250-mx.test\r\n"); strings.Contains(r, "STARTTLS") {
		t.Errorf("offered again: %q", r)
	}
	c.do("STARTTLS", "503 5.5.1")
	c.envelope()
	c.do("hello\r\n.", "250")
	c.do("QUIT", "221")
	c.wantEnd()
	if r := s.reason(); r != "quit" {
		t.Errorf("reason %q", r)
	}
	if got := s.deliveries(); len(got) != 1 || got[0].from != "a@example.org" {
		t.Errorf("got %+v", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logins != 2 || s.logout != 2 {
		t.Errorf("%d sessions, %d logged out; want one before and one behind the handshake", s.logins, s.logout)
	}
}

func TestStartTLSBeforeEhlo(t *testing.T) {
	s := serve(t, Config{TLS: testTLS()})
	c := s.dial()
	c.want("220")
	c.do("STARTTLS", "220")
	c = c.encrypt()
	c.do("EHLO x", "250-")
	c.envelope()
	c.do("hello\r\n.", "250")
}

func TestStartTLSDropsWhatWasSentAhead(t *testing.T) {
	s := serve(t, Config{TLS: testTLS()})
	c := s.dial()
	c.want("220")
	// An attacker on the line injects commands behind the client's STARTTLS (CVE-2011-0411).
	c.do("EHLO x", "250-")
	c.send("STARTTLS\r\nEHLO injected\r\nMAIL FROM:<injected@example.org>\r\nRCPT TO:<b@example.com>\r\n")
	c.want("220")
	c = c.encrypt()
	c.do("NOOP", "250 2.0.0 Ok") // the first reply belongs to the first command that came encrypted
	c.do("DATA", "503")
	c.do("EHLO x", "250-mx.test")
}

func TestImplicitTLS(t *testing.T) {
	s := serve(t, Config{TLS: testTLS(), ImplicitTLS: true})
	c := s.dial().encrypt()
	c.hello()
	c.do("STARTTLS", "503 5.5.1")
	c.envelope()
	c.do("hello\r\n.", "250")
	c.do("QUIT", "221")
	// An orderly end, which a cut line could not feign: io.EOF and not io.ErrUnexpectedEOF.
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Errorf("end: %v", err)
	}
	if r := s.reason(); r != "quit" {
		t.Errorf("reason %q", r)
	}
}

func TestTLSState(t *testing.T) {
	states := make(chan *tls.ConnectionState, 2)
	s := serve(t, Config{TLS: testTLS()}, func(s *site) {
		s.onMail = func(c *smtpConn) error { states <- c.TLS(); return nil }
	})
	c := s.dial()
	c.hello()
	c.do("MAIL FROM:<>", "250")
	if st := <-states; st != nil {
		t.Errorf("in plain text: %+v", st)
	}
	c.do("STARTTLS", "220")
	c = c.encrypt()
	c.do("EHLO x", "250")
	c.do("MAIL FROM:<>", "250")
	if st := <-states; st == nil || st.Version != tls.VersionTLS13 || st.ServerName != "mx.test" {
		t.Errorf("encrypted: %+v", st)
	}
}

func TestHandshakeFails(t *testing.T) {
	for name, tc := range map[string]struct {
		implicit bool
		limits   Limits
		then     func(*client)
		want     string
	}{
		"garbage":             {then: func(c *client) { c.send("EHLO this is no handshake at all\r\n") }, want: "tls handshake failed: tls: "},
		"garbage, implicit":   {implicit: true, then: func(c *client) { c.send("EHLO this is no handshake at all\r\n") }, want: "tls handshake failed: tls: "},
		"the client closes":   {then: func(c *client) { c.halfClose() }, want: "tls handshake failed: client closed"},
		"the client is quiet": {limits: Limits{Handshake: 20 * time.Millisecond}, then: func(*client) {}, want: "tls handshake failed: timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Config{TLS: testTLS(), ImplicitTLS: tc.implicit, Limits: tc.limits})
			c := s.dial()
			if !tc.implicit {
				c.want("220")
				c.do("EHLO x", "250")
				c.do("STARTTLS", "220")
			}
			tc.then(c)
			if r := s.reason(); !strings.HasPrefix(r, tc.want) {
				t.Errorf("reason %q, want %q", r, tc.want)
			}
			if n := s.l.Stats().BadTLS; n != 1 {
				t.Errorf("%d failures counted", n)
			}
		})
	}
}

func TestHandshakeDoesNotBlockOthers(t *testing.T) {
	s := serve(t, Config{TLS: testTLS(), ImplicitTLS: true})
	for range 5 {
		s.dial() // says nothing
	}
	c := s.dial().encrypt()
	c.hello()
}
