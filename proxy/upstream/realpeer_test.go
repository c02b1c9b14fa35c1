package upstream

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/proxy/peertest"
)

const exactMessage = "From: bob@example.com\r\nSubject: dots\r\n\r\n.one\r\n..two\r\n.\r\ntrailing \t \r\n"

// arrived checks for one message that ends in what was sent; servers put their own fields on top and turn CRLF into LF.
func arrived(t *testing.T, mail []peertest.Message, what string) peertest.Message {
	t.Helper()
	if len(mail) != 1 || !strings.HasSuffix(string(mail[0].Data()), what) {
		t.Fatalf("got %d messages, expected one that ends in %q: %q", len(mail), what, mail)
	}
	return mail[0]
}

// Each way to tell Postfix about the client, and what it then believes.
func TestPostfixClientInfo(t *testing.T) {
	loopback := []string{"127.0.0.0/8"}
	cases := []struct {
		name    string
		opt     peertest.Postfix
		info    string
		log     []string // what the server's log must have
		against string   // what its Received field must have
	}{
		{
			name: "xclient", opt: peertest.Postfix{XClient: loopback, XForward: loopback},
			log: []string{"client=client.example[192.0.2.7]"}, against: "from helo.example (client.example [192.0.2.7])",
		},
		{
			name: "xforward", opt: peertest.Postfix{XForward: loopback},
			log: []string{"orig_client=client.example[192.0.2.7]"}, against: "[127.0.0.1]",
		},
		{
			name: "proxy", opt: peertest.Postfix{ProxyProtocol: true}, info: ClientProxy,
			log: []string{"[192.0.2.7]"}, against: "[192.0.2.7]",
		},
		{
			name: "proxy-v2", opt: peertest.Postfix{ProxyProtocol: true}, info: ClientProxyV2,
			log: []string{"[192.0.2.7]"}, against: "[192.0.2.7]",
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := peertest.StartPostfix(t, tc.opt)
			u := newUpstream(t, Config{Address: "smtp://" + s.Addr, ClientInfo: tc.info})
			if _, err := u.Probe(context.Background()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				c := mustOpen(t, u, visitor)
				result, err := deliver(context.Background(), c, text(exactMessage), Path{Local: "alice", Domain: "example.org"})
				if err != nil || result.Reply.Code != 250 || !strings.Contains(result.Reply.Text(), "queued as") {
					t.Fatal(result, err)
				}
				c.Close()
			}
			mail := s.Messages("alice", 2)
			for _, m := range mail {
				received := m.Header("Received")
				if !strings.HasSuffix(string(m.Data()), exactMessage) || len(received) != 1 || !strings.Contains(received[0], tc.against) {
					t.Errorf("got %q\nexpected a Received field with %q", m.Data(), tc.against)
				}
			}
			for _, want := range tc.log {
				// Postfix has a process of its own write the log, behind what happens.
				for deadline := time.Now().Add(30 * time.Second); strings.Count(s.Log(), want) < 2; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%q is not twice in the log:\n%s", want, s.Log())
					}
				}
			}
		})
	}
}

// Exim and OpenSMTPD read the PROXY header in the version that they know.
func TestProxyHeaderIsRead(t *testing.T) {
	type server struct {
		addr string
		mail func(user string, n int) []peertest.Message
		log  func() string
	}
	exim := func(t *testing.T) server {
		s := peertest.StartExim(t, peertest.Exim{Proxy: true})
		return server{addr: s.Addr, mail: s.Messages, log: s.Log}
	}
	for _, tc := range []struct {
		name  string
		start func(t *testing.T) server
		info  string
	}{
		{name: "Exim, version 1", start: exim, info: ClientProxy},
		{name: "Exim, version 2", start: exim, info: ClientProxyV2},
		{name: "OpenSMTPD, version 2", info: ClientProxyV2, start: func(t *testing.T) server {
			s := peertest.StartOpenSMTPD(t, peertest.OpenSMTPD{Proxy: true})
			return server{addr: s.Addr, mail: s.Messages, log: s.Log}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := tc.start(t)
			u := newUpstream(t, Config{Address: "smtp://" + s.addr, ClientInfo: tc.info})
			if _, err := u.Probe(context.Background()); err != nil {
				t.Fatal(err)
			}
			c := mustOpen(t, u, visitor)
			result, err := deliver(context.Background(), c, text(exactMessage), Path{Local: "alice", Domain: "example.org"})
			if err != nil || result.Reply.Code != 250 {
				t.Fatalf("%v, %v\n%s", result, err, s.log())
			}
			c.Close()
			_, body, _ := strings.Cut(exactMessage, "\r\n\r\n") // OpenSMTPD adds to a header that lacks a date
			if received := arrived(t, s.mail("alice", 1), "\r\n\r\n"+body).Header("Received"); len(received) != 1 || !strings.Contains(received[0], "[192.0.2.7]") {
				t.Errorf("the Received fields are %q", received)
			}
		})
	}
}

// Dovecot over LMTP is told by XCLIENT, if it trusts us, or by a PROXY header.
func TestDovecotClientInfo(t *testing.T) {
	for _, tc := range []struct {
		name string
		opt  peertest.Dovecot
		info string
		from string // what its Received field must have
	}{
		{name: "xclient", opt: peertest.Dovecot{XClient: true}, from: "from helo.example ([192.0.2.7])"},
		{name: "proxy", opt: peertest.Dovecot{ProxyProtocol: true}, info: ClientProxy, from: "([192.0.2.7])"},
		{name: "proxy-v2", opt: peertest.Dovecot{ProxyProtocol: true}, info: ClientProxyV2, from: "([192.0.2.7])"},
		{name: "none", opt: peertest.Dovecot{XClient: true}, info: ClientNone, from: "([127.0.0.1])"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := peertest.StartDovecot(t, tc.opt)
			u := newUpstream(t, Config{Address: "lmtp://" + s.Addr, ClientInfo: tc.info})
			if _, err := u.Probe(context.Background()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				c := mustOpen(t, u, visitor)
				result, err := deliver(context.Background(), c, text(exactMessage), Path{Local: "alice", Domain: "example.org"})
				if err != nil || result.Reply.Code != 250 {
					t.Fatalf("%v, %v\n%s", result, err, s.Log())
				}
				c.Close()
			}
			for _, m := range s.Messages("alice@example.org", 2) {
				if received := m.Header("Received"); len(received) != 1 || !strings.Contains(received[0], tc.from) {
					t.Errorf("the Received fields are %q, expected one with %q", received, tc.from)
				}
			}
		})
	}
}

// Postfix with TLS required, and its refusal of a user.
func TestPostfixTLS(t *testing.T) {
	s := peertest.StartPostfix(t, peertest.Postfix{TLS: true, XClient: []string{"127.0.0.0/8"}})
	u := newUpstream(t, Config{Address: "smtp://" + s.Addr, TLS: TLSRequired, TLSConfig: s.Cert.ClientConfig("localhost")})
	c := mustOpen(t, u, visitor)
	if !c.Caps().TLS || !c.Caps().Pipelining || !c.Caps().DSN || c.Caps().MaxSize == 0 {
		t.Fatalf("got %+v", c.Caps())
	}
	ctx := context.Background()
	mail, rcpt, err := c.MailRcpt(ctx, Mail{From: bob, Size: 100, Body: "8BITMIME", Ret: "HDRS", EnvID: "a b"}, Rcpt{To: Path{Local: "nobody", Domain: "example.org"}})
	if err != nil || mail.Code != 250 || rcpt.Code != 550 || rcpt.Enhanced != "5.1.1" {
		t.Fatal(mail, rcpt, err)
	}
	r, err := c.Rcpt(ctx, Rcpt{To: alice, Notify: []string{"FAILURE"}, ORcptType: "rfc822", ORcpt: "alice@example.org"})
	if err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	if result, err := c.Data(ctx, text(exactMessage)); err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	arrived(t, s.Messages("alice", 1), exactMessage)
}

// Dovecot gives each recipient its own reply, on TCP and on a Unix socket.
func TestDovecot(t *testing.T) {
	s := peertest.StartDovecot(t, peertest.Dovecot{
		Users: []string{"alice@example.org", "carol@example.org"},
		Full:  []string{"full@example.org"},
	})
	for n, address := range []string{"lmtp://" + s.Addr, "lmtp+unix:" + s.Socket} {
		u := newUpstream(t, Config{Address: address})
		c := mustOpen(t, u, visitor)
		ctx := context.Background()
		mail, rcpt, err := c.MailRcpt(ctx, Mail{From: bob}, Rcpt{To: Path{Local: "nobody", Domain: "example.org"}})
		if err != nil || mail.Code != 250 || rcpt.Code != 550 {
			t.Fatal(mail, rcpt, err)
		}
		for _, local := range []string{"alice", "full", "carol"} {
			if r, err := c.Rcpt(ctx, Rcpt{To: Path{Local: local, Domain: "example.org"}}); err != nil || r.Code != 250 {
				t.Fatal(r, err)
			}
		}
		result, err := c.Data(ctx, text(exactMessage))
		if err != nil {
			t.Fatal(err)
		}
		var ok []bool
		for _, r := range result.Per {
			ok = append(ok, r.Positive())
		}
		if !slices.Equal(ok, []bool{true, false, true}) || result.Reply.Code != 0 {
			t.Fatalf("got %v", result)
		}
		if got := s.Messages("alice@example.org", n+1); len(got) != n+1 || !strings.HasSuffix(string(got[n].Data()), exactMessage) {
			t.Fatalf("got %q", got)
		}
	}
}
