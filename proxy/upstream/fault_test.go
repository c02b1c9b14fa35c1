package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
)

// A fault is a way for a server to fail. good is the reply that it would give if it did not.
type fault struct {
	name   string
	do     func(p *peer, good string) bool
	code   int  // what the caller hears as a Reply; 0 for an error
	good   bool // not a fault after all: the message goes through
	reason string
}

func say(s string, goOn bool) func(*peer, string) bool {
	return func(p *peer, _ string) bool { p.say(s); return goOn }
}

var faults = []fault{
	{name: "close", reason: "an orderly end of file", do: func(p *peer, _ string) bool { return false }},
	{name: "reset", reason: "a TCP reset", do: func(p *peer, _ string) bool { p.reset(); return false }},
	{name: "stall", reason: "no reply within the time limit", do: func(p *peer, _ string) bool { p.untilClosed(); return false }},
	{name: "half a reply, then close", reason: "the code alone is not a reply", do: say("250", false)},
	{name: "half a reply, then stall", reason: "a reply that never ends is none", do: func(p *peer, good string) bool {
		p.say(good[:5])
		p.untilClosed()
		return false
	}},
	{name: "first line of a reply, then close", reason: "the last line decides", do: say("250-Ok\r\n", false)},
	{name: "4xx", reason: "a refusal is a reply", do: say("451 4.3.0 Try again\r\n", true), code: 451},
	{name: "5xx", reason: "a refusal is a reply", do: say("550-5.7.1 Go\r\n550 5.7.1 away\r\n", true), code: 550},
	{name: "421", reason: "a reply that also ends the connection", do: say("421 4.3.2 Closing\r\n", false), code: 421},
	{name: "4xx, then close", reason: "a reply counts though the server left", do: say("450 4.2.0 Busy\r\n", false), code: 450},
	{name: "garbage", reason: "not SMTP at all", do: say("HTTP/1.1 400 Bad Request\r\n", true)},
	{name: "empty line", reason: "not a reply", do: say("\r\n", true)},
	{name: "1xx", reason: "SMTP has no such codes (RFC 5321 section 4.2.1)", do: say("150 wait\r\n", true)},
	{name: "6xx", reason: "SMTP has no such codes", do: say("650 what\r\n", true)},
	{name: "code runs into text", reason: "neither space nor hyphen after the code", do: say("250Ok\r\n", true)},
	{name: "two codes", reason: "the lines of a reply must agree (RFC 5321 section 4.2.1)", do: say("250-Ok\r\n550 no\r\n", true)},
	{name: "bare LF", reason: "else a server that repeats what a stranger wrote could be made to say 250", do: say("550 no\n250 yes\r\n", true)},
	{name: "bare CR", reason: "as bare LF", do: say("250 yes\r550 no\r\n", true)},
	{name: "NUL", reason: "no text has it", do: say("250 \x00\r\n", true)},
	{name: "endless line", reason: "bounded", do: func(p *peer, _ string) bool {
		for p.write("250 "+strings.Repeat("x", 1000)) == nil {
		}
		return false
	}},
	{name: "endless reply", reason: "bounded", do: func(p *peer, _ string) bool {
		for p.write("250-x\r\n") == nil {
		}
		return false
	}},
	{name: "in pieces", reason: "TCP has no message boundaries", good: true, do: func(p *peer, good string) bool {
		for i := range len(good) {
			p.say(good[i : i+1])
		}
		return true
	}},
	{name: "several lines", reason: "allowed anywhere (RFC 5321 section 4.2.1)", good: true, do: func(p *peer, good string) bool {
		p.say(good[:3] + "-one\r\n" + good[:3] + "-\r\n" + good)
		return true
	}},
	{name: "code alone", reason: "allowed by RFC 5321 section 4.2", good: true, do: func(p *peer, good string) bool {
		p.say(good[:3] + "\r\n")
		return true
	}},
}

func (p *peer) write(s string) error {
	_, err := p.nc.Write([]byte(s))
	return err
}

// Each fault at each step, over SMTP and LMTP: a refusal is a Reply, all else is an *Error, and Offered is
// set exactly when the final dot had been sent.
func TestFaultAtEachStep(t *testing.T) {
	steps := []struct{ name, op, good string }{
		{name: "greeting", op: "greeting", good: "220 hello\r\n"},
		{name: "ehlo", op: "ehlo", good: "250 test.example\r\n"},
		{name: "mail", op: "mail", good: "250 2.1.0 Ok\r\n"},
		{name: "rcpt", op: "rcpt", good: "250 2.1.5 Ok\r\n"},
		{name: "data", op: "data", good: "354 go on\r\n"},
		{name: "dot", op: "data", good: "250 2.0.0 Ok: queued as Q\r\n"},
	}
	for _, scheme := range []string{"smtp", "lmtp"} {
		for _, step := range steps {
			for _, f := range faults {
				t.Run(fmt.Sprintf("%s/%s/%s", scheme, step.name, f.name), func(t *testing.T) {
					t.Parallel()
					testFault(t, scheme, step.name, step.op, step.good, f)
				})
			}
		}
	}
}

func testFault(t *testing.T, scheme, step, op, good string, f fault) {
	s := &server{lmtp: scheme == "lmtp"}
	s.hooks = map[string]hook{step: func(p *peer, line string) bool {
		if f.good && step == "rcpt" {
			p.to = append(p.to, line)
		}
		goOn := f.do(p, good)
		if f.good && step == "data" {
			data, ok := p.data()
			p.say("250 2.0.0 Ok\r\n")
			return ok && data != ""
		}
		return goOn
	}}
	s.start(t)
	times := longTimes
	if strings.Contains(f.name, "stall") {
		times = stallTimes(step)
	}
	u := newUpstream(t, Config{Address: scheme + "://" + s.addr(), Timeouts: times})
	ctx := context.Background()

	c, err := u.Open(ctx, Client{})
	var result DataResult
	if err == nil {
		result, err = deliver(ctx, c, text("Subject: x\r\n\r\nHello\r\n"), alice)
	}
	setUp := step == "greeting" || step == "ehlo"
	helo := scheme == "smtp" && step == "ehlo" && f.code/100 == 5 // a server that knows no EHLO is asked with HELO
	switch {
	case f.good || helo:
		if err != nil || result.Reply.Code != 250 || !result.Offered {
			t.Fatalf("%s: got %v, %v; expected 250", f.reason, result, err)
		}
		return
	case f.code != 0 && setUp:
		e := wantError(t, err, op, false)
		var refused *Refused
		if !errors.As(e, &refused) || refused.Reply.Code != f.code {
			t.Fatalf("%s: got %v, expected a refusal with %d", f.reason, err, f.code)
		}
		return
	case f.code != 0:
		if err != nil || result.Reply.Code != f.code || result.Offered != (step == "dot") {
			t.Fatalf("%s: got %v, %v; expected %d", f.reason, result, err, f.code)
		}
		if f.code == 421 && c.Alive() {
			t.Fatal("alive after a 421")
		}
		return
	}
	if f.name == "reset" && setUp {
		op = opOf(err) // the reset can overtake the connection's own birth
	}
	e := wantError(t, err, op, step == "dot")
	if strings.Contains(f.name, "stall") && !e.Timeout() {
		t.Fatalf("%s: got %v, expected a time-out", f.reason, err)
	}
	if strings.HasSuffix(f.name, "close") && !errors.Is(err, ErrClosed) {
		t.Fatalf("%s: got %v, expected ErrClosed", f.reason, err)
	}
	if setUp {
		return
	}
	if c.Alive() {
		t.Fatal("alive after an error")
	}
	if _, err := c.Mail(ctx, Mail{From: bob}); !errors.Is(err, ErrDead) {
		t.Fatalf("after an error: got %v, expected ErrDead", err)
	}
}

func opOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Op
	}
	return ""
}

// A server that speaks, leaves or stalls while the message is being sent.
func TestFaultInBody(t *testing.T) {
	read := func(p *peer, n int) {
		for range n / 100 {
			if _, err := p.r.Discard(100); err != nil {
				return
			}
		}
	}
	cases := []struct {
		name   string
		body   hook
		code   int // of an early reply; 0 for an error
		is     error
		reason string
	}{
		{
			name: "refuses and closes", code: 552, reason: "what it said before it left is the outcome",
			body: func(p *peer, _ string) bool { read(p, 1<<16); p.say("552 5.3.4 Too big\r\n"); return false },
		},
		{
			name: "refuses and stops reading", code: 552, reason: "a blocked write is woken",
			body: func(p *peer, _ string) bool {
				read(p, 1<<16)
				p.say("552 5.3.4 Too big\r\n")
				<-p.s.stopped
				return false
			},
		},
		{
			name: "refuses and reads on", code: 451, reason: "sending stops although it could go on",
			body: func(p *peer, _ string) bool {
				read(p, 1<<16)
				p.say("451 4.3.0 No\r\n")
				p.untilClosed()
				return false
			},
		},
		{
			name: "refuses in the packet of 354", code: 552, reason: "the reply stands behind the one that was awaited",
			body: func(p *peer, _ string) bool { p.untilClosed(); return false },
		},
		{
			name: "421", code: 421, reason: "a refusal like others",
			body: func(p *peer, _ string) bool { p.say("421 4.3.2 Bye\r\n"); p.untilClosed(); return false },
		},
		{
			name: "accepts early", is: ErrProtocol, reason: "it can't have taken what it has not seen",
			body: func(p *peer, _ string) bool { p.say("250 2.0.0 Ok\r\n"); p.untilClosed(); return false },
		},
		{
			name: "closes", is: ErrClosed, reason: "the end of file is noticed",
			body: func(p *peer, _ string) bool {
				p.nc.(*net.TCPConn).CloseWrite()
				p.untilClosed()
				return false
			},
		},
		{
			name: "resets", reason: "the write or the read fails",
			body: func(p *peer, _ string) bool { read(p, 1<<16); p.reset(); return false },
		},
		{
			name: "garbage", is: ErrProtocol, reason: "not a reply",
			body: func(p *peer, _ string) bool { p.say("%PDF-1.4\r\n"); p.untilClosed(); return false },
		},
	}
	for _, scheme := range []string{"smtp", "lmtp"} {
		for _, tc := range cases {
			t.Run(scheme+"/"+tc.name, func(t *testing.T) {
				t.Parallel()
				s := &server{lmtp: scheme == "lmtp", hooks: map[string]hook{"body": tc.body}}
				if tc.name == "refuses in the packet of 354" {
					s.hooks["data"] = func(p *peer, _ string) bool {
						p.say("354 go\r\n552 5.3.4 Too big\r\n")
						return tc.body(p, "")
					}
				}
				s.start(t)
				u := newUpstream(t, Config{Address: scheme + "://" + s.addr()})
				c := mustOpen(t, u, Client{})
				const size = 256 << 20 // more than any socket buffer, so that an unnoticed reply could not be missed by luck
				src, body := bigMessage(size)
				asked := false
				body.BeforeDot = func() error { asked = true; return nil }
				result, err := deliver(context.Background(), c, body, alice, bob)
				if tc.code == 0 {
					e := wantError(t, err, "data", false)
					if tc.is != nil && !errors.Is(e, tc.is) {
						t.Fatalf("%s: got %v, expected %v", tc.reason, err, tc.is)
					}
				} else if err != nil || result.Reply.Code != tc.code || result.Offered {
					t.Fatalf("%s: got %v, %v; expected %d", tc.reason, result, err, tc.code)
				} else if s.lmtp && len(result.Per) != 2 {
					t.Fatalf("%d replies, expected one for each recipient", len(result.Per))
				}
				if src.left <= 0 || asked {
					t.Fatalf("the whole message was sent (%d octets), asked for the dot: %v", src.taken, asked)
				}
				if c.Alive() {
					t.Fatal("alive after a message that was broken off")
				}
			})
		}
	}
}

// A server that stops reading: the block that it does not take has its time limit.
func TestStallInBody(t *testing.T) {
	s := &server{hooks: map[string]hook{"body": func(p *peer, _ string) bool { <-p.s.stopped; return false }}}
	s.start(t)
	u := newUpstream(t, Config{Address: "smtp://" + s.addr(), Timeouts: stallTimes("body")})
	_, body := bigMessage(256 << 20)
	_, err := deliver(context.Background(), mustOpen(t, u, Client{}), body, alice)
	if e := wantError(t, err, "data", false); !e.Timeout() {
		t.Fatalf("got %v, expected a time-out", err)
	}
}
