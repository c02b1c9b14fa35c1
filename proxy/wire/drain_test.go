package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

func TestDrain(t *testing.T) {
	reading := make(chan struct{})
	s := serve(t, Config{}, func(s *site) {
		s.onMail = func(*smtpConn) error { reading <- struct{}{}; return nil }
	})
	greeted, silent, busy, mailed := s.dial(), s.dial(), s.dial(), s.dial()
	greeted.hello()
	silent.want("220")
	busy.hello()
	mailed.hello()
	for _, c := range []*client{busy, mailed} {
		c.send("MAIL FROM:<a@example.org>\r\n")
		<-reading
		c.want("250")
	}
	busy.do("RCPT TO:<b@example.com>", "250")
	busy.do("DATA", "354")

	drained := make(chan struct{})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() { defer close(drained); s.l.Drain(ctx) }()

	for _, c := range []*client{greeted, silent} {
		c.want("421 4.3.2 mx.test is shutting down")
		c.wantEnd()
		_ = c.Close()
	}
	if c, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("still accepting")
		_ = c.Close()
	}
	busy.do("hello\r\n.", "250 2.0.0") // the transaction goes on to its end
	busy.do("MAIL FROM:<a@example.org>", "421 4.3.2")
	busy.wantEnd()
	_ = busy.Close()
	mailed.do("RCPT TO:<b@example.com>", "250")
	mailed.do("DATA", "354")
	select {
	case <-drained:
		t.Fatal("drained with a transaction open")
	default:
	}
	mailed.do("hello\r\n.", "250 2.0.0")
	mailed.do("QUIT", "221") // and may end in good manners
	<-drained
	if got := len(s.deliveries()); got != 2 {
		t.Errorf("%d messages", got)
	}
	for range 4 {
		if r := s.reason(); r != "drain" && r != "quit" {
			t.Errorf("reason %q", r)
		}
	}
	if _, err := s.l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
}

func TestDrainAfterTheLastMessage(t *testing.T) {
	mailed := make(chan struct{})
	s := serve(t, Config{TLS: testTLS()}, func(s *site) {
		s.onData = func(*smtpConn) { close(mailed) }
	})
	c := s.dial()
	c.hello()
	c.envelope()
	drained := make(chan struct{})
	go func() { defer close(drained); s.l.Drain(context.Background()) }()
	for !s.l.draining.Load() {
		runtime.Gosched()
	}
	c.do("hello\r\n.", "250")
	<-mailed
	c.do("NOOP", "250") // one word more is heard
	c.want("421 4.3.2") // without being asked for
	c.wantEnd()
	<-drained
}

func TestDrainRefusesStartTLS(t *testing.T) {
	s := serve(t, Config{TLS: testTLS()})
	c := s.dial()
	c.hello()
	c.do("MAIL FROM:<>", "250") // so that the drain lets it live
	drained := make(chan struct{})
	go func() { defer close(drained); s.l.Drain(context.Background()) }()
	for !s.l.draining.Load() {
		runtime.Gosched()
	}
	c.do("STARTTLS", "421 4.3.2")
	c.wantEnd()
	<-drained
}

func TestDrainRunsOut(t *testing.T) {
	s := serve(t, Config{})
	c := s.dial()
	c.hello()
	c.envelope()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.l.Drain(ctx)
	c.wantEnd()
	if r := s.reason(); r != "drain" {
		t.Errorf("reason %q", r)
	}
	if got := s.attempts(); len(got) == 1 && got[0].err == nil {
		t.Errorf("a message without end was read: %+v", got)
	}
}

func TestDrainWithNothingToDo(t *testing.T) {
	l := NewListener(listen(t), testConfig(Config{}))
	l.Drain(context.Background())
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestDrainInterruptsTheBeginning(t *testing.T) {
	for name, cfg := range map[string]Config{
		"PROXY header": {ProxyFrom: loopback()},
		"handshake":    {TLS: testTLS(), ImplicitTLS: true},
		"early wait":   {EarlyWait: func(*Conn) time.Duration { return patience }},
	} {
		t.Run(name, func(t *testing.T) {
			in := make(chan struct{}, 1)
			cfg.Open = func(*Conn) *Reply { in <- struct{}{}; return nil }
			s := serve(t, cfg)
			c := s.dial()
			if name != "PROXY header" {
				<-in
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			go func() {
				_, _ = io.Copy(io.Discard, c.r)
				_ = c.Close()
			}()
			s.l.Drain(ctx)
			if ctx.Err() != nil {
				t.Error("the drain had to wait until its time was over")
			}
		})
	}
}

func TestCloseEndsWaitingClients(t *testing.T) {
	s := serve(t, Config{})
	waiting, busy := s.dial(), s.dial()
	waiting.want("220")
	greeted := s.dial()
	greeted.hello()
	busy.hello()
	busy.do("MAIL FROM:<a@example.org>", "250")
	if err := s.l.Close(); err != nil {
		t.Fatal(err)
	}
	waiting.want("421 4.3.2")
	greeted.want("421 4.3.2")
	busy.do("RCPT TO:<b@example.com>", "250") // it has its server already
	busy.do("DATA", "354")
	busy.do("x\r\n.", "250")
}
