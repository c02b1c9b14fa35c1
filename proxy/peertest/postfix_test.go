package peertest

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestPostfixDeliversAndRefuses(t *testing.T) {
	s := StartPostfix(t, Postfix{})
	// No To, Date or Message-Id: a Postfix that completed or rewrote headers of loopback clients would show here.
	message := "From: Eve <eve>\r\nSubject: x\r\n\r\nhello alice \r\n.dot\r\n8 bit \xe4\r\n"
	c := Dial(t, s.Addr)
	c.Expect(220)
	c.Want("EHLO client.example", 250)
	c.Want("MAIL FROM:<eve@example.com>", 250)
	if text := c.Want("RCPT TO:<nobody@example.org>", 550); !strings.Contains(text, "5.1.1") || !strings.Contains(text, "User unknown") {
		t.Errorf("an unknown user is refused with %q", text)
	}
	c.Want("RCPT TO:<alice@example.org>", 250)
	c.Want("DATA", 354)
	c.Data(message)
	if text := c.Expect(250); !strings.Contains(text, "queued as") {
		t.Errorf("the message is accepted with %q, want a queue id", text)
	}
	got := s.Messages("alice", 1)[0]
	if !strings.HasSuffix(string(got.Data()), "\r\n"+message) {
		t.Errorf("what was delivered does not end with what was sent:\n%q", got.Data())
	}
	if v := got.Header("Return-Path"); len(v) != 1 || v[0] != "<eve@example.com>" {
		t.Errorf("Return-Path is %q", v)
	}
	if v := got.Header("date"); len(v) != 0 {
		t.Errorf("a Date field was added: %q", v)
	}
}

func TestPostfixBySwaks(t *testing.T) {
	s := StartPostfix(t, Postfix{})
	out, exit := Swaks(t, "--server", s.Addr, "--from", "eve@example.com", "--to", "alice@example.org", "--body", "hello alice")
	if exit != 0 {
		t.Fatalf("swaks ended with %d:\n%s\n%s", exit, out, s.Log())
	}
	if msgs := s.Messages("alice@example.org", 1); len(msgs) != 1 || !msgs[0].Has("hello alice") {
		t.Errorf("alice's mail is %q", msgs)
	}
	out, exit = Swaks(t, "--server", s.Addr, "--from", "eve@example.com", "--to", "nobody@example.org")
	if exit != 24 || !strings.Contains(out, "550 5.1.1") {
		t.Errorf("an unknown user: swaks ended with %d, want 24:\n%s", exit, out)
	}
}

func TestPostfixTLS(t *testing.T) {
	s := StartPostfix(t, Postfix{TLS: true})
	c := Dial(t, s.Addr)
	c.Expect(220)
	c.Want("EHLO client.example", 250)
	c.StartTLS(s.Cert.ClientConfig("mx.example.org"))
	c.Want("EHLO client.example", 250)
	if code, text := c.Deliver("eve@example.com", []string{"bob@example.org"}, "Subject: x\r\n\r\nx\r\n"); code != 250 {
		t.Fatalf("delivery: %d %s\n%s", code, text, s.Log())
	}
	if got := s.Messages("bob", 1)[0].Header("Received"); len(got) != 1 || !strings.Contains(got[0], "TLSv1.3") {
		t.Errorf("Received is %q, want TLSv1.3 in it", got)
	}
}

// Each case is a thing that Postfix must offer to the tests of the proxy.
func TestPostfixOptions(t *testing.T) {
	for _, tc := range []struct {
		name string
		opt  Postfix
		talk func(*testing.T, *PostfixServer)
	}{
		{
			name: "message_size_limit is offered and held",
			opt:  Postfix{MessageSizeLimit: 20000},
			talk: func(t *testing.T, s *PostfixServer) {
				c := Dial(t, s.Addr)
				c.Expect(220)
				if got := c.Want("EHLO client.example", 250); !strings.Contains(got, "SIZE 20000") {
					t.Errorf("EHLO reply %q lacks the limit", got)
				}
				c.Want("MAIL FROM:<eve@example.com> SIZE=20001", 552)
				c.Want("RSET", 250) // until then Postfix refuses every MAIL for the size that it was told
				code, _ := c.Deliver("eve@example.com", []string{"alice@example.org"}, strings.Repeat("long\r\n", 5000))
				if code != 552 {
					t.Errorf("a message over the limit hears %d, want 552", code)
				}
			},
		},
		{
			name: "XCLIENT sets the client, once",
			opt:  Postfix{XClient: []string{"127.0.0.0/8"}},
			talk: func(t *testing.T, s *PostfixServer) {
				c := Dial(t, s.Addr)
				c.Expect(220)
				if got := c.Want("EHLO client.example", 250); !strings.Contains(got, "XCLIENT") {
					t.Errorf("EHLO reply %q lacks XCLIENT", got)
				}
				c.Want("XCLIENT ADDR=192.0.2.7 NAME=out.example.com", 220)
				c.Want("EHLO out.example.com", 250)
				c.Deliver("eve@example.com", []string{"alice@example.org"}, "Subject: x\r\n\r\nx\r\n")
				got := s.Messages("alice", 1)[0].Header("Received")
				if len(got) != 1 || !strings.Contains(got[0], "(out.example.com [192.0.2.7])") {
					t.Errorf("Received is %q", got)
				}
			},
		},
		{
			name: "XFORWARD names the client in the log",
			opt:  Postfix{XForward: []string{"127.0.0.0/8"}},
			talk: func(t *testing.T, s *PostfixServer) {
				c := Dial(t, s.Addr)
				c.Expect(220)
				c.Want("EHLO client.example", 250)
				c.Want("XFORWARD NAME=out.example.com ADDR=192.0.2.7", 250)
				c.Deliver("eve@example.com", []string{"alice@example.org"}, "Subject: x\r\n\r\nx\r\n")
				s.Messages("alice", 1)
				s.AwaitLog("orig_client=out.example.com[192.0.2.7]")
			},
		},
		{
			name: "a PROXY header is asked for and believed",
			opt:  Postfix{ProxyProtocol: true},
			talk: func(t *testing.T, s *PostfixServer) {
				c := Dial(t, s.Addr)
				c.Send("PROXY TCP4 192.0.2.7 127.0.0.1 40000 25\r\n")
				c.Expect(220)
				c.Want("EHLO out.example.com", 250)
				c.Want("MAIL FROM:<eve@example.com>", 250)
				// To Postfix this is a stranger, who may not relay.
				c.Want("RCPT TO:<someone@example.net>", 554)
				c.Want("RCPT TO:<alice@example.org>", 250)
			},
		},
		{
			name: "IPv6",
			opt:  Postfix{IPv6: true},
			talk: func(t *testing.T, s *PostfixServer) {
				for _, addr := range []string{s.Addr, s.Addr6()} {
					c := Dial(t, addr)
					c.Expect(220)
					c.Want("QUIT", 221)
				}
			},
		},
		{
			name: "SMTPUTF8 addresses and several domains",
			opt:  Postfix{Users: []string{"jürgen"}, Domains: []string{"example.org", "example.net"}},
			talk: func(t *testing.T, s *PostfixServer) {
				c := Dial(t, s.Addr)
				c.Expect(220)
				c.Want("EHLO client.example", 250)
				c.Want("MAIL FROM:<eve@example.com> SMTPUTF8", 250)
				c.Want("RCPT TO:<jürgen@example.net>", 250)
				c.Want("DATA", 354)
				c.Data("Subject: ü\r\n\r\nx\r\n")
				c.Expect(250)
				if got := s.Messages("jürgen@example.net", 1); !got[0].Has("Subject: ü\n") {
					t.Errorf("the message is %q", got[0].Raw)
				}
			},
		},
		{
			name: "mail to other domains is taken from loopback, and goes nowhere",
			opt:  Postfix{},
			talk: func(t *testing.T, s *PostfixServer) {
				c := Dial(t, s.Addr)
				c.Expect(220)
				c.Want("EHLO client.example", 250)
				code, text := c.Deliver("eve@example.com", []string{"someone@elsewhere.example"}, "Subject: x\r\n\r\nx\r\n")
				if code != 250 {
					t.Fatalf("relaying: %d %s", code, text)
				}
				if got := s.Queue(); len(got) != 1 {
					t.Errorf("the queue holds %q, want one message", got)
				}
			},
		},
		{
			name: "a message larger than Postfix takes by default",
			opt:  Postfix{MessageSizeLimit: 50 << 20},
			talk: func(t *testing.T, s *PostfixServer) {
				message := "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 74)+"\r\n", 12<<20/76)
				c := Dial(t, s.Addr)
				c.Expect(220)
				c.Want("EHLO client.example", 250)
				if code, text := c.Deliver("eve@example.com", []string{"alice@example.org"}, message); code != 250 {
					t.Fatalf("delivery: %d %s", code, text)
				}
				if got := s.Messages("alice", 1)[0]; !strings.HasSuffix(string(got.Data()), "\r\n"+message) {
					t.Errorf("what was delivered, %d octets, does not end with what was sent, %d", len(got.Raw), len(message))
				}
			},
		},
		{
			name: "more of main.cf",
			opt:  Postfix{Parameters: map[string]string{"smtpd_discard_ehlo_keywords": "dsn, 8bitmime, smtputf8"}},
			talk: func(t *testing.T, s *PostfixServer) {
				c := Dial(t, s.Addr)
				c.Expect(220)
				got := c.Want("EHLO client.example", 250)
				if strings.Contains(got, "8BITMIME") || !strings.Contains(got, "SIZE") {
					t.Errorf("EHLO reply is %q", got)
				}
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel() // several servers at once must not clash
			tc.talk(t, StartPostfix(t, tc.opt))
		})
	}
}

// A main.cf that says a dozen things twice made a Postfix that never answered: see mainCf.
func TestPostfixWithParametersOfItsOwn(t *testing.T) {
	s := StartPostfix(t, Postfix{Main: `# a site's own
compatibility_level = 3.6
smtpd_relay_restrictions=permit_mynetworks,
    reject_unauth_destination
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
defer_transports = smtp
local_header_rewrite_clients =
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_error_sleep_time = 0
in_flow_delay = 0
virtual_mailbox_limit = 0
mynetworks = 127.0.0.0/8
`})
	c := Dial(t, s.Addr)
	c.Expect(220)
	c.Want("EHLO client.example", 250)
	if code, text := c.Deliver("eve@example.com", []string{"bob@example.org"}, "Subject: x\r\n\r\nx\r\n"); code != 250 {
		t.Fatalf("delivery: %d %s\n%s", code, text, s.Log())
	}
	s.Messages("bob", 1)
	if log := s.Log(); strings.Contains(log, "overriding earlier entry") {
		t.Errorf("a parameter stands there twice:\n%s", log)
	}
}

func TestPostfixStopsAndStartsWithItsMail(t *testing.T) {
	s := StartPostfix(t, Postfix{})
	c := Dial(t, s.Addr)
	c.Expect(220)
	c.Want("EHLO client.example", 250)
	c.Want("MAIL FROM:<eve@example.com>", 250)
	s.Stop()
	c.WantClosed()
	s.Stop() // a second time does nothing
	s.Start()
	c = Dial(t, s.Addr)
	c.Expect(220)
	c.Want("EHLO client.example", 250)
	if code, text := c.Deliver("eve@example.com", []string{"alice@example.org"}, "Subject: again\r\n\r\nx\r\n"); code != 250 {
		t.Fatalf("delivery after the start: %d %s\n%s", code, text, s.Log())
	}
	if got := s.Messages("alice", 1); len(got) != 1 || !got[0].Has("Subject: again") {
		t.Errorf("alice's mail is %q", got)
	}
}

// What the queue manager has put aside, for it was still under way, is sent when it is told to try again: by itself it would
// wait for minutes.
func TestPostfixRetriesWhatItPutAside(t *testing.T) {
	var refused atomic.Bool
	sink := StartSink(t, Sink{Script: func(e Event) Answer {
		if e.Verb == "." && refused.CompareAndSwap(false, true) {
			return Answer{Reply: "451 4.3.0 Not now"}
		}
		return Answer{}
	}})
	s := StartPostfix(t, Postfix{Domains: []string{"plain.example"}, SmartHost: sink.Addr,
		Parameters: map[string]string{"minimal_backoff_time": "1h", "maximal_backoff_time": "1h", "queue_run_delay": "1h"}})
	c := Dial(t, s.Addr)
	c.Expect(220)
	c.Want("EHLO client.example", 250)
	if code, text := c.Deliver("carol@plain.example", []string{"alice@elsewhere.example"}, "Subject: x\r\n\r\nx\r\n"); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	s.AwaitLog("Not now")
	await := func(what string, cond func() bool) {
		t.Helper()
		for deadline := time.Now().Add(startLimit); !cond(); time.Sleep(pollPause) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain for %s:\n%s", what, s.Log())
			}
		}
	}
	deferred := filepath.Join(s.dir, "queue", "deferred")
	var aside string
	await("the message in the queue", func() bool {
		found, err := filepath.Glob(filepath.Join(deferred, "*", "*"))
		if err != nil || len(found) == 0 {
			return false
		}
		aside = filepath.Join(s.dir, "queue", "incoming", filepath.Base(found[0]))
		return os.Rename(found[0], aside) == nil
	})
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(aside, later, later); err != nil {
		t.Fatal(err)
	}
	await("the second try", func() bool {
		s.Retry()
		return len(sink.Transactions()) == 2
	})
}
