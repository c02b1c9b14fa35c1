package proxy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"postern/proxy/peertest"
	"postern/proxy/upstream"
)

// mailboxes is an LMTP next hop whose recipients answer as they are told to; by local part.
func mailboxes(answers map[string]peertest.Answer) peertest.Sink {
	var mu sync.Mutex
	return peertest.Sink{LMTP: true, Script: func(e peertest.Event) peertest.Answer {
		if e.Verb != "." {
			return peertest.Answer{}
		}
		mu.Lock()
		defer mu.Unlock()
		local, _, _ := strings.Cut(strings.TrimPrefix(e.Line, "RCPT TO:<"), "@")
		a := answers[local]
		delete(answers, local) // the next time it takes the message
		return a
	}}
}

// taken lists which recipients got a message, in order, once n messages were answered.
func taken(sink *peertest.SinkServer, n int) []string {
	var list []string
	for _, tx := range sink.Wait(n) {
		for i, r := range tx.Replies {
			if strings.HasPrefix(r, "250") {
				local, _, _ := strings.Cut(strings.TrimPrefix(tx.Rcpts[i], "RCPT TO:<"), "@")
				list = append(list, local)
			}
		}
	}
	return list
}

// TestMailboxesDiffer: after replies that differ the client comes again; those that have the message are answered from
// memory, together, and each of the others gets its own reply in a transaction of its own.
func TestMailboxesDiffer(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, mailboxes(map[string]peertest.Answer{
		"full": {Reply: "452 4.2.2 Mailbox full"},
		"gone": {Reply: "550 5.2.1 Mailbox disabled"},
	}))
	p := inFrontOfSink(t, sink, true, "")
	c := greet(t, p)
	if text := deliver(t, c, 451, "alice@example.org", "full@example.org", "bob@example.org", "gone@example.org"); !strings.Contains(text, "Mailbox full") {
		t.Errorf("the client heard %q", text)
	}
	// The retry, with the recipients in another order.
	c.Want("MAIL FROM:<"+sender+">", 250)
	c.Want("RCPT TO:<gone@example.org>", 250)
	for _, r := range []string{"alice", "full", "bob"} {
		if text := c.Want("RCPT TO:<"+r+"@example.org>", 452); !strings.HasPrefix(text, "4.5.3 ") {
			t.Errorf("%s heard %q", r, text)
		}
	}
	c.Want("DATA", 354)
	c.Data(twinMessage)
	c.Expect(250) // it takes the message by now
	c.Want("MAIL FROM:<"+sender+">", 250)
	c.Want("RCPT TO:<bob@example.org>", 250)
	c.Want("RCPT TO:<full@example.org>", 452)
	c.Want("RCPT TO:<alice@example.org>", 250)
	c.Want("DATA", 354)
	c.Data(twinMessage)
	if text := c.Expect(250); !strings.Contains(text, "accepted before") {
		t.Errorf("the served ones heard %q", text)
	}
	deliver(t, c, 250, "full@example.org")
	if got := taken(sink, 3); !slices.Equal(got, []string{"alice", "bob", "gone", "full"}) {
		t.Errorf("delivered to %v", got)
	}
	lines := p.awaitMessages(4)
	wantLine(t, lines[0], "action=defer", "code=451", "by=upstream", "rcpts=4 ", "!redelivery")
	wantLine(t, lines[1], "action=accept", "rcpts=1 ", "rcpts_refused=3", "!redelivery")
	wantLine(t, lines[2], "action=accept", "by=memory", "redelivery=served", "rcpts=2 ")
	wantLine(t, lines[3], "action=accept", "!redelivery")
	// All have had their own reply: they can share a transaction again.
	deliver(t, c, 250, "alice@example.org", "full@example.org", "bob@example.org", "gone@example.org")
}

// TestRefusedApart: the reply to a recipient that is served apart is the mailbox's own, as often as it is refused.
func TestRefusedApart(t *testing.T) {
	t.Parallel()
	answers := map[string]peertest.Answer{"full": {Reply: "452 4.2.2 Mailbox full"}}
	sink := peertest.StartSink(t, mailboxes(answers))
	p := inFrontOfSink(t, sink, true, "")
	c := greet(t, p)
	deliver(t, c, 451, "full@example.org", "alice@example.org")
	for _, reply := range []string{"452 4.2.2 Mailbox full", "552 5.2.2 Mailbox full for long"} {
		sink.Stop()
		answers["full"] = peertest.Answer{Reply: reply} // nobody else looks at it now
		sink.Start()
		c.Want("MAIL FROM:<"+sender+">", 250)
		c.Want("RCPT TO:<full@example.org>", 250)
		c.Want("RCPT TO:<alice@example.org>", 452)
		c.Want("DATA", 354)
		c.Data(twinMessage)
		if code, text, err := c.Reply(); err != nil || !strings.HasPrefix(fmt.Sprintf("%d %s", code, text), reply) {
			t.Errorf("%d %s %v, want %s", code, text, err, reply)
		}
	}
	// That was final: the mark is gone.
	deliver(t, c, 250, "alice@example.org", "full@example.org")
	if got := taken(sink, 4); !slices.Equal(got, []string{"alice", "full"}) {
		t.Errorf("delivered to %v", got)
	}
}

// TestRepliesBreakOff: an LMTP next hop that goes away between its replies leaves some recipients served, others in doubt.
func TestRepliesBreakOff(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, mailboxes(map[string]peertest.Answer{
		"full": {Reply: "452 4.2.2 Mailbox full"},
		"bob":  {Close: true},
	}))
	p := inFrontOfSink(t, sink, true, "")
	c := greet(t, p)
	deliver(t, c, 451, "alice@example.org", "full@example.org", "bob@example.org")
	c.Want("MAIL FROM:<"+sender+">", 250)
	c.Want("RCPT TO:<alice@example.org>", 250)
	c.Want("RCPT TO:<full@example.org>", 452)
	c.Want("RCPT TO:<bob@example.org>", 250)
	c.Want("DATA", 354)
	c.Data(twinMessage)
	c.Expect(250)
	deliver(t, c, 250, "full@example.org")
	lines := p.awaitMessages(3)
	wantLine(t, lines[0], "action=defer", "outcome in doubt", "!redelivery")
	wantLine(t, lines[1], "action=accept", "redelivery=served,in_doubt", "rcpts=2 ")
	wantLine(t, lines[2], "action=accept", "!redelivery")
	if got := taken(sink, 3); !slices.Equal(got, []string{"alice", "bob", "full"}) {
		t.Errorf("delivered to %v", got)
	}
}

// TestDovecotMailboxFull: the same with a real LMTP server, one of whose mailboxes has no room.
func TestDovecotMailboxFull(t *testing.T) {
	t.Parallel()
	dovecot := peertest.StartDovecot(t, peertest.Dovecot{
		Users: []string{"alice@example.org", "bob@example.org"},
		Full:  []string{"full@example.org"},
	})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "lmtp://"+dovecot.Addr)+"networks: {trusted: [127.0.0.0/8]}\n", withoutPacks)
	c := greet(t, p)
	deliver(t, c, 451, "alice@example.org", "full@example.org", "bob@example.org")
	c.Want("MAIL FROM:<"+sender+">", 250)
	c.Want("RCPT TO:<alice@example.org>", 250)
	c.Want("RCPT TO:<full@example.org>", 452)
	c.Want("RCPT TO:<bob@example.org>", 250)
	c.Want("DATA", 354)
	c.Data(twinMessage)
	c.Expect(250)
	if text := deliver(t, c, 552, "full@example.org"); !strings.Contains(text, "5.2.2") {
		t.Errorf("the full mailbox's reply is %q", text)
	}
	// A last message, so that one delivered twice before it would have been seen.
	code, text := c.Deliver(sender, []string{"alice@example.org", "bob@example.org"}, "Subject: last\r\n\r\ntext\r\n")
	if code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	for _, user := range []string{"alice@example.org", "bob@example.org"} {
		if n := len(dovecot.Messages(user, 2)); n != 2 {
			t.Errorf("%s has %d messages, want 2", user, n)
		}
	}
	wantLine(t, p.awaitMessages(2)[1], "redelivery=served", "rcpts=2 ", "rcpts_refused=1")
}

func TestOneReply(t *testing.T) {
	reply := func(code int, text string) upstream.Reply { return upstream.Reply{Code: code, Lines: []string{text}} }
	for _, tt := range []struct {
		per  []upstream.Reply
		want string
		why  string
	}{
		{nil, "250 whole", "SMTP has one reply"},
		{[]upstream.Reply{reply(250, "a"), reply(250, "b")}, "250 a", "all took it"},
		{[]upstream.Reply{reply(550, "a"), reply(552, "b")}, "550 a", "none will ever take it"},
		{[]upstream.Reply{reply(452, "a"), reply(451, "b")}, "452 a", "none takes it now"},
		{[]upstream.Reply{reply(250, "a"), reply(550, "b")}, "451 4.3.0 Not every recipient's mailbox took the message: 550 b", "one has it"},
		{[]upstream.Reply{reply(552, "a"), reply(451, "b")}, "451 4.3.0 Not every recipient's mailbox took the message: 552 a", "one may yet take it"},
	} {
		if got := oneReply(upstream.DataResult{Reply: reply(250, "whole"), Per: tt.per}).String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.why, got, tt.want)
		}
	}
}
