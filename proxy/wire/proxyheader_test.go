package wire

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

func v2(t testing.TB, src, dst string) string {
	t.Helper()
	s, d := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(src)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(dst))
	b, err := proxyproto.HeaderProxyFromAddrs(2, s, d).Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const v2Local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

func TestProxyHeader(t *testing.T) {
	for name, tc := range map[string]struct {
		header         string
		client, server string // empty: the socket's
	}{
		"v1, IPv4":         {header: "PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n", client: "192.0.2.7:56324", server: "198.51.100.1:25"},
		"v1, IPv6":         {header: "PROXY TCP6 2001:db8::7 2001:db8::1 56324 25\r\n", client: "[2001:db8::7]:56324", server: "[2001:db8::1]:25"},
		"v1, unknown":      {header: "PROXY UNKNOWN\r\n"},
		"v1, unknown more": {header: "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"}, // to be ignored up to the CRLF
		"v2, IPv4":         {header: v2(t, "192.0.2.7:56324", "198.51.100.1:25"), client: "192.0.2.7:56324", server: "198.51.100.1:25"},
		"v2, IPv6":         {header: v2(t, "[2001:db8::7]:56324", "[2001:db8::1]:25"), client: "[2001:db8::7]:56324", server: "[2001:db8::1]:25"},
		"v2, IPv4 in IPv6": {header: v2(t, "[::ffff:192.0.2.7]:56324", "[::ffff:198.51.100.1]:25"), client: "192.0.2.7:56324", server: "198.51.100.1:25"},
		"v2, health check": {header: v2Local},
	} {
		t.Run(name, func(t *testing.T) {
			addrs := make(chan [3]string, 1)
			s := serve(t, Config{ProxyFrom: loopback()}, func(s *site) {
				s.onMail = func(c *smtpConn) error {
					addrs <- [3]string{c.RemoteAddr().String(), c.LocalAddr().String(), c.PeerAddr().String()}
					return nil
				}
			})
			for _, pieces := range [][]string{{tc.header}, strings.Split(tc.header, "")} {
				c := s.dial()
				for _, p := range pieces {
					c.send(p)
				}
				c.hello()
				c.do("MAIL FROM:<>", "250")
				want := [3]string{tc.client, tc.server, c.Conn.LocalAddr().String()}
				if want[0] == "" {
					want[0], want[1] = want[2], s.addr
				}
				if got := <-addrs; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

func TestProxyHeaderBad(t *testing.T) {
	for name, send := range map[string]string{
		"none":                  "EHLO client.example\r\n",
		"another protocol":      "GET / HTTP/1.1\r\n",
		"v1, no address":        "PROXY TCP4\r\n",
		"v1, a name":            "PROXY TCP4 client.example 198.51.100.1 56324 25\r\n",
		"v1, wrong family":      "PROXY TCP4 2001:db8::7 2001:db8::1 56324 25\r\n",
		"v1, bad port":          "PROXY TCP4 192.0.2.7 198.51.100.1 70000 25\r\n",
		"v1, bare LF":           "PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\n",
		"v1, endless":           "PROXY TCP4 " + strings.Repeat("1", 200),
		"v1, UDP":               "PROXY UDP4 192.0.2.7 198.51.100.1 56324 25\r\n",
		"v2, too long":          "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff",
		"v2, wrong version":     "\r\n\r\n\x00\r\nQUIT\n\x11\x11\x00\x0c" + strings.Repeat("\x01", 12),
		"v2, UDP":               "\r\n\r\n\x00\r\nQUIT\n\x21\x12\x00\x0c" + strings.Repeat("\x01", 12),
		"v2, shorter than TCP4": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x04" + strings.Repeat("\x01", 4),
		"v2, unix socket":       "\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + strings.Repeat("\x01", 216),
		"v2, broken signature":  "\r\n\r\n\x00\r\nQUIX\n",
	} {
		t.Run(name, func(t *testing.T) {
			opened := make(chan struct{}, 1)
			s := serve(t, Config{ProxyFrom: loopback(), Open: func(*Conn) *Reply { opened <- struct{}{}; return nil }})
			c := s.dial()
			c.send(send)
			c.wantEnd() // without a word: it is no SMTP client
			if n := s.l.Stats().BadProxy; n != 1 {
				t.Errorf("%d counted", n)
			}
			select {
			case <-opened:
				t.Error("Open was called")
			default:
			}
		})
	}
	t.Run("quiet", func(t *testing.T) {
		s := serve(t, Config{ProxyFrom: loopback(), Limits: Limits{Handshake: 20 * time.Millisecond}})
		s.dial().wantEnd()
	})
	t.Run("cut off", func(t *testing.T) {
		s := serve(t, Config{ProxyFrom: loopback()})
		c := s.dial()
		c.send("PROXY TCP4 192")
		c.halfClose()
		c.wantEnd()
	})
}

func TestProxyHeaderFromOthers(t *testing.T) {
	// Anyone could claim any address if a header were taken from any peer.
	s := serve(t, Config{ProxyFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	c := s.dial()
	c.want("220")
	c.do("PROXY TCP4 192.0.2.7 198.51.100.1 56324 25", "500 5.5.2")
	c.do("EHLO x", "250-mx.test")
}

func TestProxyHeaderBeforeTLS(t *testing.T) {
	s := serve(t, Config{ProxyFrom: loopback(), TLS: testTLS(), ImplicitTLS: true})
	c := s.dial()
	// A proxy may send the header and the client's first record in one packet.
	glued := newClient(t, &glue{Conn: c.Conn, first: []byte("PROXY TCP4 192.0.2.7 198.51.100.1 56324 465\r\n")})
	e := glued.encrypt()
	e.hello()
	e.envelope()
	e.do("hello\r\n.", "250")
}

// glue sends first together with the first write.
type glue struct {
	net.Conn
	first []byte
}

func (g *glue) Write(p []byte) (int, error) {
	if g.first == nil {
		return g.Conn.Write(p)
	}
	_, err := g.Conn.Write(append(g.first, p...))
	g.first = nil
	return len(p), err
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\nEHLO x\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte("PROXY TCP6 2001:db8::7 2001:db8::1 56324 25\r\n"))
	f.Add([]byte(v2(f, "192.0.2.7:56324", "198.51.100.1:25")))
	f.Add([]byte(v2(f, "[2001:db8::7]:56324", "[2001:db8::1]:25")))
	f.Add([]byte(v2Local))
	f.Fuzz(func(t *testing.T, p []byte) {
		e, n, err := parseProxyHeader(p)
		switch {
		case n < 0 || n > len(p):
			t.Fatalf("length %d of %d", n, len(p))
		case err != nil && (n != 0 || e.client.IsValid()):
			t.Fatalf("error %v with %d octets and %v", err, n, e)
		case err == nil && n == 0 && len(p) >= proxyV2Head+proxyV2Max:
			t.Fatalf("%d octets, and more is wanted", len(p))
		}
		// It must not matter how the header is cut: each beginning of a good header wants more, and what follows is not looked at.
		if n > 0 {
			for i := range n {
				if _, m, err := parseProxyHeader(p[:i]); m != 0 || err != nil {
					t.Fatalf("first %d of %d octets: %d, %v", i, n, m, err)
				}
			}
			e2, m, err := parseProxyHeader(append(bytes.Clone(p[:n]), "EHLO"...))
			if m != n || err != nil || e2 != e {
				t.Fatalf("with other octets behind: %v, %d, %v", e2, m, err)
			}
		}
	})
}
