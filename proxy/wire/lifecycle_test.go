package wire

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

func TestTimeouts(t *testing.T) {
	const short = 300 * time.Millisecond // long enough for a busy machine to say the lead in
	for name, tc := range map[string]struct {
		limits Limits
		lead   func(*client)
		want   string
		reason string
	}{
		"no command":                 {limits: Limits{Idle: short}, lead: func(c *client) { c.want("220") }, want: "421 4.4.2", reason: "idle timeout"},
		"between commands":           {limits: Limits{Idle: short}, lead: func(c *client) { c.hello() }, want: "421 4.4.2", reason: "idle timeout"},
		"half a command":             {limits: Limits{Idle: short}, lead: func(c *client) { c.hello(); c.send("NOO") }, want: "421 4.4.2", reason: "idle timeout"},
		"in a transaction":           {limits: Limits{Idle: short}, lead: func(c *client) { c.hello(); c.do("MAIL FROM:<>", "250") }, want: "421 4.4.2", reason: "idle timeout"},
		"in a message":               {limits: Limits{DataIdle: short}, lead: func(c *client) { c.hello(); c.envelope(); c.send("x\r\n") }, want: "421 4.4.2", reason: "idle timeout"},
		"in a message being dropped": {limits: Limits{DataIdle: short}, lead: func(c *client) { c.hello(); c.envelope(); c.send("x\ny") }, want: "421 4.4.2", reason: "idle timeout"},
		"the whole session":          {limits: Limits{Session: short}, lead: func(c *client) { c.want("220") }, want: "421 4.4.2 mx.test session", reason: "session timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Config{Limits: tc.limits})
			c := s.dial()
			tc.lead(c)
			c.want(tc.want)
			c.wantEnd()
			if r := s.reason(); r != tc.reason {
				t.Errorf("reason %q", r)
			}
			if got := s.deliveries(); len(got) != 0 {
				t.Errorf("delivered %+v", got)
			}
		})
	}
}

func TestSlowSenderIsNotCut(t *testing.T) {
	// Each piece comes in time; the message as a whole takes longer than the limit. A limit on a whole DATA would cut it.
	t.Parallel()
	s := serve(t, Config{Limits: Limits{DataIdle: time.Second}})
	c := s.dial()
	c.hello()
	c.envelope()
	tick := time.NewTicker(120 * time.Millisecond)
	defer tick.Stop()
	for range 10 {
		<-tick.C
		c.send("x\r\n")
	}
	c.do(".", "250")
}

func TestReasons(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(*client)
		want string
	}{
		"quit":    {do: func(c *client) { c.do("QUIT", "221") }, want: "quit"},
		"close":   {do: func(c *client) { _ = c.Close() }, want: "client closed"},
		"reset":   {do: func(c *client) { _ = c.Conn.(*net.TCPConn).SetLinger(0); _ = c.Close() }, want: "reset"},
		"browser": {do: func(c *client) { c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); c.want("554"); c.wantEnd() }, want: "not smtp"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Config{})
			c := s.dial()
			c.hello()
			tc.do(c)
			if r := s.reason(); r != tc.want {
				t.Errorf("reason %q, want %q", r, tc.want)
			}
		})
	}
}

func TestClientThatNeverReads(t *testing.T) {
	s := serve(t, Config{Limits: Limits{Idle: 100 * time.Millisecond, Commands: 1 << 30}})
	c := s.dial()
	c.hello()
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(1); err != nil {
		t.Fatal(err)
	}
	flood := []byte(strings.Repeat("HELP\r\n", 10000))
	for {
		if _, err := c.Write(flood); err != nil {
			break
		}
	}
	if r := s.reason(); r != "write timeout" && r != "idle timeout" {
		t.Errorf("reason %q", r)
	}
}

func TestConnectionLimits(t *testing.T) {
	t.Run("in all", func(t *testing.T) {
		s := serve(t, Config{Limits: Limits{Connections: 2}})
		a, b := s.dial(), s.dial()
		a.hello()
		b.hello()
		c := s.dial()
		c.want("421 4.3.2 mx.test too many connections")
		c.wantEnd()
		a.do("QUIT", "221")
		s.reason()
		s.dial().hello() // there is room again
		if st := s.l.Stats(); st.Full != 1 || st.Open != 2 || st.Accepted != 4 {
			t.Errorf("%+v", st)
		}
	})
	t.Run("from one address", func(t *testing.T) {
		s := serve(t, Config{Limits: Limits{PerIP: 1}})
		a := s.dial()
		a.hello()
		s.dial().want("421 4.7.0")
		a.do("QUIT", "221")
		s.reason()
		s.dial().hello()
		if st := s.l.Stats(); st.Crowded != 1 {
			t.Errorf("%+v", st)
		}
	})
	t.Run("the address is the client's, not the proxy's", func(t *testing.T) {
		s := serve(t, Config{ProxyFrom: loopback(), Limits: Limits{PerIP: 1, PerNet: 2}})
		open := func(ip string) *client {
			c := s.dial()
			c.send("PROXY TCP4 " + ip + " 198.51.100.1 1 25\r\n")
			return c
		}
		open("192.0.2.7").want("220")
		open("192.0.2.7").want("421 4.7.0")
		open("192.0.2.8").want("220")
		open("192.0.2.9").want("421 4.7.0") // the network has its two
		open("192.0.3.9").want("220")
	})
	t.Run("exempt", func(t *testing.T) {
		s := serve(t, Config{Exempt: loopback(), Limits: Limits{PerIP: 1, PerNet: 1}})
		s.dial().hello()
		s.dial().hello()
	})
}

func TestCensus(t *testing.T) {
	var c Census
	a4, b4 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	a6, b6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	far6 := netip.MustParseAddr("2001:db8:0:1::1")
	for i, tc := range []struct {
		a    netip.Addr
		want bool
	}{
		{a: a4, want: true}, {a: a4, want: true}, {a: a4, want: false}, // two from an address
		{a: b4, want: true}, {a: b4, want: false}, // three from a /24
		{a: a6, want: true}, {a: a6, want: true}, {a: b6, want: true}, {a: b6, want: false}, {a: far6, want: true}, // or a /64
	} {
		if got := c.enterFrom(tc.a, 2, 3); got != tc.want {
			t.Errorf("%d: %v: got %v", i, tc.a, got)
		}
	}
	for _, a := range []netip.Addr{a4, a4, b4, a6, a6, b6, far6} {
		c.leaveFrom(a)
	}
	if len(c.ips) != 0 || len(c.nets) != 0 {
		t.Errorf("left over: %v, %v", c.ips, c.nets)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		s := serve(t, Config{TLS: testTLS(), ImplicitTLS: implicit, Open: func(c *Conn) *Reply {
			c.SetValue("state")
			return &Reply{Code: 554, Enhanced: "5.7.1", Text: "not from " + c.RemoteAddr().(*net.TCPAddr).IP.String()}
		}})
		c := s.dial()
		if implicit {
			c = c.encrypt() // else it could not read the reply
		}
		c.want("554 5.7.1 not from 127.0.0.1")
		c.wantEnd()
		if r := s.reason(); r != "refused" {
			t.Errorf("reason %q", r)
		}
	}
}

func TestOpenAndClosedOnce(t *testing.T) {
	// However often the socket changes hands.
	var mu sync.Mutex
	opened, closed := 0, 0
	over := make(chan any, 10)
	s := serve(t, Config{TLS: testTLS(), XClientFrom: loopback(),
		Open: func(c *Conn) *Reply {
			mu.Lock()
			defer mu.Unlock()
			opened++
			c.SetValue(opened)
			return nil
		},
		Closed: func(c *Conn) {
			mu.Lock()
			defer mu.Unlock()
			closed++
			over <- c.Value()
		},
	})
	c := s.dial()
	c.hello()
	c.do("XCLIENT ADDR=192.0.2.7", "220")
	c.do("EHLO x", "250")
	c.do("STARTTLS", "220")
	c = c.encrypt()
	c.do("EHLO x", "250")
	c.envelope()
	c.do("x\r\n.", "250")
	_ = c.Close()
	if v := <-over; v != 1 {
		t.Errorf("value %v", v)
	}
	second := s.dial()
	second.want("220")
	_ = second.Close()
	<-over
	mu.Lock()
	defer mu.Unlock()
	if opened != 2 || closed != 2 {
		t.Errorf("opened %d, closed %d", opened, closed)
	}
}

func TestEarlyTalk(t *testing.T) {
	for name, tc := range map[string]struct {
		send string
		want bool
	}{
		"talks":  {send: "EHLO client.example\r\n", want: true},
		"waits":  {},
		"closes": {send: "-"},
	} {
		t.Run(name, func(t *testing.T) {
			early := make(chan bool, 1)
			begin := make(chan struct{})
			wait := 10 * time.Millisecond
			if tc.send != "" {
				wait = patience
			}
			s := serve(t, Config{
				EarlyWait: func(*Conn) time.Duration { return wait },
				Open:      func(*Conn) *Reply { <-begin; return nil },
				Closed:    func(c *Conn) { early <- c.EarlyTalk() },
			})
			c := s.dial()
			switch tc.send {
			case "-":
				_ = c.Close()
				close(begin)
				if <-early {
					t.Error("a client that goes is no early talker")
				}
				return
			default:
				c.send(tc.send)
				close(begin)
			}
			c.want("220")
			if tc.send == "" {
				c.send("EHLO client.example\r\n")
			}
			c.want("250-mx.test") // what it said early is heard all the same
			c.do("QUIT", "221")
			if got := <-early; got != tc.want {
				t.Errorf("early talk %v", got)
			}
		})
	}
}

func TestLimitsAreLoggedOnceAMinute(t *testing.T) {
	var mu sync.Mutex
	var b strings.Builder
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cfg := Config{
		Limits: Limits{PerIP: 1},
		Now:    func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
		Log:    slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return b.Write(p) }), nil)),
	}
	s := serve(t, cfg)
	s.dial().hello()
	for range 3 {
		c := s.dial()
		c.want("421 4.7.0")
		c.wantEnd()
	}
	mu.Lock()
	now = now.Add(2 * time.Minute)
	mu.Unlock()
	c := s.dial()
	c.want("421 4.7.0")
	c.wantEnd()
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Count(b.String(), "limit=limits.per_ip"); got != 2 {
		t.Errorf("%d lines:\n%s", got, b.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestSetConfig(t *testing.T) {
	s := serve(t, Config{})
	old := s.dial()
	old.hello()
	s.l.SetConfig(testConfig(Config{Hostname: "new.test"}))
	s.dial().want("220 new.test")
	old.do("QUIT", "221 2.0.0 mx.test") // what is under way keeps what it began with
}

func TestServerCloses(t *testing.T) {
	// smtp.Server.Close closes Conns from another goroutine while their reads are blocked.
	closed := make(chan string, 1)
	l := NewListener(listen(t), testConfig(Config{Closed: func(c *Conn) { closed <- c.Reason() }}))
	srv := smtp.NewServer(&site{t: t})
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, conn)
	c.hello()
	c.do("MAIL FROM:<a@example.org>", "250") // from here on go-smtp has it
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	c.wantEnd()
	if r := <-closed; r != "closed" {
		t.Errorf("reason %q", r)
	}
	l.Drain(context.Background())
}

func TestAlive(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		for name, tc := range map[string]struct {
			ahead string
			close func(*client)
			want  bool
		}{
			"there":                              {want: true},
			"there, and has sent ahead":          {ahead: "NOOP\r\n", want: true},
			"gone":                               {close: func(c *client) { _ = c.Close() }},
			"half closed":                        {close: (*client).halfClose},
			"half closed, with commands sent":    {ahead: "QUIT\r\n", close: (*client).halfClose, want: true},
			"half closed, with half a command":   {ahead: "QUI", close: (*client).halfClose},
			"gone, and the kernel has all of it": {ahead: "RSET\r\nQUIT\r\n", close: (*client).halfClose, want: true},
			"more sent ahead than is read":       {ahead: strings.Repeat("NOOP\r\n", 4000), want: true},
		} {
			t.Run(name, func(t *testing.T) {
				proceed := make(chan struct{})
				alive := make(chan bool, 1)
				s := serve(t, Config{TLS: testTLS(), ImplicitTLS: encrypted, Limits: Limits{Commands: 1 << 20}}, func(s *site) {
					s.onData = func(c *smtpConn) {
						<-proceed
						got := c.Alive()
						for end := time.Now().Add(patience); got && !tc.want && time.Now().Before(end); got = c.Alive() {
							runtime.Gosched() // the news is on its way through the kernel
						}
						alive <- got
					}
				})
				c := s.dial()
				if encrypted {
					c = c.encrypt()
				}
				c.hello()
				c.envelope()
				c.send("x\r\n.\r\n" + tc.ahead)
				if tc.close != nil {
					tc.close(c)
				}
				close(proceed)
				if got := <-alive; got != tc.want {
					t.Errorf("alive %v, want %v", got, tc.want)
				}
			})
		}
	}
}
