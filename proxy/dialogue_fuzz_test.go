package proxy

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"postern/proxy/peertest"
)

// A model is what the state of an SMTP dialogue ought to be (RFC 5321 section 4.1.4), with the limits of modelLimits.
type model struct {
	greeted, mail bool
	rcpts         int

	errors, unknown, fruitless, refused int
	delivered                           int64
	over                                bool
}

const (
	modelErrors, modelUnknown, modelMost, modelRcpts, modelRefused = 8, 4, 40, 2, 3

	modelConfig = "networks: {trusted: [127.0.0.1]}\nlimits: {errors: 8, unknown_commands: 4, commands: 40, recipients: 2, unknown_recipients: 3}\n"
)

// A modelCommand is a line, and the reply that the model has to it.
type modelCommand struct {
	line  string
	reply func(*model) int
}

func code(n int) func(*model) int { return func(*model) int { return n } }

// modelCommands are what the dialogues are made of. Their order is that of the seeds.
var modelCommands = []modelCommand{
	{line: "EHLO client.example", reply: (*model).hello},
	{line: "HELO client.example", reply: (*model).hello},
	{line: "EHLO", reply: code(501)},
	{line: "MAIL FROM:<carol@good.example>", reply: (*model).from},
	{line: "MAIL FROM:<>", reply: (*model).from},
	{line: "RCPT TO:<alice@example.org>", reply: func(m *model) int { return m.to(250, true) }},
	{line: "RCPT TO:<nobody@example.org>", reply: func(m *model) int { return m.to(550, true) }},
	{line: "RCPT TO:<alice@elsewhere.example>", reply: func(m *model) int { return m.to(550, false) }},
	{line: "DATA", reply: (*model).data},
	{line: "RSET", reply: func(m *model) int { m.mail, m.rcpts = false, 0; return 250 }},
	{line: "NOOP", reply: code(250)},
	{line: "VRFY alice", reply: code(252)},
	{line: "QUIT", reply: func(m *model) int { m.over = true; return 221 }},
	{line: "GIBBERISH", reply: func(m *model) int { m.unknown++; return 500 }},
	{line: "", reply: func(m *model) int { m.unknown++; return 500 }},
	{line: "EXPN staff", reply: code(502)},
	{line: "AUTH PLAIN AAAA", reply: code(502)},
	{line: "STARTTLS", reply: code(502)},
	{line: "BDAT 6\r\nRSET\r\n", reply: code(502)}, // the chunk is no command
	{line: "DATA now", reply: code(501)},
	{line: "MAIL FROM:<a\x00b@good.example>", reply: code(500)},
	{line: "NOOP\rRSET", reply: code(500)},
	{line: "noop " + strings.Repeat("x", 3000), reply: code(500)},
	{line: "LHLO client.example", reply: code(500)},
	{line: "HELP", reply: code(214)},
}

func (m *model) hello() int {
	m.greeted, m.mail, m.rcpts = true, false, 0
	return 250
}

func (m *model) from() int {
	if !m.greeted || m.mail {
		return 503
	}
	m.mail, m.rcpts = true, 0
	return 250
}

// to is one recipient more. One of ours is not looked for when there are enough already.
func (m *model) to(want int, ours bool) int {
	if !m.mail {
		return 503
	}
	switch {
	case ours && m.rcpts >= modelRcpts:
		return 452
	case want == 250:
		m.rcpts++
		m.fruitless--
		return 250
	}
	if m.refused++; m.refused > modelRefused {
		m.over = true
		return 421
	}
	return 550
}

func (m *model) data() int {
	switch {
	case !m.mail:
		return 503
	case m.rcpts == 0:
		return 554
	}
	return 354
}

// message is the reply to a message, which ends the transaction.
func (m *model) message(good bool) int {
	m.mail, m.rcpts = false, 0
	if !good {
		return 554
	}
	m.delivered++
	m.fruitless = 0
	return 250
}

// hear takes the reply to a command into account. Too many of some kinds end the connection.
func (m *model) hear(reply int) {
	if reply >= 500 && reply <= 504 || reply == 555 {
		m.errors++
	}
}

func (m *model) exhausted() bool {
	return m.errors >= modelErrors || m.unknown >= modelUnknown || m.fruitless >= modelMost
}

// FuzzDialogue runs any sequence of commands against the proxy and against the model, and compares the replies and what is
// delivered. An octet of the input is a command; with its highest bit it comes in two pieces, and a message has a bare newline.
func FuzzDialogue(f *testing.F) {
	for _, seed := range [][]byte{
		{0, 3, 5, 8, 12}, {1, 4, 5, 8, 3, 5, 8, 12}, {3, 5, 8}, {0, 5, 8}, {0, 3, 8, 6, 8, 5, 8},
		{0, 3, 3, 5, 9, 5, 8}, {0, 3, 5, 0, 5, 8, 3, 5, 8}, {0, 3, 5, 5, 5, 8, 10},
		{0, 3, 6, 7, 6, 7, 6}, {13, 14, 13, 14, 13}, {0, 2, 15, 16, 17, 18, 19, 20, 21, 22},
		{0, 3, 5, 8 | 0x80, 3, 5, 8, 12}, {0, 18, 18 | 0x80, 10, 23, 24, 11, 12},
		[]byte(strings.Repeat("\x00\x0a", 30)), []byte(strings.Repeat("\x00\x03\x05\x08", 20)),
		[]byte(strings.Repeat("\x03\x09", 30)), {0, 3, 7, 9, 3, 7, 9, 3, 7, 9, 3, 7},
	} {
		f.Add(seed)
	}
	var taken atomic.Int64
	sink := peertest.StartSink(f, peertest.Sink{Script: func(e peertest.Event) peertest.Answer {
		switch e.Verb {
		case "RCPT":
			return peertest.Answer{Reply: rcptAnswer(e.Line)}
		case ".":
			taken.Add(1)
		}
		return peertest.Answer{}
	}})
	p := startTestProxy(f, fmt.Sprintf(baseConfig, testZone(f), "", "smtp://"+sink.Addr)+modelConfig, withoutPacks)
	messages := 0
	f.Fuzz(func(t *testing.T, input []byte) {
		c := peertest.Dial(t, p.addr)
		defer c.Close()
		c.Expect(220)
		var m model
		before := taken.Load()
		for i, op := range input[:min(len(input), 200)] {
			cmd := modelCommands[int(op&0x7f)%len(modelCommands)]
			messages++
			step(t, &m, c, i, cmd, op >= 0x80, messages)
			if m.over {
				break
			}
		}
		if got := taken.Load() - before; got != m.delivered {
			t.Errorf("%d messages were delivered, the model has %d\n%s", got, m.delivered, c.Transcript())
		}
	})
}

// step says one command to both and compares.
func step(t *testing.T, m *model, c *peertest.Client, i int, cmd modelCommand, odd bool, serial int) {
	t.Helper()
	wire := cmd.line
	if !strings.HasPrefix(wire, "BDAT") {
		wire += "\r\n"
	}
	m.fruitless++
	want := cmd.reply(m)
	sendInPieces(c, wire, odd)
	wantCode(t, c, i, cmd.line, want)
	m.hear(want)
	if want == 354 {
		text, good := fmt.Sprintf("Subject: message %d\r\n\r\n", serial), !odd
		if !good {
			text += "a bare\nnewline"
		}
		sendInPieces(c, text+"\r\n.\r\n", odd)
		want = m.message(good)
		wantCode(t, c, i, "the message", want)
		m.hear(want)
	}
	if m.over || m.exhausted() {
		if !m.over {
			wantCode(t, c, i, "the limit", 421)
		}
		m.over = true
		if n, text, err := c.Reply(); err == nil {
			t.Fatalf("step %d: %d %s after the end\n%s", i, n, text, c.Transcript())
		}
	}
}

func sendInPieces(c *peertest.Client, text string, pieces bool) {
	if pieces {
		c.Send(text[:len(text)/2])
		text = text[len(text)/2:]
	}
	c.Send(text)
}

func wantCode(t *testing.T, c *peertest.Client, i int, what string, want int) {
	t.Helper()
	got, text, err := c.Reply()
	if err != nil || got != want {
		t.Fatalf("step %d: %.60q: got %d %s, %v; the model has %d\n%s", i, what, got, text, err, want, c.Transcript())
	}
}
