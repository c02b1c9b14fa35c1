package upstream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func ptr(s string) *string { return &s }

// What exactly is sent for MAIL and RCPT, with all extensions offered and with none.
func TestCommands(t *testing.T) {
	long := strings.Repeat("x", maxPath)
	cases := []struct {
		name   string
		mail   Mail
		rcpt   Rcpt
		all    []string // with all extensions; a text like "550 5.6.7" is our own refusal
		none   []string
		reason string
	}{
		{
			name: "plain",
			mail: Mail{From: bob}, rcpt: Rcpt{To: alice},
			all:  []string{"MAIL FROM:<bob@example.com>", "RCPT TO:<alice@example.org>"},
			none: []string{"MAIL FROM:<bob@example.com>", "RCPT TO:<alice@example.org>"},
		},
		{
			name: "null reverse-path",
			mail: Mail{}, rcpt: Rcpt{To: Path{Local: "postmaster"}},
			all:  []string{"MAIL FROM:<>", "RCPT TO:<postmaster>"},
			none: []string{"MAIL FROM:<>", "RCPT TO:<postmaster>"}, reason: "RFC 5321 sections 4.5.1 and 4.5.5",
		},
		{
			name: "all parameters",
			mail: Mail{From: bob, Size: 1234, Body: "8BITMIME", UTF8: false, Ret: "HDRS", EnvID: "a b+c=d", Auth: ptr("e=mc2@example.com")},
			rcpt: Rcpt{To: alice, Notify: []string{"SUCCESS", "DELAY"}, ORcptType: "rfc822", ORcpt: "Al ice@example.org"},
			all: []string{
				"MAIL FROM:<bob@example.com> SIZE=1234 BODY=8BITMIME RET=HDRS ENVID=a+20b+2Bc+3Dd AUTH=e+3Dmc2@example.com",
				"RCPT TO:<alice@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Al+20ice@example.org",
			},
			none:   []string{"MAIL FROM:<bob@example.com>", "RCPT TO:<alice@example.org>"},
			reason: "what is not offered must not be sent; 8-bit goes on all the same",
		},
		{
			name: "SMTPUTF8",
			mail: Mail{From: Path{Local: "böb", Domain: "exämple.com"}, UTF8: true, Body: "8BITMIME"},
			rcpt: Rcpt{To: Path{Local: "älice", Domain: "example.org"}, ORcptType: "utf-8", ORcpt: `ä\=@x`},
			all: []string{
				"MAIL FROM:<böb@exämple.com> BODY=8BITMIME SMTPUTF8",
				`RCPT TO:<älice@example.org> ORCPT=utf-8;\x{E4}\x{5C}\x{3D}@x`,
			},
			none: []string{"550 5.6.7"}, reason: "RFC 6531 section 3.2: not to a server that does not know it",
		},
		{
			name: "UTF-8 without SMTPUTF8",
			mail: Mail{From: Path{Local: "böb", Domain: "example.com"}}, rcpt: Rcpt{To: alice},
			all: []string{"553 5.6.7"}, none: []string{"553 5.6.7"}, reason: "the client did not ask for it",
		},
		{
			name: "UTF-8 recipient without SMTPUTF8",
			mail: Mail{From: bob}, rcpt: Rcpt{To: Path{Local: "älice", Domain: "example.org"}},
			all:  []string{"MAIL FROM:<bob@example.com>", "553 5.6.7"},
			none: []string{"MAIL FROM:<bob@example.com>", "553 5.6.7"},
		},
		{
			name: "REQUIRETLS",
			mail: Mail{From: bob, RequireTLS: true}, rcpt: Rcpt{To: alice},
			all:  []string{"MAIL FROM:<bob@example.com> REQUIRETLS", "RCPT TO:<alice@example.org>"},
			none: []string{"550 5.7.30"}, reason: "RFC 8689 section 4.2.1",
		},
		{
			name: "no AUTH identity",
			mail: Mail{From: bob, Auth: ptr("")}, rcpt: Rcpt{To: alice},
			all:  []string{"MAIL FROM:<bob@example.com> AUTH=<>", "RCPT TO:<alice@example.org>"},
			none: []string{"MAIL FROM:<bob@example.com>", "RCPT TO:<alice@example.org>"}, reason: "RFC 4954 section 5",
		},
		{
			name: "quoted local parts",
			mail: Mail{From: Path{Local: `v> NOTIFY=NEVER w`, Domain: "d.example"}},
			rcpt: Rcpt{To: Path{Local: `a"\ b`, Domain: "[IPv6:2001:db8::1]"}},
			all:  []string{`MAIL FROM:<"v> NOTIFY=NEVER w"@d.example>`, `RCPT TO:<"a\"\\ b"@[IPv6:2001:db8::1]>`},
			none: []string{`MAIL FROM:<"v> NOTIFY=NEVER w"@d.example>`, `RCPT TO:<"a\"\\ b"@[IPv6:2001:db8::1]>`}, reason: "a local part is no parameter",
		},
		{
			name: "line end in the local part",
			mail: Mail{From: Path{Local: "a\r\nRSET", Domain: "example.com"}}, rcpt: Rcpt{To: alice},
			all: []string{"553 5.1.7"}, none: []string{"553 5.1.7"}, reason: "quoting does not help against it",
		},
		{
			name: "parameter in the domain",
			mail: Mail{From: bob}, rcpt: Rcpt{To: Path{Local: "a", Domain: "x> NOTIFY=NEVER"}},
			all:  []string{"MAIL FROM:<bob@example.com>", "553 5.1.3"},
			none: []string{"MAIL FROM:<bob@example.com>", "553 5.1.3"},
		},
		{
			name: "line end in a parameter",
			mail: Mail{From: bob, EnvID: "a\r\nDATA", Body: "8BITMIME\r\nDATA", Ret: "FULL\r\n", Auth: ptr("x\r\n")},
			rcpt: Rcpt{To: alice, Notify: []string{"NEVER\r\nDATA"}, ORcptType: "x\r\nDATA", ORcpt: "y"},
			all:  []string{"MAIL FROM:<bob@example.com> ENVID=a+0D+0ADATA AUTH=x+0D+0A", "RCPT TO:<alice@example.org>"},
			none: []string{"MAIL FROM:<bob@example.com>", "RCPT TO:<alice@example.org>"},
		},
		{
			name: "no local part", mail: Mail{From: Path{Domain: "example.com"}}, rcpt: Rcpt{To: alice},
			all: []string{"553 5.1.7"}, none: []string{"553 5.1.7"},
		},
		{
			name: "null recipient", mail: Mail{From: bob}, rcpt: Rcpt{},
			all:  []string{"MAIL FROM:<bob@example.com>", "553 5.1.3"},
			none: []string{"MAIL FROM:<bob@example.com>", "553 5.1.3"},
		},
		{
			name: "too long", mail: Mail{From: Path{Local: long, Domain: "example.com"}}, rcpt: Rcpt{To: alice},
			all: []string{"553 5.1.7"}, none: []string{"553 5.1.7"},
		},
		{
			name: "invalid UTF-8", mail: Mail{From: Path{Local: "a\xff", Domain: "example.com"}, UTF8: true}, rcpt: Rcpt{To: alice},
			all: []string{"553 5.1.7"}, none: []string{"553 5.1.7"},
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if got := saidFor(t, allKeywords, tc.mail, tc.rcpt, false); !slices.Equal(got, tc.all) {
				t.Errorf("with all extensions (%s):\n got %q\nwant %q", tc.reason, got, tc.all)
			}
			if got := saidFor(t, allKeywords, tc.mail, tc.rcpt, true); !slices.Equal(got, tc.all) {
				t.Errorf("in one write (%s):\n got %q\nwant %q", tc.reason, got, tc.all)
			}
			if got := saidFor(t, nil, tc.mail, tc.rcpt, true); !slices.Equal(got, tc.none) {
				t.Errorf("with no extension (%s):\n got %q\nwant %q", tc.reason, got, tc.none)
			}
		})
	}
}

// saidFor gives the commands that the server saw for MAIL and RCPT, and the codes of our own refusals.
func saidFor(t *testing.T, keywords []string, m Mail, r Rcpt, together bool) []string {
	t.Helper()
	s := (&server{keywords: keywords}).start(t)
	u := newUpstream(t, Config{Address: "smtp://" + s.addr()})
	c := mustOpen(t, u, Client{})
	ctx := context.Background()
	var mail, rcpt Reply
	var err error
	if together {
		mail, rcpt, err = c.MailRcpt(ctx, m, r)
	} else if mail, err = c.Mail(ctx, m); err == nil && mail.Positive() {
		rcpt, err = c.Rcpt(ctx, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, line := range s.commands() {
		if line = line[2:]; strings.HasPrefix(line, "MAIL") || strings.HasPrefix(line, "RCPT") {
			said = append(said, line)
		}
	}
	for _, reply := range []Reply{mail, rcpt} {
		if reply.Own {
			said = append(said, reply.String()[:3]+" "+reply.Enhanced)
		}
	}
	return said
}

// With PIPELINING the server gets MAIL and RCPT before it has answered the first, in one packet.
func TestMailRcptInOneWrite(t *testing.T) {
	cases := []struct {
		name       string
		replies    string
		mail, rcpt int
		reason     string
	}{
		{name: "both accepted", replies: "250 a\r\n250 b\r\n", mail: 250, rcpt: 250},
		{name: "recipient refused", replies: "250 a\r\n550 b\r\n", mail: 250, rcpt: 550},
		{name: "sender refused", replies: "550 a\r\n503 b\r\n", mail: 550, reason: "the reply to RCPT only follows from it"},
		{name: "sender refused, recipient accepted", replies: "550 a\r\n250 b\r\n", mail: 550, reason: "makes no sense, so it is not believed"},
		{name: "421", replies: "421 a\r\n", mail: 421, reason: "no second reply comes"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := &server{keywords: []string{"PIPELINING"}}
			s.hooks = map[string]hook{"mail": func(p *peer, _ string) bool {
				if line, ok := p.line(); !ok || !strings.HasPrefix(line, "RCPT ") {
					p.say("500 expected RCPT\r\n")
					return false
				}
				p.say(tc.replies)
				return tc.mail != 421
			}}
			s.start(t)
			c := mustOpen(t, newUpstream(t, Config{Address: "smtp://" + s.addr()}), Client{})
			mail, rcpt, err := c.MailRcpt(context.Background(), Mail{From: bob}, Rcpt{To: alice})
			if err != nil || mail.Code != tc.mail || rcpt.Code != tc.rcpt {
				t.Fatalf("got %v, %v, %v; expected %d, %d (%s)", mail, rcpt, err, tc.mail, tc.rcpt, tc.reason)
			}
			if c.Alive() != (tc.mail != 421) {
				t.Fatalf("alive: %v", c.Alive())
			}
		})
	}
}

// A reply that no one asked for must never be taken for the answer to the next command, least of all to the message.
func TestUnaskedReply(t *testing.T) {
	steps := map[string]string{
		"greeting": "220 hi\r\n", "ehlo": "250 test.example\r\n", "mail": "250 a\r\n", "rcpt": "250 b\r\n",
	}
	for step, good := range steps {
		t.Run(step, func(t *testing.T) {
			s := &server{hooks: map[string]hook{step: func(p *peer, _ string) bool {
				p.say(good + "250 2.0.0 Ok: queued as FORGED\r\n")
				return true
			}}}
			s.start(t)
			u := newUpstream(t, Config{Address: "smtp://" + s.addr()})
			c, err := u.Open(context.Background(), Client{})
			if err == nil {
				_, err = deliver(context.Background(), c, text("Hello\r\n"), alice)
			}
			var e *Error
			if !errors.As(err, &e) || e.Offered || !errors.Is(err, ErrProtocol) {
				t.Fatalf("got %v, expected a protocol error before the message is offered", err)
			}
			if n := len(s.messages()); n != 0 {
				t.Fatalf("the server took %d messages", n)
			}
		})
	}
}

// A server that goes away between two commands, with or without a 421, is found out and nothing is offered to it.
func TestGoneBetweenCommands(t *testing.T) {
	for name, goodbye := range map[string]string{"silent": "", "421": "421 4.4.2 Idle for too long\r\n"} {
		t.Run(name, func(t *testing.T) {
			left := make(chan struct{})
			s := &server{hooks: map[string]hook{"rcpt": func(p *peer, _ string) bool {
				p.say("250 2.1.5 Ok\r\n")
				p.say(goodbye)
				p.nc.Close()
				close(left)
				return false
			}}}
			s.start(t)
			c := mustOpen(t, newUpstream(t, Config{Address: "smtp://" + s.addr()}), Client{})
			ctx := context.Background()
			if _, err := c.Mail(ctx, Mail{From: bob}); err != nil {
				t.Fatal(err)
			}
			if r, err := c.Rcpt(ctx, Rcpt{To: alice}); err != nil || r.Code != 250 {
				t.Fatal(r, err)
			}
			<-left
			for c.Alive() { // the end of file is on its way through the kernel
			}
			result, err := c.Data(ctx, text("Hello\r\n"))
			if result.Offered {
				t.Fatal("offered")
			}
			wantError(t, err, "data", false)
		})
	}
}

// The end of the context ends the connection, wherever the server hangs.
func TestContext(t *testing.T) {
	for _, step := range []string{"greeting", "ehlo", "mail", "rcpt", "data", "body", "dot"} {
		t.Run(step, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			s := &server{hooks: map[string]hook{step: func(p *peer, _ string) bool {
				cancel()
				if step == "body" {
					<-p.s.stopped
				} else {
					p.untilClosed()
				}
				return false
			}}}
			s.start(t)
			u := newUpstream(t, Config{Address: "smtp://" + s.addr()})
			c, err := u.Open(ctx, Client{})
			if err == nil {
				body := text("Hello\r\n")
				if step == "body" {
					_, body = bigMessage(256 << 20)
				}
				_, err = deliver(ctx, c, body, alice)
			}
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, context.Canceled) || e.Offered != (step == "dot") {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// Reset makes the next transaction a new one; without a transaction nothing is said.
func TestReset(t *testing.T) {
	s := (&server{}).start(t)
	c := mustOpen(t, newUpstream(t, Config{Address: "smtp://" + s.addr()}), Client{})
	ctx := context.Background()
	if err := c.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Mail(ctx, Mail{From: alice}); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	if r, err := c.Rcpt(ctx, Rcpt{To: alice}); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	if err := c.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if result, err := c.Data(ctx, text("x\r\n")); err != nil || result.Reply.Code != 503 {
		t.Fatalf("after Reset: %v, %v; expected 503", result, err)
	}
	if result, err := deliver(ctx, c, text("x\r\n"), bob); err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	want := []string{
		"1 EHLO mx.example.org",
		"1 MAIL FROM:<alice@example.org>", "1 RCPT TO:<alice@example.org>", "1 RSET",
		"1 MAIL FROM:<bob@example.com>", "1 RCPT TO:<bob@example.com>", "1 DATA",
	}
	if got := s.commands(); !slices.Equal(got, want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
}
