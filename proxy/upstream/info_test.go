package upstream

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var visitor = Client{
	IP:       netip.MustParseAddr("192.0.2.7"),
	Port:     4711,
	Name:     "client.example",
	Helo:     "helo.example",
	Extended: true,
	DestIP:   netip.MustParseAddr("198.51.100.1"),
	DestPort: 25,
	ID:       "9FF7F70E",
}

const allXClient = "XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT"

// What the server hears about the client.
func TestClientInfo(t *testing.T) {
	stranger := Client{IP: netip.MustParseAddr("2001:db8::1%eth0"), Helo: "x y=z+ü"}
	mapped := Client{IP: netip.MustParseAddr("::ffff:192.0.2.7"), Port: 70000, Helo: strings.Repeat("h", maxName+1)}
	cases := []struct {
		name     string
		info     string
		keywords []string
		client   Client
		want     []string
		reason   string
	}{
		{
			name: "XCLIENT", keywords: []string{allXClient}, client: visitor,
			want: []string{
				"EHLO mx.example.org",
				"XCLIENT NAME=client.example ADDR=192.0.2.7 PROTO=ESMTP HELO=helo.example REVERSE_NAME=client.example PORT=4711 LOGIN=[UNAVAILABLE] DESTADDR=198.51.100.1 DESTPORT=25",
				"EHLO helo.example", "MAIL FROM:<bob@example.com>",
			},
			reason: "every attribute, and then the client's own EHLO",
		},
		{
			name: "XCLIENT, little known", keywords: []string{allXClient, "XFORWARD NAME ADDR"}, client: stranger,
			want: []string{
				"EHLO mx.example.org",
				"XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PROTO=SMTP HELO=x+20y+3Dz+2B+C3+BC REVERSE_NAME=[UNAVAILABLE] PORT=[UNAVAILABLE] LOGIN=[UNAVAILABLE] DESTADDR=[UNAVAILABLE] DESTPORT=[UNAVAILABLE]",
				"EHLO mx.example.org", "MAIL FROM:<bob@example.com>",
			},
			reason: "what is not said would stay what it is for our own connection; a HELO that can't stand in a command is not repeated",
		},
		{
			name: "XCLIENT, odd values", keywords: []string{"XCLIENT ADDR PORT HELO TTL"}, client: mapped,
			want: []string{
				"EHLO mx.example.org",
				"XCLIENT ADDR=192.0.2.7 PORT=[UNAVAILABLE] HELO=[UNAVAILABLE]",
				"EHLO mx.example.org", "MAIL FROM:<bob@example.com>",
			},
			reason: "a name cut short would be another name; TTL is Dovecot's, and a number",
		},
		{
			name: "XFORWARD", keywords: []string{"XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT"}, client: visitor,
			want: []string{
				"EHLO mx.example.org",
				"XFORWARD NAME=client.example ADDR=192.0.2.7 PORT=4711",
				"XFORWARD PROTO=ESMTP HELO=helo.example IDENT=9FF7F70E SOURCE=REMOTE",
				"MAIL FROM:<bob@example.com>",
			},
		},
		{
			name: "XFORWARD wanted, XCLIENT offered too", info: ClientXForward, keywords: []string{allXClient, "PIPELINING", "XFORWARD ADDR"}, client: visitor,
			want: []string{"EHLO mx.example.org", "XFORWARD ADDR=192.0.2.7", "MAIL FROM:<bob@example.com>"},
		},
		{
			name: "none", info: ClientNone, keywords: []string{allXClient, "XFORWARD ADDR"}, client: visitor,
			want: []string{"EHLO mx.example.org", "MAIL FROM:<bob@example.com>"},
		},
		{
			name: "nothing offered", client: visitor,
			want: []string{"EHLO mx.example.org", "MAIL FROM:<bob@example.com>"},
		},
		{
			name: "mail of our own", keywords: []string{allXClient, "XFORWARD ADDR"},
			want:   []string{"EHLO mx.example.org", "MAIL FROM:<bob@example.com>"},
			reason: "there is no client to speak of",
		},
		{
			name: "PROXY", info: ClientProxy, keywords: []string{allXClient}, client: visitor,
			want: []string{"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25", "EHLO mx.example.org", "MAIL FROM:<bob@example.com>"},
		},
		{
			name: "PROXY, IPv6 to IPv4", info: ClientProxy, client: Client{IP: netip.MustParseAddr("2001:db8::1"), Port: 1, DestIP: netip.MustParseAddr("198.51.100.1"), DestPort: 25},
			want:   []string{"PROXY TCP6 2001:db8::1 ::ffff:198.51.100.1 1 25", "EHLO mx.example.org", "MAIL FROM:<bob@example.com>"},
			reason: "the header has one family for both",
		},
		{
			name: "PROXY, no destination", info: ClientProxy, client: Client{IP: netip.MustParseAddr("192.0.2.7"), Port: 1},
			want: []string{"PROXY TCP4 192.0.2.7 0.0.0.0 1 0", "EHLO mx.example.org", "MAIL FROM:<bob@example.com>"},
		},
		{
			name: "PROXY, mail of our own", info: ClientProxy, reason: "Postfix refuses PROXY UNKNOWN",
			want: []string{"PROXY TCP4 127.0.0.1 127.0.0.1 PORT PORT", "EHLO mx.example.org", "MAIL FROM:<bob@example.com>"},
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := (&server{keywords: tc.keywords, proxy: tc.info == ClientProxy}).start(t)
			c := mustOpen(t, newUpstream(t, Config{Address: "smtp://" + s.addr(), ClientInfo: tc.info}), tc.client)
			if r, err := c.Mail(context.Background(), Mail{From: bob}); err != nil || r.Code != 250 {
				t.Fatal(r, err)
			}
			var got []string
			for _, l := range s.commands() {
				if strings.HasPrefix(l, "1 PROXY TCP4 127.0.0.1 127.0.0.1 ") { // our own, with ports of the moment
					l = "1 PROXY TCP4 127.0.0.1 127.0.0.1 PORT PORT"
				}
				got = append(got, l[2:])
			}
			if !slices.Equal(got, tc.want) {
				t.Fatalf("%s\n got %q\nwant %q", tc.reason, got, tc.want)
			}
		})
	}
}

// Where the next hop will not take the client's place for ours, its mail must not go under our name.
func TestXClientRefused(t *testing.T) {
	cases := []struct {
		name, info string
		keywords   []string
		hooks      map[string]hook
		code       int // of the refusal; 0 for another error
		op         string
	}{
		{name: "not offered", info: ClientXClient, op: "xclient"},
		{name: "not permitted", info: ClientXClient, keywords: []string{allXClient}, hooks: map[string]hook{"xclient": say("550 5.7.0 insufficient authorization\r\n", true)}, code: 550, op: "xclient"},
		{name: "not permitted, automatic", info: ClientAuto, keywords: []string{allXClient}, hooks: map[string]hook{"xclient": say("501 5.5.4 Bad\r\n", true)}, code: 501, op: "xclient"},
		{name: "250 in place of a greeting", info: ClientAuto, keywords: []string{allXClient}, hooks: map[string]hook{"xclient": say("250 Ok\r\n", true)}, code: 250, op: "xclient"},
		{name: "the client is not wanted", info: ClientAuto, keywords: []string{allXClient}, hooks: map[string]hook{"xclient": say("554 5.7.1 blocked\r\n", true)}, code: 554, op: "xclient"},
		{name: "its EHLO is refused", info: ClientAuto, keywords: []string{allXClient}, hooks: map[string]hook{"ehlo": func(p *peer, line string) bool {
			if strings.Contains(line, "helo.example") {
				p.say("450 4.7.1 your name\r\n")
			} else {
				p.say("250-x\r\n250 " + allXClient + "\r\n")
			}
			return true
		}}, code: 450, op: "ehlo"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := (&server{keywords: tc.keywords, hooks: tc.hooks}).start(t)
			_, err := newUpstream(t, Config{Address: "smtp://" + s.addr(), ClientInfo: tc.info}).Open(context.Background(), visitor)
			wantError(t, err, tc.op, false)
			var refused *Refused
			if errors.As(err, &refused) != (tc.code != 0) || tc.code != 0 && refused.Reply.Code != tc.code {
				t.Fatalf("got %v, expected a refusal with %d", err, tc.code)
			}
		})
	}
}

// XFORWARD is for the next hop's log: a refusal of it does not stop the mail, but the connection is used for no one else.
func TestXForwardRefused(t *testing.T) {
	for _, keywords := range [][]string{{"XFORWARD ADDR HELO"}, {"XFORWARD ADDR HELO", "PIPELINING"}} {
		s := (&server{keywords: keywords, hooks: map[string]hook{"xforward": say("550 5.7.0 no\r\n", true)}}).start(t)
		u := newUpstream(t, Config{Address: "smtp://" + s.addr()})
		for n := 1; n <= 2; n++ {
			c := mustOpen(t, u, visitor)
			mail, rcpt, err := c.MailRcpt(context.Background(), Mail{From: bob}, Rcpt{To: alice})
			if err != nil || mail.Code != 250 || rcpt.Code != 250 {
				t.Fatal(mail, rcpt, err)
			}
			if result, err := c.Data(context.Background(), text("x\r\n")); err != nil || result.Reply.Code != 250 {
				t.Fatal(result, err)
			}
			c.Close()
		}
		if got := s.commands(); !strings.HasPrefix(got[len(got)-1], "2 ") {
			t.Fatalf("the connection was used again: %q", got)
		}
	}
}

// A 421 to XFORWARD is the next hop's goodbye. No reply to MAIL comes then, and none may be taken for one.
func TestXForwardGoodbye(t *testing.T) {
	for _, keywords := range [][]string{{"XFORWARD ADDR HELO"}, {"XFORWARD ADDR HELO", "PIPELINING"}} {
		s := (&server{keywords: keywords, hooks: map[string]hook{"xforward": say("421 4.3.2 Closing\r\n", false)}}).start(t)
		c := mustOpen(t, newUpstream(t, Config{Address: "smtp://" + s.addr()}), visitor)
		mail, rcpt, err := c.MailRcpt(context.Background(), Mail{From: bob}, Rcpt{To: alice})
		if err != nil || mail.Code != 421 || rcpt.Code != 0 {
			t.Errorf("%q: got %v, %v, %v; expected 421", keywords, mail, rcpt, err)
		}
		if c.Alive() {
			t.Errorf("%q: alive after a 421", keywords)
		}
	}
}

// The PROXY header of version 2 is the first thing on the connection, before TLS.
func TestProxyV2(t *testing.T) {
	serverTLS, trusting := testTLS(t)
	got := make(chan []byte, 1)
	s := &server{tls: serverTLS}
	s.hooks = map[string]hook{"greeting": func(p *peer, _ string) bool {
		header := make([]byte, 28)
		if _, err := io.ReadFull(p.nc, header); err != nil || !p.secure() {
			return false
		}
		got <- header
		p.say("220 hello\r\n")
		return true
	}}
	s.start(t)
	u := newUpstream(t, Config{Address: "smtps://" + s.addr(), TLSConfig: trusting, ClientInfo: ClientProxyV2})
	if result, err := deliver(context.Background(), mustOpen(t, u, visitor), text("x\r\n"), alice); err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	want := "\r\n\r\n\x00\r\nQUIT\n" + "\x21\x11\x00\x0c" + "\xc0\x00\x02\x07" + "\xc6\x33\x64\x01" + "\x12\x67" + "\x00\x19"
	if h := <-got; string(h) != want {
		t.Fatalf("got %q\nwant %q", h, want)
	}
}
