package wire

import (
	"net/netip"
	"strings"
	"testing"
)

func TestXClient(t *testing.T) {
	type seen struct {
		x            XClient
		remote, peer string
	}
	found := make(chan seen, 1)
	s := serve(t, Config{XClientFrom: loopback()}, func(s *site) {
		s.onMail = func(c *smtpConn) error {
			found <- seen{x: c.XClient(), remote: c.RemoteAddr().String(), peer: c.PeerAddr().String()}
			return nil
		}
	})
	c := s.dial()
	c.want("220")
	if r := c.do("EHLO proxy.example", "250-"); !strings.Contains(r, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n") {
		t.Errorf("not offered: %q", r)
	}
	c.do("XCLIENT", "501 5.5.4")
	c.do("XCLIENT ADDR=nonsense", "501 5.5.4 XCLIENT: address")
	c.do("XCLIENT ADDR=192.0.2.7 ADDR=192.0.2.8", "501")
	c.do("XCLIENT NAME=a+0D+0Ab", "501 5.5.4 XCLIENT: NAME: control character")
	c.do("XCLIENT COLOUR=red", "501")
	c.do("MAIL FROM:<>", "250")
	<-found
	c.do("XCLIENT ADDR=192.0.2.7", "503") // not in a transaction
	c.do("RSET", "250")
	c.do("XCLIENT NAME=mail+2Dout.example ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=helo.example LOGIN=[UNAVAILABLE] DESTADDR=IPV6:2001:db8::1 DESTPORT=25", "220 mx.test ESMTP")
	c.do("MAIL FROM:<>", "503 5.5.1 Send EHLO")
	if r := c.do("EHLO helo.example", "250-"); strings.Contains(r, "XCLIENT") {
		t.Errorf("offered twice: %q", r)
	}
	c.do("XCLIENT ADDR=192.0.2.8", "503")
	c.do("MAIL FROM:<>", "250")
	got := <-found
	want := seen{
		x: XClient{Used: true, Name: "mail-out.example", Helo: "helo.example", Proto: "ESMTP",
			Client: netip.MustParseAddrPort("192.0.2.7:4711"), Server: netip.MustParseAddrPort("[2001:db8::1]:25")},
		remote: "192.0.2.7:4711", peer: c.LocalAddr().String(),
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	c.do("QUIT", "221")
	s.reason()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logins != 2 || s.logout != 2 {
		t.Errorf("%d sessions, %d logged out", s.logins, s.logout)
	}
}

func TestXClientFromOthers(t *testing.T) {
	s := serve(t, Config{XClientFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	c := s.dial()
	c.want("220")
	if r := c.do("EHLO x", "250-"); strings.Contains(r, "XCLIENT") {
		t.Errorf("offered: %q", r)
	}
	c.do("XCLIENT ADDR=192.0.2.7", "502 5.5.1")
}

func TestXClientCountsTheClient(t *testing.T) {
	// The proxy itself is not held to the limit for one address; the clients that it names are.
	s := serve(t, Config{XClientFrom: loopback(), Limits: Limits{PerIP: 1}})
	open := func(addr, want string) {
		c := s.dial()
		c.want("220")
		c.do("XCLIENT ADDR="+addr, want)
	}
	open("192.0.2.7", "220")
	open("192.0.2.8", "220")
	open("192.0.2.7", "421 4.7.0")
}

func FuzzXClient(f *testing.F) {
	f.Add("NAME=a ADDR=192.0.2.7 PORT=1 PROTO=SMTP HELO=h LOGIN=+2B DESTADDR=IPV6:::1 DESTPORT=2")
	f.Add("ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL]")
	base := netip.MustParseAddrPort("127.0.0.1:1")
	f.Fuzz(func(t *testing.T, arg string) {
		x, err := parseXClient(arg, base, base)
		if err != nil {
			return
		}
		for _, v := range []string{x.Name, x.Helo, x.Login, x.Proto} {
			if len(v) > maxXClientValue || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%q gives %q", arg, v)
			}
		}
		if !x.Client.IsValid() || !x.Server.IsValid() || x.Client.Addr().Zone() != "" {
			t.Errorf("%q gives %v, %v", arg, x.Client, x.Server)
		}
	})
}
