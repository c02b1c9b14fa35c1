package wire

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test; only a failing one takes so long.
const patience = time.Minute

// A delivery is what the session behind the wire was given.
type delivery struct {
	from    string
	to      []string
	body    string
	err     error // of the reader
	dataErr error
}

// A site is a listener with a go-smtp server behind it.
type site struct {
	t      testing.TB
	l      *Listener
	addr   string
	mu     sync.Mutex
	got    []delivery
	logins int             // sessions made
	logout int             // sessions ended
	closed chan string     // reasons, one per connection
	onData func(*smtpConn) // runs when a message has been read
	onMail func(*smtpConn) error
	served chan struct{}

	byServer bool // messages are read from go-smtp's reader
	readOnly bool // only readUpTo octets are read, and the message is refused
	readUpTo int
}

type smtpConn struct {
	*Conn
	helo string
}

type session struct {
	s     *site
	c     *smtp.Conn
	from  string
	rcpts []string
}

func (s *site) NewSession(c *smtp.Conn) (smtp.Session, error) {
	if c.Hostname() == "failing.example" {
		return nil, &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "no session"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins++
	return &session{s: s, c: c}, nil
}

func (ss *session) Reset() { ss.from, ss.rcpts = "", nil }

func (ss *session) Logout() error {
	ss.s.mu.Lock()
	defer ss.s.mu.Unlock()
	ss.s.logout++
	return nil
}

func (ss *session) Mail(from string, _ *smtp.MailOptions) error {
	ss.from = from
	if ss.s.onMail != nil {
		return ss.s.onMail(&smtpConn{Conn: ss.c.Conn().(*Conn), helo: ss.c.Hostname()})
	}
	return nil
}

func (ss *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	switch {
	case strings.HasPrefix(to, "unknown@"):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	case strings.HasPrefix(to, "panic@"):
		panic("told to")
	case strings.HasPrefix(to, "odd@"):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "two\nlines, a \r and \x00 and \xff" + strings.Repeat("x", 6000)}
	case strings.HasPrefix(to, "codeless@"):
		return &smtp.SMTPError{Message: "no code"}
	case strings.HasPrefix(to, "hangup@"):
		return &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "go away"}
	}
	ss.rcpts = append(ss.rcpts, to)
	return nil
}

func (ss *session) Data(r io.Reader) error {
	if strings.HasPrefix(ss.rcpts[0], "datapanic@") {
		panic("told to")
	}
	conn := ss.c.Conn().(*Conn)
	if !ss.s.byServer {
		r = conn.Body()
	}
	if ss.s.readOnly {
		r = io.LimitReader(r, int64(ss.s.readUpTo))
	}
	body, err := io.ReadAll(r)
	d := delivery{from: ss.from, to: ss.rcpts, body: string(body), err: err, dataErr: conn.DataErr()}
	ss.s.mu.Lock()
	ss.s.got = append(ss.s.got, d)
	ss.s.mu.Unlock()
	if ss.s.onData != nil {
		ss.s.onData(&smtpConn{Conn: conn, helo: ss.c.Hostname()})
	}
	var de *DataError
	switch {
	case ss.s.readOnly:
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "no room"}
	case errors.As(d.dataErr, &de):
		return &smtp.SMTPError{Code: de.Reply.Code, EnhancedCode: enhanced(de.Reply.Enhanced), Message: de.Reply.Text}
	case err != nil:
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "cut off"}
	}
	return nil
}

func enhanced(s string) (c smtp.EnhancedCode) {
	for i, f := range strings.Split(s, ".") {
		c[i], _ = strconv.Atoi(f)
	}
	return c
}

// deliveries are the messages that the session would have passed on.
func (s *site) deliveries() (good []delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.got {
		if d.err == nil && d.dataErr == nil {
			good = append(good, d)
		}
	}
	return good
}

func (s *site) attempts() []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]delivery(nil), s.got...)
}

// reason waits for a connection to be over.
func (s *site) reason() string {
	s.t.Helper()
	select {
	case r := <-s.closed:
		return r
	case <-time.After(patience):
		s.t.Fatal("the connection is not over")
		return ""
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return inner
}

func testConfig(cfg Config) Config {
	if cfg.Hostname == "" {
		cfg.Hostname = "mx.test"
	}
	if cfg.Keywords == nil {
		cfg.Keywords = func() []string { return []string{"SIZE 1000000", "8BITMIME", "CHUNKING", "DSN"} }
	}
	return cfg
}

// serve starts a site; it is closed with the test.
func serve(t testing.TB, cfg Config, adjust ...func(*site)) *site {
	t.Helper()
	s := &site{t: t, closed: make(chan string, 1000), served: make(chan struct{})}
	for _, f := range adjust {
		f(s)
	}
	cfg = testConfig(cfg)
	if cfg.Hello == nil {
		cfg.Hello = func(_ *Conn, name string) *Reply {
			switch name {
			case "refused.example":
				return &Reply{Code: 550, Enhanced: "5.7.1", Text: "not you"}
			case "hangup.example":
				return &Reply{Code: 421, Enhanced: "4.7.0", Text: "go away"}
			}
			return nil
		}
	}
	if cfg.Closed == nil {
		cfg.Closed = func(c *Conn) { s.closed <- c.Reason() }
	}
	s.l = NewListener(listen(t), cfg)
	s.addr = s.l.Addr().String()
	srv := smtp.NewServer(s)
	srv.Domain = "go-smtp.test"
	srv.MaxLineLength = 0
	srv.ErrorLog = log.New(io.Discard, "", 0)
	go func() {
		defer close(s.served)
		_ = srv.Serve(s.l) // its error is that of Close
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.l.Drain(ctx)
		if err := srv.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		<-s.served
		if err := srv.Shutdown(context.Background()); !errors.Is(err, smtp.ErrServerClosed) {
			t.Errorf("shutdown: %v", err)
		}
		if st := s.l.Stats(); st.Open != 0 {
			t.Errorf("%d connections are still counted", st.Open)
		}
	})
	return s
}

// A client is a raw one: it sends what it is told to.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (s *site) dial() *client {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return newClient(s.t, c)
}

func newClient(t testing.TB, c net.Conn) *client {
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, Conn: c, r: bufio.NewReader(c)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatalf("sending %q: %v", s, err)
	}
}

// reply reads one reply; "" at the end of the connection.
func (c *client) reply() string {
	c.t.Helper()
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				c.t.Fatal("no reply")
			}
			return b.String()
		}
		if !strings.HasSuffix(line, "\r\n") || len(line) > 512 {
			c.t.Fatalf("malformed reply line %q", line)
		}
		b.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return b.String()
		}
	}
}

func (c *client) want(prefix string) string {
	c.t.Helper()
	r := c.reply()
	if !strings.HasPrefix(r, prefix) || r == "" {
		c.t.Fatalf("got reply %q, want %q", r, prefix)
	}
	return r
}

func (c *client) wantEnd() {
	c.t.Helper()
	if r := c.reply(); r != "" {
		c.t.Fatalf("got reply %q, want the end of the connection", r)
	}
	_ = c.Close() // for which the other side may be waiting
}

// do sends a line and wants a reply.
func (c *client) do(line, prefix string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	return c.want(prefix)
}

func (c *client) hello() {
	c.t.Helper()
	c.want("220 mx.test ")
	c.do("EHLO client.example", "250-mx.test\r\n")
}

// envelope begins a message up to 354.
func (c *client) envelope() {
	c.t.Helper()
	c.do("MAIL FROM:<a@example.org>", "250 2.1.0")
	c.do("RCPT TO:<b@example.com>", "250 2.1.5")
	c.do("DATA", "354")
}

func (c *client) halfClose() {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// play runs a dialogue: lines "> text" are sent with CRLF, ">> text" as a Go string without quotes, "< text" is the start of the reply
// that is wanted, "< END" the end of the connection.
func (c *client) play(script string) {
	c.t.Helper()
	for i, line := range strings.Split(strings.TrimSpace(script), "\n") {
		line = strings.TrimLeft(line, "\t ")
		mark, text, _ := strings.Cut(line, " ")
		where := fmt.Sprintf("step %d (%s)", i+1, line)
		switch mark {
		case ">":
			c.send(text + "\r\n")
		case ">>":
			raw, err := strconv.Unquote(`"` + text + `"`)
			if err != nil {
				c.t.Fatalf("%s: %v", where, err)
			}
			c.send(raw)
		case "<":
			r := c.reply()
			if text == "END" {
				if r != "" {
					c.t.Fatalf("%s: got %q", where, r)
				}
				_ = c.Close()
			} else if !strings.HasPrefix(r, text) || r == "" {
				c.t.Fatalf("%s: got %q", where, r)
			}
		default:
			c.t.Fatalf("%s: unknown mark", where)
		}
	}
}

func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

var testTLS = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "mx.test"},
		DNSNames:     []string{"mx.test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
})

// encrypt does the client's part of the handshake.
func (c *client) encrypt() *client {
	c.t.Helper()
	tc := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true, ServerName: "mx.test"})
	if err := tc.Handshake(); err != nil {
		c.t.Fatalf("handshake: %v", err)
	}
	return &client{t: c.t, Conn: tc, r: bufio.NewReader(tc)}
}
