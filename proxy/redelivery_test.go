package proxy

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/filters"
	"postern/proxy/peertest"
)

const twinMessage = "From: carol@good.example\r\nSubject: once\r\nMessage-ID: <once@good.example>\r\n\r\ntext\r\n"

const sender = "carol@good.example"

// inFrontOfSink serves in front of a scripted next hop.
func inFrontOfSink(t *testing.T, sink *peertest.SinkServer, lmtp bool, more string) *testProxy {
	t.Helper()
	scheme := "smtp://"
	if lmtp {
		scheme = "lmtp://"
	}
	return startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", scheme+sink.Addr)+"networks: {trusted: [127.0.0.0/8]}\n"+more, withoutPacks)
}

// greet opens a session.
func greet(t *testing.T, p *testProxy) *peertest.Client {
	t.Helper()
	c := peertest.Dial(t, p.addr)
	c.Expect(220)
	c.Want("EHLO mail.good.example", 250)
	return c
}

// offer goes as far as the final dot, and does not read the reply to it. What follows the dot is sent with it.
func offer(c *peertest.Client, message, ahead string, to ...string) {
	c.Want("MAIL FROM:<"+sender+">", 250)
	for _, r := range to {
		c.Want("RCPT TO:<"+r+">", 250)
	}
	c.Want("DATA", 354)
	c.Send(peertest.DotStuff(message) + ahead)
}

func deliver(t *testing.T, c *peertest.Client, code int, to ...string) string {
	t.Helper()
	got, text := c.Deliver(sender, to, twinMessage)
	if got != code {
		t.Fatalf("to %v: %d %s, want %d\n%s", to, got, text, code, c.Transcript())
	}
	return text
}

// awaitMessages waits for the lines of n transactions.
func (p *testProxy) awaitMessages(n int) []string {
	p.t.Helper()
	waitFor(p.t, fmt.Sprintf("%d message lines", n), func() bool { return len(p.events("message")) >= n })
	return p.events("message")
}

func wantLine(t *testing.T, line string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if without, ok := strings.CutPrefix(part, "!"); ok {
			if strings.Contains(line, without) {
				t.Errorf("the line has %q: %s", without, line)
			}
		} else if !strings.Contains(line, part) {
			t.Errorf("the line lacks %q: %s", part, line)
		}
	}
}

// offered counts the messages that a next hop was offered. It knows of each before it answers.
func offered(sink *peertest.SinkServer) int {
	n := 0
	for _, command := range sink.Commands() {
		if command == "DATA" {
			n++
		}
	}
	return n
}

// A held next hop says that the final dot has come, and waits for what it is to answer.
type held struct {
	dot    chan peertest.Event
	answer chan peertest.Answer
}

// await gives the final dot that comes next.
func (h *held) await(t *testing.T) peertest.Event {
	t.Helper()
	select {
	case e := <-h.dot:
		return e
	case <-time.After(time.Minute):
		t.Fatal("waited in vain for a message to be offered")
		return peertest.Event{}
	}
}

// script holds every message until over is closed.
func (h *held) script(over <-chan struct{}) func(peertest.Event) peertest.Answer {
	return func(e peertest.Event) peertest.Answer {
		if e.Verb != "." {
			return peertest.Answer{}
		}
		select {
		case h.dot <- e:
		case <-over:
			return peertest.Answer{Close: true}
		}
		select {
		case a := <-h.answer:
			return a
		case <-over:
			return peertest.Answer{Close: true}
		}
	}
}

func startHeld(t *testing.T) (*held, *peertest.SinkServer) {
	t.Helper()
	h := &held{dot: make(chan peertest.Event), answer: make(chan peertest.Answer)}
	over := make(chan struct{})
	sink := peertest.StartSink(t, peertest.Sink{Script: h.script(over)})
	t.Cleanup(func() { close(over) }) // before the sink is stopped
	return h, sink
}

// TestConcurrentTwin: while a message is being delivered, the same one has to wait; after that it is answered from
// memory until somebody shows to have heard.
func TestConcurrentTwin(t *testing.T) {
	t.Parallel()
	h, sink := startHeld(t)
	p := inFrontOfSink(t, sink, false, "")
	first, second := greet(t, p), greet(t, p)
	offer(first, twinMessage, "", "alice@example.org")
	h.await(t)
	if text := deliver(t, second, 451, "alice@example.org"); !strings.Contains(text, "4.3.0 The same message is just being delivered on another connection") {
		t.Errorf("the twin heard %q", text)
	}
	// Another recipient is another message.
	offer(second, twinMessage, "", "bob@example.org")
	h.await(t)
	h.answer <- peertest.Answer{Reply: "250 2.0.0 one"}
	h.answer <- peertest.Answer{Reply: "250 2.0.0 other"}
	first.Expect(250)
	second.Expect(250)
	if text := deliver(t, second, 250, "alice@example.org"); !strings.Contains(text, "accepted before") {
		t.Errorf("the twin heard %q", text)
	}
	if n := offered(sink); n != 2 {
		t.Errorf("%d messages were delivered, want 2", n)
	}
	lines := p.awaitMessages(4)
	wantLine(t, lines[0], "action=defer", "code=451", "by=in_flight", "rcpts=1 ", "!redelivery")
	twin := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "by=memory") })
	if twin < 1 {
		t.Fatalf("no line tells of an answer from memory:\n%s", strings.Join(lines, "\n"))
	}
	wantLine(t, lines[twin], "action=accept", "code=250", "redelivery=served", `upstream_reply="250 2.0.0 o`)
	// The command that comes next shows that the 250 was heard: what is sent now is another message.
	offer(second, twinMessage, "", "alice@example.org")
	h.await(t)
	h.answer <- peertest.Answer{Reply: "250 2.0.0 again"}
	second.Expect(250)
	wantLine(t, p.awaitMessages(5)[4], "action=accept", "!redelivery")
}

// TestManyTwins: of many clients that send the same message at the same time, one has it delivered.
func TestManyTwins(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	p := inFrontOfSink(t, sink, false, "limits: {per_ip: 100}\n")
	clients := make([]*peertest.Client, 12)
	for i := range clients {
		clients[i] = greet(t, p)
		clients[i].Want("MAIL FROM:<"+sender+">", 250)
		clients[i].Want("RCPT TO:<alice@example.org>", 250)
		clients[i].Want("RCPT TO:<bob@example.org>", 250)
		clients[i].Want("DATA", 354)
	}
	codes := make([]int, len(clients))
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() {
			if err := c.TrySend(peertest.DotStuff(twinMessage)); err == nil {
				codes[i], _, _ = c.Reply()
			}
		})
	}
	all.Wait()
	if n := offered(sink); n != 1 {
		t.Errorf("%d messages were delivered, want 1", n)
	}
	for i, code := range codes {
		if code != 250 && code != 451 {
			t.Errorf("client %d heard %d", i, code)
		}
	}
	if !slices.Contains(codes, 250) {
		t.Errorf("nobody heard 250: %v", codes)
	}
}

// TestClientGoneAfterTheDot: a client that can't hear our 250 comes again and is answered from memory.
func TestClientGoneAfterTheDot(t *testing.T) {
	for _, tt := range []struct {
		name  string
		leave func(*peertest.Client)
	}{
		{"reset", (*peertest.Client).Reset},
		// An orderly close before our reply shows no more than a reset does.
		{"closed", (*peertest.Client).Close},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, sink := startHeld(t)
			p := inFrontOfSink(t, sink, false, "")
			c := greet(t, p)
			offer(c, twinMessage, "", "alice@example.org")
			h.await(t)
			tt.leave(c)
			h.answer <- peertest.Answer{Reply: "250 2.0.0 Ok: queued as FIRST"}
			waitFor(t, "the session's line", func() bool { return len(p.events("session")) == 1 })

			// The retry comes with one more recipient, who alone gets the message.
			c = greet(t, p)
			offer(c, twinMessage, "", "alice@example.org", "bob@example.org")
			e := h.await(t)
			if !slices.Equal(e.Tx.Rcpts, []string{"RCPT TO:<bob@example.org>"}) {
				t.Errorf("delivered again to %q", e.Tx.Rcpts)
			}
			h.answer <- peertest.Answer{Reply: "250 2.0.0 Ok: queued as SECOND"}
			c.Expect(250)
			c.Want("QUIT", 221)
			lines := p.awaitMessages(2)
			wantLine(t, lines[0], "action=accept", "!redelivery")
			wantLine(t, lines[1], "action=accept", "redelivery=served", "rcpts=2 ", "queued as SECOND")

			// Now it was heard.
			c = greet(t, p)
			offer(c, twinMessage, "", "alice@example.org", "bob@example.org")
			if e := h.await(t); len(e.Tx.Rcpts) != 2 {
				t.Errorf("sent on purpose: delivered to %q", e.Tx.Rcpts)
			}
			h.answer <- peertest.Answer{Reply: "250 2.0.0 Ok: queued as THIRD"}
			c.Expect(250)
			wantLine(t, p.awaitMessages(3)[2], "action=accept", "!redelivery")
		})
	}
}

// TestEqualOnPurpose: a client that hears our replies may send the same message as often as it likes.
func TestEqualOnPurpose(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	p := inFrontOfSink(t, sink, false, "")
	c := greet(t, p)
	deliver(t, c, 250, "alice@example.org")
	deliver(t, c, 250, "alice@example.org") // MAIL came after the reply
	c.Want("NOOP", 250)                     // no command of a session's
	other := greet(t, p)
	deliver(t, other, 250, "alice@example.org") // while the first one is still open
	other.Close()                               // no QUIT, but the reply was read
	waitFor(t, "the end of the second session", func() bool { return len(p.events("session")) == 1 })
	deliver(t, c, 250, "alice@example.org", "alice@example.org") // twice the same recipient
	c.Want("RSET", 250)
	deliver(t, c, 250, "alice@example.org")
	if n := offered(sink); n != 5 {
		t.Errorf("%d messages were delivered, want 5", n)
	}
	for _, line := range p.awaitMessages(5) {
		wantLine(t, line, "action=accept", "!redelivery", "errors= ")
	}
}

// TestSentAheadIsNoSign: a command that was sent together with the message shows nothing.
func TestSentAheadIsNoSign(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	p := inFrontOfSink(t, sink, false, "")
	c := greet(t, p)
	offer(c, twinMessage, "NOOP\r\n", "alice@example.org")
	c.Expect(250)
	c.Expect(250) // to NOOP
	deliver(t, greet(t, p), 250, "alice@example.org")
	if n := offered(sink); n != 1 {
		t.Errorf("%d messages were delivered, want 1", n)
	}
	wantLine(t, p.awaitMessages(2)[1], "redelivery=served")
}

// TestSessionInOneWrite: who writes a whole session in one go shows nothing either, QUIT or not, and whatever address the
// same message comes from, it is delivered once.
func TestSessionInOneWrite(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	p := inFrontOfSink(t, sink, false, "")
	for _, ip := range []string{"127.0.0.1", "127.0.0.8"} {
		c := peertest.DialFrom(t, ip, p.addr)
		c.Send("EHLO client.example\r\nMAIL FROM:<carol@good.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n" + peertest.DotStuff(twinMessage) + "QUIT\r\n")
		for _, code := range []int{220, 250, 250, 250, 354, 250, 221} {
			c.Expect(code)
		}
		c.WantClosed()
		waitFor(t, "the session's line", func() bool { return len(p.events("session")) > 0 })
	}
	if n := offered(sink); n != 1 {
		t.Errorf("%d messages were delivered, want 1", n)
	}
	wantLine(t, p.awaitMessages(2)[1], " ip=127.0.0.8 ", "by=memory", "redelivery=served")
}

// TestOutcomeInDoubt: a next hop that says nothing after the final dot may have the message. It is delivered again, and
// said to be, until there is a reply that takes it.
func TestOutcomeInDoubt(t *testing.T) {
	t.Parallel()
	answers := []peertest.Answer{
		{Close: true},
		{Reply: "451 4.3.0 Not now"}, // which says nothing of the first attempt
		{Reset: true},
		{Reply: "250 2.0.0 Ok"},
		{Reply: "250 2.0.0 Ok"},
	}
	var mu sync.Mutex
	sink := peertest.StartSink(t, peertest.Sink{Script: func(e peertest.Event) peertest.Answer {
		if e.Verb != "." {
			return peertest.Answer{}
		}
		mu.Lock()
		defer mu.Unlock()
		next := answers[0]
		answers = answers[1:]
		return next
	}})
	p := inFrontOfSink(t, sink, false, "")
	c := greet(t, p)
	for _, code := range []int{451, 451, 451, 250, 250} {
		deliver(t, c, code, "alice@example.org")
	}
	lines := p.awaitMessages(5)
	wantLine(t, lines[0], "action=defer", "outcome in doubt", "!redelivery")
	wantLine(t, lines[1], "action=defer", "redelivery=in_doubt", `upstream_reply="451 4.3.0 Not now"`)
	wantLine(t, lines[2], "action=defer", "redelivery=in_doubt")
	wantLine(t, lines[3], "action=accept", "redelivery=in_doubt")
	wantLine(t, lines[4], "action=accept", "!redelivery")
}

// TestDoubtIsForetold: the log says that a recipient may have a message twice before the next hop has it twice.
func TestDoubtIsForetold(t *testing.T) {
	t.Parallel()
	dot, over := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var mu sync.Mutex
	n := 0
	sink := peertest.StartSink(t, peertest.Sink{Script: func(e peertest.Event) peertest.Answer {
		if e.Verb != "." {
			return peertest.Answer{}
		}
		mu.Lock()
		n++
		first := n == 1
		mu.Unlock()
		if first {
			return peertest.Answer{Close: true}
		}
		once.Do(func() { close(dot) })
		<-over
		return peertest.Answer{}
	}})
	defer close(over)
	p := inFrontOfSink(t, sink, false, "")
	c := greet(t, p)
	deliver(t, c, 451, "alice@example.org")
	if lines := p.events("redelivery"); len(lines) > 0 {
		t.Errorf("foretold at the first attempt: %q", lines)
	}
	offer(c, twinMessage, "", "bob@example.org", "alice@example.org")
	select {
	case <-dot:
	case <-time.After(30 * time.Second):
		t.Fatal("waited in vain for the message to be offered again")
	}
	lines := p.events("redelivery")
	if len(lines) != 1 {
		t.Fatalf("%d lines, want 1: %q", len(lines), lines)
	}
	wantLine(t, lines[0], "redelivery=in_doubt", `rcpt_to="alice@example.org"`, `message_id="<once@good.example>"`, "!bob")
}

// TestDefiniteRefusalIsForgotten: a message that was refused, or not offered at all, is not in doubt.
func TestDefiniteRefusalIsForgotten(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	n := 0
	sink := peertest.StartSink(t, peertest.Sink{BytesAt: 1, Script: func(e peertest.Event) peertest.Answer {
		mu.Lock()
		defer mu.Unlock()
		switch e.Verb {
		case ".":
			if n++; n == 1 {
				return peertest.Answer{Reply: "451 4.3.0 Not now"}
			}
		case "BYTES":
			if n == 1 {
				n++
				return peertest.Answer{Reply: "452 4.3.1 No room", Close: true}
			}
		}
		return peertest.Answer{}
	}})
	p := inFrontOfSink(t, sink, false, "")
	c := greet(t, p)
	deliver(t, c, 451, "alice@example.org")
	deliver(t, c, 452, "alice@example.org")
	deliver(t, c, 250, "alice@example.org")
	for _, line := range p.awaitMessages(3) {
		wantLine(t, line, "!redelivery")
	}
}

// TestServedAndRefused: where one recipient has the message and the next hop or the policy refuses it for another, the
// client is not told that both were refused.
func TestServedAndRefused(t *testing.T) {
	rule := filepath.Join(t.TempDir(), "rule.yaml")
	if err := os.WriteFile(rule, []byte("rules:\n  - {id: NOT_BOB, action: reject, when: {envelope: rcpt, which: any, equals: bob@example.org}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, config string
		code         int
		text         string
		asked        bool // the next hop is
	}{
		{name: "by the next hop", code: 554, text: "I do not like it", asked: true},
		{name: "by a rule", config: "filters: {content: {rules: [" + rule + "], packs: []}}\n", code: 550, text: "5.7.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, sink := startHeld(t)
			p := inFrontOfSink(t, sink, false, tt.config)
			refuse := func() {
				if tt.asked {
					h.await(t)
					h.answer <- peertest.Answer{Reply: "554 5.6.0 I do not like it"}
				}
			}
			c := greet(t, p)
			offer(c, twinMessage, "", "alice@example.org")
			h.await(t)
			c.Reset()
			h.answer <- peertest.Answer{Reply: "250 2.0.0 Ok"}
			waitFor(t, "the session's line", func() bool { return len(p.events("session")) == 1 })

			c = greet(t, p)
			offer(c, twinMessage, "", "alice@example.org", "bob@example.org")
			refuse()
			if text := c.Expect(451); !strings.HasPrefix(text, "4.3.0 Not every recipient can have the message") || !strings.Contains(text, tt.text) && tt.asked {
				t.Errorf("the client heard %q", text)
			}
			c.Want("MAIL FROM:<"+sender+">", 250)
			c.Want("RCPT TO:<alice@example.org>", 250)
			c.Want("RCPT TO:<bob@example.org>", 452)
			c.Want("DATA", 354)
			c.Data(twinMessage)
			c.Expect(250)
			offer(c, twinMessage, "", "bob@example.org")
			refuse()
			if text := c.Expect(tt.code); !strings.Contains(text, tt.text) {
				t.Errorf("bob's own reply is %q", text)
			}
			lines := p.awaitMessages(4)
			wantLine(t, lines[1], "action=defer", "code=451", "redelivery=served", "rcpts=2 ")
			wantLine(t, lines[2], "action=accept", "by=memory", "redelivery=served")
			wantLine(t, lines[3], "action=reject", fmt.Sprintf("code=%d", tt.code), "!redelivery")
			if n := offered(sink); tt.asked && n != 3 || !tt.asked && n != 1 {
				t.Errorf("the next hop was offered %d messages", n)
			}
		})
	}
}

// TestQuarantineIsRemembered: what is held back is not held back twice, and the reply from memory does not tell.
func TestQuarantineIsRemembered(t *testing.T) {
	t.Parallel()
	h, held := startHeld(t)
	sink := peertest.StartSink(t, peertest.Sink{})
	rule := filepath.Join(t.TempDir(), "hold.yaml")
	if err := os.WriteFile(rule, []byte("rules:\n  - {id: HOLD, action: quarantine, when: {header: Subject, contains: once}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := inFrontOfSink(t, sink, false, "filters: {content: {rules: ["+rule+"], packs: []}}\nquarantine: smtp://"+held.Addr+"\n")
	c := greet(t, p)
	offer(c, twinMessage, "", "alice@example.org")
	h.await(t)
	c.Reset()
	h.answer <- peertest.Answer{Reply: "250 2.0.0 Ok: held"}
	waitFor(t, "the session's line", func() bool { return len(p.events("session")) == 1 })
	c = greet(t, p)
	if text := deliver(t, c, 250, "alice@example.org"); strings.Contains(text, "held") {
		t.Errorf("the reply tells: %q", text)
	}
	lines := p.awaitMessages(2)
	wantLine(t, lines[0], "action=quarantine", "!redelivery")
	wantLine(t, lines[1], "by=memory", "redelivery=served")
	// In doubt is told as well.
	offer(c, twinMessage, "", "alice@example.org")
	h.await(t)
	h.answer <- peertest.Answer{Close: true}
	c.Expect(451)
	offer(c, twinMessage, "", "alice@example.org")
	h.await(t)
	h.answer <- peertest.Answer{Reply: "250 2.0.0 Ok: held"}
	c.Expect(250)
	wantLine(t, p.awaitMessages(4)[3], "action=quarantine", "redelivery=in_doubt")
	if n := offered(held); n != 3 {
		t.Errorf("%d messages reached the quarantine, want 3", n)
	}
	if n := offered(sink); n != 0 {
		t.Errorf("%d messages were delivered, want none", n)
	}
}

// TestReloadKeepsTheMemory: a new configuration does not forget.
func TestReloadKeepsTheMemory(t *testing.T) {
	t.Parallel()
	h, sink := startHeld(t)
	p := inFrontOfSink(t, sink, false, "")
	c := greet(t, p)
	offer(c, twinMessage, "", "alice@example.org")
	h.await(t)
	c.Reset()
	h.answer <- peertest.Answer{Reply: "250 2.0.0 Ok"}
	waitFor(t, "the session's line", func() bool { return len(p.events("session")) == 1 })
	cfg := *p.server.runtime.Load().Config
	cfg.Store.Kind = "bbolt"
	rt, err := NewRuntime(t.Context(), &cfg, RuntimeOptions{NoTests: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.server.Reload(t.Context(), rt); err != nil {
		t.Fatal(err)
	}
	deliver(t, greet(t, p), 250, "alice@example.org")
	wantLine(t, p.awaitMessages(2)[1], "redelivery=served")
	if len(p.events("store_unchanged")) != 1 {
		t.Error("the log does not tell that the store stays")
	}
}

// TestClaimPassed: a delivery that took so long that its claim has passed to another is withdrawn before the final dot.
func TestClaimPassed(t *testing.T) {
	t.Parallel()
	asked, goOn := make(chan struct{}), make(chan struct{})
	sink := peertest.StartSink(t, peertest.Sink{Script: func(e peertest.Event) peertest.Answer {
		if e.Verb == "DATA" {
			asked <- struct{}{}
			<-goOn
		}
		return peertest.Answer{}
	}})
	p := inFrontOfSink(t, sink, false, "")
	c := greet(t, p)
	offer(c, twinMessage, "", "alice@example.org")
	<-asked
	digest := sha256.Sum256([]byte(twinMessage))
	key := keyOf(filters.Path{Local: "carol", Domain: "good.example"}, filters.Path{Local: "alice", Domain: "example.org"}, digest[:])
	if err := p.server.memory.claims.Put(key[:], []byte("another"), time.Hour); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if text := c.Expect(451); !strings.HasPrefix(text, "4.3.0 The same message") {
		t.Errorf("the client heard %q", text)
	}
	wantLine(t, p.awaitMessages(1)[0], "action=defer", "by=in_flight", "!redelivery")
	if n := len(sink.Transactions()); n != 0 || offered(sink) != 1 {
		t.Errorf("%d messages were delivered in %d tries, want none in one", n, offered(sink))
	}
	if _, ok, err := p.server.memory.claims.Get(key[:]); !ok || err != nil {
		t.Errorf("the other's claim is gone: %v", err)
	}
}
