package upstream

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// use runs a transaction on a connection of its own and gives the connection back.
func use(t *testing.T, u Upstream, client Client) {
	t.Helper()
	c := mustOpen(t, u, client)
	if result, err := deliver(context.Background(), c, text("Hello\r\n"), alice); err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// connections gives the numbers of the connections on which a command was heard, in order.
func connections(s *server, verb string) string {
	var b strings.Builder
	for _, l := range s.commands() {
		if num, cmd, _ := strings.Cut(l, " "); strings.HasPrefix(cmd, verb) {
			b.WriteString(num)
		}
	}
	return b.String()
}

// Which connections are used for a second client.
func TestPoolSharing(t *testing.T) {
	cases := []struct {
		name   string
		cfg    Config
		server *server
		want   string // connections of the MAILs
		reason string
	}{
		{name: "nothing offered", server: &server{}, want: "111"},
		{name: "none", cfg: Config{ClientInfo: ClientNone}, server: &server{keywords: []string{allXClient}}, want: "111"},
		{name: "XFORWARD", server: &server{keywords: []string{"XFORWARD ADDR"}}, want: "111", reason: "it can be repeated"},
		{name: "XCLIENT", server: &server{keywords: []string{allXClient}}, want: "123", reason: "a second one is refused, and the first client's data stays"},
		{name: "PROXY", cfg: Config{ClientInfo: ClientProxy}, server: &server{proxy: true}, want: "123", reason: "one header a connection"},
		{name: "no pool", cfg: Config{Pool: Pool{Size: -1}}, server: &server{}, want: "123"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			tc.server.start(t)
			tc.cfg.Address = "smtp://" + tc.server.addr()
			u := newUpstream(t, tc.cfg)
			use(t, u, visitor)
			use(t, u, Client{}) // our own mail must not make a connection that a client's would then use
			use(t, u, visitor)
			if got := connections(tc.server, "MAIL"); got != tc.want {
				t.Fatalf("MAIL on connections %s, expected %s (%s)", got, tc.want, tc.reason)
			}
		})
	}
}

// A transaction that was left open is reset before the next client gets the connection, and only then.
func TestPoolReset(t *testing.T) {
	s := (&server{}).start(t)
	u := newUpstream(t, Config{Address: "smtp://" + s.addr()})
	use(t, u, visitor)
	c := mustOpen(t, u, visitor)
	if r, err := c.Mail(context.Background(), Mail{From: alice}); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	c.Close()
	use(t, u, visitor)
	if got := connections(s, "MAIL") + " " + connections(s, "RSET"); got != "111 1" {
		t.Fatalf("MAIL and RSET on connections %s, expected 111 1", got)
	}
	if n := len(s.messages()); n != 2 {
		t.Fatalf("%d messages, expected 2", n)
	}
}

// A connection whose RSET fails is not used; another is opened.
func TestPoolResetFails(t *testing.T) {
	for name, h := range map[string]hook{
		"refused": say("550 no\r\n", true),
		"closed":  func(*peer, string) bool { return false },
	} {
		t.Run(name, func(t *testing.T) {
			s := (&server{hooks: map[string]hook{"rset": h}}).start(t)
			u := newUpstream(t, Config{Address: "smtp://" + s.addr()})
			c := mustOpen(t, u, visitor)
			if r, err := c.Mail(context.Background(), Mail{From: alice}); err != nil || r.Code != 250 {
				t.Fatal(r, err)
			}
			c.Close()
			use(t, u, visitor)
			if got := connections(s, "MAIL"); got != "12" {
				t.Fatalf("MAIL on connections %s, expected 12", got)
			}
		})
	}
}

// Refusals retire a connection: servers slow down or hang up on who errs too often.
func TestPoolRefusals(t *testing.T) {
	s := &server{hooks: map[string]hook{"rcpt": func(p *peer, line string) bool {
		if strings.Contains(line, "<nobody@") {
			p.say("550 5.1.1 User unknown\r\n")
		} else {
			p.to = append(p.to, line)
			p.say("250 2.1.5 Ok\r\n")
		}
		return true
	}}}
	s.start(t)
	u := newUpstream(t, Config{Address: "smtp://" + s.addr(), Pool: Pool{Refusals: 3}})
	for range 3 {
		c := mustOpen(t, u, visitor)
		if r, err := deliver(context.Background(), c, text("x\r\n"), Path{Local: "nobody", Domain: "example.org"}); err != nil || r.Reply.Code != 550 {
			t.Fatal(r, err)
		}
		c.Close()
	}
	use(t, u, visitor)
	if got := connections(s, "MAIL"); got != "1112" {
		t.Fatalf("MAIL on connections %s, expected 1112", got)
	}
}

// A server that hangs up on idle connections.
func TestPoolGone(t *testing.T) {
	s := &server{}
	s.hooks = map[string]hook{"dot": func(p *peer, _ string) bool {
		p.say("250 2.0.0 Ok\r\n")
		return false
	}}
	s.start(t)
	u := newUpstream(t, Config{Address: "smtp://" + s.addr()})
	for range 2 {
		c := mustOpen(t, u, visitor)
		if result, err := deliver(context.Background(), c, text("x\r\n"), alice); err != nil || result.Reply.Code != 250 {
			t.Fatal(result, err)
		}
		for c.Alive() { // the end of file is on its way through the kernel
		}
		c.Close()
	}
	if got := connections(s, "MAIL"); got != "12" {
		t.Fatalf("MAIL on connections %s, expected 12", got)
	}
}

// Idle connections are ended with QUIT when their time has come.
func TestPoolIdle(t *testing.T) {
	s := (&server{}).start(t)
	u := newUpstream(t, Config{Address: "smtp://" + s.addr(), Pool: Pool{Idle: time.Millisecond}})
	use(t, u, visitor)
	s.stopConns(t) // returns when the server has seen the end of the connection
	if got := s.commands(); !slices.Contains(got, "1 QUIT") {
		t.Fatalf("got %q, expected a QUIT", got)
	}
}

// The pool keeps no more than its size.
func TestPoolSize(t *testing.T) {
	s := (&server{}).start(t)
	u := newUpstream(t, Config{Address: "smtp://" + s.addr(), Pool: Pool{Size: 2}})
	var conns []Conn
	for range 4 {
		conns = append(conns, mustOpen(t, u, visitor))
	}
	for _, c := range conns {
		c.Close()
	}
	for range 3 {
		conns = append(conns, mustOpen(t, u, visitor))
	}
	for _, c := range conns[4:] {
		if r, err := c.Mail(context.Background(), Mail{From: bob}); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
	}
	if got := connections(s, "MAIL"); got != "215" {
		t.Fatalf("MAIL on connections %s, expected 215: the two that were kept, last first, then a new one", got)
	}
}
