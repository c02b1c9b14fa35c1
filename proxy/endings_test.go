package proxy

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/filters/message"
	"postern/logs"
	"postern/proxy/peertest"
)

// An endingCase is one way in which transactions and connections end, and the lines that the log has of it.
type endingCase struct {
	name     string
	why      string
	config   string // more of the configuration
	change   func(*Config)
	lmtp     bool
	sink     peertest.Sink
	tls      bool // STARTTLS is offered
	judged   bool // the client is not one of ours
	noHelo   bool
	balanced bool // clients are named by a PROXY header

	client   string                    // as in testdata/sessions, MAIL, RCPT and TEXT abbreviated; !read waits for a reply more
	play     func(*testing.T, *player) // in place of client
	messages string                    // "action code by", one a transaction
	session  string                    // "reason messages/delivered/refused/aborted"; with | between several
}

// brief are the steps that most clients begin with.
var brief = map[string]string{
	"MAIL": "MAIL FROM:<carol@plain.example>",
	"RCPT": "RCPT TO:<alice@example.org>",
	"BOB":  "RCPT TO:<bob@example.org>",
	"TEXT": "DATA\nSubject: about {}\nFrom: carol@plain.example\n\ntext\n.",
}

// script spells the steps of a client out. A word behind TEXT is what the message is about.
func (e *endingCase) script() []string {
	var steps []string
	if !e.noHelo {
		steps = append(steps, "EHLO mail.plain.example")
	}
	for line := range strings.SplitSeq(e.client, "\n") {
		word, about, _ := strings.Cut(line, " ")
		if long, ok := brief[word]; ok && !strings.Contains(line, ":") {
			line = strings.ReplaceAll(long, "{}", about)
		}
		steps = append(steps, strings.Split(line, "\n")...)
	}
	return steps
}

// start serves as the case has it.
func (e *endingCase) start(t *testing.T) *player {
	t.Helper()
	if e.sink.Script == nil {
		e.sink.Script = sinkFor().Script
	}
	e.sink.LMTP = e.lmtp
	sink := peertest.StartSink(t, e.sink)
	scheme, listen := "smtp://", ""
	if e.lmtp {
		scheme = "lmtp://"
	}
	if e.tls {
		cert := peertest.NewCert(t, "mx.example.org")
		listen = fmt.Sprintf("    tls: {cert: %s, key: %s}\n", cert.CertFile, cert.KeyFile)
	}
	config := fmt.Sprintf(baseConfig, testZone(t), listen, scheme+sink.Addr) + e.config
	if e.balanced {
		config = strings.Replace(config, "xclient:", "proxy_protocol:", 1)
	}
	if !e.judged {
		config += "networks: {trusted: [127.0.0.0/8]}\n"
	}
	return &player{t: t, sink: sink, proxy: startTestProxy(t, strings.ReplaceAll(config, "FOLDER", t.TempDir()), func(c *Config) {
		withoutPacks(c)
		if e.change != nil {
			e.change(c)
		}
	})}
}

// lines reads what the log has of an event.
func lines(t *testing.T, p *testProxy, event string, show func(*logs.Record) string) []string {
	t.Helper()
	var list []string
	text := strings.Join(p.events(event), "\n")
	if bad, err := logs.Read(t.Context(), strings.NewReader(text), logs.Span{}, func(r *logs.Record) { list = append(list, show(r)) }); err != nil || bad > 0 {
		t.Fatalf("%d lines can't be read, %v:\n%s", bad, err, text)
	}
	return list
}

// check compares the log with what is expected, and with what the client heard.
func (e *endingCase) check(t *testing.T, play *player) {
	t.Helper()
	sessions := 0
	if e.session != "" {
		sessions = 1 + strings.Count(e.session, "|")
	}
	play.proxy.sessions(sessions)
	if sessions == 0 {
		waitFor(t, "the end of the connection", func() bool { return play.proxy.server.idle.Load() == 1 })
	}
	play.proxy.stop()
	heard := play.out.String()
	messages := lines(t, play.proxy, "message", func(r *logs.Record) string {
		reply := strings.TrimSpace(r.Get("code") + " " + r.Get("ecode"))
		if r.Get("code") != "0" && !regexp.MustCompile(`(?m)^S: `+regexp.QuoteMeta(reply)).MatchString(heard) {
			t.Errorf("the log says %s, which the client did not hear:\n%s", reply, heard)
		}
		if (r.Get("action") == "abort") != (r.Get("aborted") != "") {
			t.Errorf("action=%s aborted=%q", r.Get("action"), r.Get("aborted"))
		}
		by := r.Get("by")
		if r.Get("action") == "abort" {
			by = r.Get("aborted")
		}
		return r.Get("action") + " " + r.Get("code") + " " + by
	})
	ended := lines(t, play.proxy, "session", func(r *logs.Record) string {
		reason, _, _ := strings.Cut(r.Get("reason"), ": ") // the cause of a failed handshake stands behind it
		return fmt.Sprintf("%s %s/%s/%s/%s", reason, r.Get("messages"), r.Get("delivered"), r.Get("refused"), r.Get("aborted"))
	})
	if got := strings.Join(messages, "\n"); got != e.messages {
		t.Errorf("%s: the lines of transactions are\n%s\nwant\n%s\n%s", e.why, got, e.messages, heard)
	}
	if got := strings.Join(ended, "|"); got != e.session {
		t.Errorf("%s: the lines of connections are %q, want %q\n%s", e.why, got, e.session, heard)
	}
}

// TestEndings: every transaction leaves one line and every connection one, however they end, and the lines say what the client heard.
func TestEndings(t *testing.T) {
	t.Parallel()
	for _, e := range waysToEnd() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			play := e.start(t)
			if e.play != nil {
				e.play(t, play)
			} else {
				for _, line := range e.script() {
					if line == "!read" {
						play.read()
						continue
					}
					play.step(line)
				}
			}
			play.close()
			e.check(t, play)
		})
	}
}

// TestEndingsUpstream has the next hop fail at each step, in each way.
func TestEndingsUpstream(t *testing.T) {
	t.Parallel()
	answers := map[string]peertest.Answer{
		"says 421": {Reply: "421 4.3.2 Going down", Close: true}, "says 451": {Reply: "451 4.3.0 Not now"}, "says 554": {Reply: "554 5.3.0 Never"},
		"closes": {Close: true}, "stalls": {Quiet: true},
	}
	for _, verb := range []string{"CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."} {
		for how, answer := range answers {
			t.Run(verb+" "+how, func(t *testing.T) {
				t.Parallel()
				e := endingCase{why: "the next hop fails", client: "MAIL\nRCPT\nTEXT\nQUIT", change: func(c *Config) {
					c.Budget.Connect, c.Budget.Command, c.Budget.Data, c.Budget.Reply = time.Second, time.Second, time.Second, time.Second
				}}
				e.sink.Script = func(ev peertest.Event) peertest.Answer {
					if ev.Verb == verb {
						return answer
					}
					return peertest.Answer{}
				}
				play := e.start(t)
				for _, line := range e.script() {
					play.step(line)
				}
				play.close()
				e.messages, e.session = "defer 451 upstream", "quit 1/0/1/0"
				if how == "says 554" && verb != "CONNECT" && verb != "EHLO" {
					e.messages = "reject 554 upstream"
				}
				if verb == "EHLO" && how == "says 554" {
					e.messages, e.session = "accept 250 score", "quit 1/1/0/0" // it is tried with HELO
				}
				e.check(t, play)
			})
		}
	}
}

// waysToEnd are those that lie with the client and with us.
func waysToEnd() []endingCase {
	const rules = "filters: {content: {rules: [sessions.yaml], packs: []}}\n"
	const listed = "filters: {dnsbl: {lists: [{zone: bl.example, score: 6, refuse: true}]}}\n"
	big := strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n", 64)
	return []endingCase{
		{name: "delivered", client: "MAIL\nRCPT\nTEXT\nQUIT", messages: "accept 250 score", session: "quit 1/1/0/0"},
		{name: "null sender", client: "MAIL FROM:<>\nRCPT\nTEXT\nQUIT", messages: "accept 250 score", session: "quit 1/1/0/0"},
		{name: "to nobody", client: "QUIT", session: "quit 0/0/0/0"},
		{name: "no greeting", noHelo: true, client: "MAIL\nQUIT", why: "no transaction begins without HELO", session: "quit 0/0/0/0"},
		{name: "nothing", noHelo: true, client: "!connect\n!close", why: "a probe is only counted"},
		{name: "unreadable sender", client: "MAIL FROM:carol\nMAIL FROM:<\nQUIT", why: "no transaction begins by what is no MAIL command", session: "quit 0/0/0/0"},

		{name: "sender refused", client: "MAIL FROM:<carol@plain..example>\nQUIT", messages: "reject 553 protocol", session: "quit 1/0/1/0"},
		{name: "size announced", client: "MAIL FROM:<carol@plain.example> SIZE=99999999\nQUIT", messages: "reject 552 size", session: "quit 1/0/1/0"},
		{name: "parameter", client: "MAIL FROM:<carol@plain.example> REQUIRETLS\nQUIT", why: "a MAIL with a parameter that is not offered begins none", session: "quit 0/0/0/0"},
		{name: "rate", judged: true, change: func(c *Config) { c.Limits.Mails = 1 }, client: "MAIL\nRSET\nMAIL\nQUIT", messages: "abort 0 reset\ndefer 450 rate", session: "quit 2/0/1/1"},
		{name: "second sender", client: "MAIL\nMAIL\nRCPT\nTEXT\nQUIT", why: "a MAIL within a transaction begins none", messages: "accept 250 score", session: "quit 1/1/0/0"},

		{name: "relaying", client: "MAIL\nRCPT TO:<joe@other.example>\nQUIT", messages: "reject 550 relay", session: "quit 1/0/1/0"},
		{name: "relaying, reset", client: "MAIL\nRCPT TO:<joe@other.example>\nRSET\nQUIT", messages: "reject 550 relay", session: "quit 1/0/1/0"},
		{name: "relaying, closed", client: "MAIL\nRCPT TO:<joe@other.example>\n!close", messages: "reject 550 relay", session: "client closed 1/0/1/0"},
		{name: "relaying, data all the same", client: "MAIL\nRCPT TO:<joe@other.example>\nDATA\nQUIT", messages: "reject 550 relay", session: "quit 1/0/1/0"},
		{name: "unknown here", client: "MAIL\nRCPT TO:<nobody@example.org>\nQUIT", messages: "reject 550 upstream", session: "quit 1/0/1/0"},
		{name: "mailbox full", client: "MAIL\nRCPT TO:<full@example.org>\nQUIT", messages: "defer 452 upstream", session: "quit 1/0/1/0"},
		{name: "one of two", client: "MAIL\nRCPT TO:<nobody@example.org>\nRCPT\nTEXT\nQUIT", messages: "accept 250 score", session: "quit 1/1/0/0"},
		{name: "on a list", judged: true, config: listed, client: "XCLIENT ADDR=192.0.2.66\nEHLO mail.listed.example\nMAIL\nRCPT\nQUIT", messages: "reject 550 dnsbl.bl.example", session: "quit 1/0/1/0"},
		{name: "by a rule at RCPT", judged: true, config: rules, client: "XCLIENT ADDR=203.0.113.9\nEHLO mail.plain.example\nMAIL\nRCPT\nQUIT", messages: "reject 550 BAD_NETWORK", session: "quit 1/0/1/0"},
		{name: "recipients", change: func(c *Config) { c.Limits.Recipients = 1 }, client: "MAIL\nRCPT\nBOB\nTEXT\nQUIT", messages: "accept 250 score", session: "quit 1/1/0/0"},
		{name: "no recipients left", change: func(c *Config) { c.Limits.Recipients = 0 }, client: "MAIL\nRCPT\nQUIT", messages: "defer 452 limit", session: "quit 1/0/1/0"},
		{name: "too many unknown", change: func(c *Config) { c.Limits.Unknown = 0 }, client: "MAIL\nRCPT TO:<nobody@example.org>\n!read", messages: "defer 421 upstream", session: "closed by 421 1/0/1/0"},
		{name: "another route", config: "routes: [{domains: [example.net], upstream: [{address: 'maildir:FOLDER'}]}]\n",
			client: "MAIL\nRCPT\nRCPT TO:<bob@example.net>\nTEXT\nQUIT", messages: "accept 250 score", session: "quit 1/1/0/0"},

		{name: "reset after MAIL", client: "MAIL\nRSET\nQUIT", messages: "abort 0 reset", session: "quit 1/0/0/1"},
		{name: "reset after RCPT", client: "MAIL\nRCPT\nRSET\nQUIT", messages: "abort 0 reset", session: "quit 1/0/0/1"},
		{name: "EHLO after RCPT", client: "MAIL\nRCPT\nEHLO again.example\nQUIT", messages: "abort 0 reset", session: "quit 1/0/0/1"},
		{name: "quit after MAIL", client: "MAIL\nQUIT", messages: "abort 0 quit", session: "quit 1/0/0/1"},
		{name: "quit after RCPT", client: "MAIL\nRCPT\nQUIT", messages: "abort 0 quit", session: "quit 1/0/0/1"},
		{name: "gone after EHLO", client: "!close", session: "client closed 0/0/0/0"},
		{name: "gone after MAIL", client: "MAIL\n!close", messages: "abort 0 client closed", session: "client closed 1/0/0/1"},
		{name: "gone after RCPT", client: "MAIL\nRCPT\n!close", messages: "abort 0 client closed", session: "client closed 1/0/0/1"},
		{name: "gone after DATA", client: "MAIL\nRCPT\nDATA\n!close", messages: "abort 0 client closed", session: "client closed 1/0/0/1"},
		{name: "gone within the message", client: "MAIL\nRCPT\nDATA\nSubject: cut\n\ntext\n!close", messages: "abort 0 client closed", session: "client closed 1/0/0/1"},
		{name: "connection reset", play: func(_ *testing.T, p *player) {
			p.steps("EHLO mail.plain.example", "MAIL FROM:<carol@plain.example>", "RCPT TO:<alice@example.org>", "DATA", "Subject: cut")
			p.client.Reset()
		}, messages: "abort 0 reset", session: "reset 1/0/0/1"},
		{name: "too many errors", change: func(c *Config) { c.Limits.Errors = 1 }, client: "MAIL\nRCPT\nHELP ME\nNONSENSE\n!read", messages: "abort 0 too many errors", session: "too many errors 1/0/0/1"},
		{name: "too many commands", change: func(c *Config) { c.Limits.Commands = 3 }, client: "MAIL\nRCPT\nNOOP\n!read", messages: "abort 0 too many commands", session: "too many commands 1/0/0/1"},

		{name: "too large", change: func(c *Config) { c.Limits.Message = 3000 }, client: "MAIL\nRCPT\nDATA\n" + big + ".\nQUIT", messages: "reject 552 size", session: "quit 1/0/1/0"},
		{name: "far too large", change: func(c *Config) { c.Limits.Message = 1000 }, client: "MAIL\nRCPT\n!raw " + fmt.Sprintf("%q", "DATA\r\n") + "\n!raw " + fmt.Sprintf("%q", strings.ReplaceAll(big, "\n", "\r\n")),
			messages: "abort 0 message too big", session: "message too big 1/0/0/1"},
		{name: "loop", client: "MAIL\nRCPT\nDATA\n" + strings.Repeat("Received: by mx.example.org\n", 3) + "\ntext\n.\nQUIT", messages: "reject 554 loop", session: "quit 1/0/1/0"},
		{name: "leading white space", client: "MAIL\nRCPT\nDATA\n Subject: x\n\ntext\n.\nQUIT", messages: "reject 554 header", session: "quit 1/0/1/0"},
		{name: "too many fields", client: "MAIL\nRCPT\nDATA\n" + strings.Repeat("A: b\n", message.DefaultLimits.Fields+1) + "\ntext\n.\nQUIT", messages: "reject 552 header", session: "quit 1/0/1/0"},
		{name: "bare newline", client: "MAIL\nRCPT\nDATA\n!raw \"Subject: x\\n\\r\\n.\\r\\n\"\nQUIT", messages: "reject 554 newline", session: "quit 1/0/1/0"},
		{name: "NUL", client: "MAIL\nRCPT\nDATA\n!raw \"Subject: \\x00\\r\\n\\r\\n.\\r\\n\"\nQUIT", messages: "reject 554 newline", session: "quit 1/0/1/0"},
		{name: "no room", change: func(c *Config) { c.Limits.Memory, c.Limits.AllMemory, c.Limits.Spool = 1, 1, 1 }, client: "MAIL\nRCPT\nDATA\n" + big + ".\nQUIT", messages: "defer 452 spool", session: "quit 1/0/1/0"},

		{name: "tagged", config: rules, client: "MAIL\nRCPT\nTEXT some weight\nQUIT", messages: "tag 250 score", session: "quit 1/1/0/0"},
		{name: "refused by score", config: rules, client: "MAIL\nRCPT\nTEXT heavy\nQUIT", messages: "reject 550 score", session: "quit 1/0/1/0"},
		{name: "deferred by a rule", config: rules, client: "MAIL\nRCPT\nTEXT come again\nQUIT", messages: "defer 451 LATER", session: "quit 1/0/1/0"},
		{name: "accepted by a rule", config: rules, client: "MAIL\nRCPT\nTEXT news from a partner\nQUIT", messages: "accept 250 PARTNER", session: "quit 1/1/0/0"},
		{name: "observed", config: rules + "observe: true\n", client: "MAIL\nRCPT\nTEXT heavy\nQUIT", messages: "accept 250 score", session: "quit 1/1/0/0"},
		{name: "diverted", config: rules + "quarantine: 'maildir:FOLDER/held'\n", client: "MAIL\nRCPT\nTEXT hold this\nQUIT", messages: "quarantine 250 HOLD", session: "quit 1/1/0/0"},
		{name: "diverting fails", config: rules + "quarantine: 'smtp://127.0.0.1:1'\n", client: "MAIL\nRCPT\nTEXT hold this\nQUIT", messages: "defer 451 upstream", session: "quit 1/0/1/0"},
		{name: "refused after the dot", client: "MAIL\nRCPT TO:<notdata@example.org>\nTEXT\nQUIT", messages: "reject 554 upstream", session: "quit 1/0/1/0"},
		{name: "next hop is not there", client: "!stop-upstream\nMAIL\nRCPT\nQUIT", messages: "defer 451 upstream", session: "quit 1/0/1/0"},

		{name: "LMTP, all refused", lmtp: true, sink: mailboxes(map[string]peertest.Answer{"alice": {Reply: "550 5.7.1 No"}, "bob": {Reply: "550 5.7.1 No"}}),
			client: "MAIL\nRCPT\nBOB\nTEXT\nQUIT", messages: "reject 550 upstream", session: "quit 1/0/1/0"},
		{name: "LMTP, some refused", lmtp: true, sink: mailboxes(map[string]peertest.Answer{"bob": {Reply: "552 5.2.2 Full"}}),
			client: "MAIL\nRCPT\nBOB\nTEXT\nMAIL\nRCPT\nTEXT\nMAIL\nBOB\nTEXT\nQUIT", why: "the second is known to have been served",
			messages: "defer 451 upstream\naccept 250 memory\naccept 250 score", session: "quit 3/2/1/0"},

		{name: "several", client: "MAIL\nRCPT\nTEXT one\nMAIL\nRCPT TO:<joe@other.example>\nRSET\nMAIL\nRCPT\nRSET\nMAIL FROM:<carol@plain.example> SIZE=99999999\nMAIL\nRCPT\nTEXT two\nQUIT",
			messages: "accept 250 score\nreject 550 relay\nabort 0 reset\nreject 552 size\naccept 250 score", session: "quit 5/2/2/1"},
		{name: "in one write", play: func(t *testing.T, p *player) {
			p.step("!connect")
			p.step("EHLO mail.plain.example")
			p.say("MAIL FROM:<carol@plain.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nSubject: x\r\n\r\ntext\r\n.\r\nMAIL FROM:<carol@plain.example>\r\nRCPT TO:<joe@other.example>\r\nQUIT\r\n", "all at once")
			for p.read() != 221 {
				if t.Failed() || strings.Contains(p.out.String(), "EOF") {
					return
				}
			}
		}, messages: "accept 250 score\nreject 550 relay", session: "quit 2/1/1/0"},

		{name: "idle", change: func(c *Config) { c.Limits.Idle = time.Second }, play: untilClosed(""), session: "idle timeout 0/0/0/0"},
		{name: "idle after RCPT", change: func(c *Config) { c.Limits.Idle = time.Second }, play: untilClosed("MAIL FROM:<carol@plain.example>\r\nRCPT TO:<alice@example.org>\r\n"),
			messages: "abort 0 idle timeout", session: "idle timeout 1/0/0/1"},
		{name: "idle within the message", change: func(c *Config) { c.Limits.Idle = time.Second },
			play:     untilClosed("MAIL FROM:<carol@plain.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nSubject: x\r\n"),
			messages: "abort 0 idle timeout", session: "idle timeout 1/0/0/1"},
		{name: "session too long", change: func(c *Config) { c.Limits.Session = 5 * time.Second }, play: untilClosed("MAIL FROM:<carol@plain.example>\r\nRCPT TO:<alice@example.org>\r\n"),
			messages: "abort 0 session timeout", session: "session timeout 1/0/0/1"},

		{name: "STARTTLS fails", tls: true, play: func(_ *testing.T, p *player) {
			p.steps("EHLO mail.plain.example", "STARTTLS")
			p.say("this is no handshake\r\n\r\n", "nonsense")
			p.client.WantClosed()
		}, session: "tls handshake failed 0/0/0/0"},
		{name: "over TLS", tls: true, client: "STARTTLS\n!tls\nEHLO mail.plain.example\nMAIL\nRCPT\nTEXT\nQUIT", messages: "accept 250 score", session: "quit 1/1/0/0"},

		{name: "refused before the banner", judged: true, balanced: true, session: "refused 0/0/0/0",
			config: strings.Replace(listed, "refuse: true", "refuse: true, before_banner: true", 1) + "limits: {banner_wait: 0s}\n",
			play: func(_ *testing.T, p *player) {
				p.client = p.proxy.from("192.0.2.66")
				p.read()
			}},
		{name: "speaks before the banner", judged: true, balanced: true, config: "limits: {banner_wait: 1m}\n", session: "quit 1/0/0/1", messages: "abort 0 quit",
			play: func(_ *testing.T, p *player) {
				p.client = p.proxy.from("192.0.2.10")
				p.say("EHLO mail.plain.example\r\n", "EHLO")
				p.read()
				p.read()
				p.steps("MAIL FROM:<carol@plain.example>", "QUIT")
			}},
		{name: "memory kept on disk", config: "store: {kind: bbolt, path: 'FOLDER" + string(filepath.Separator) + "state.db'}\n", client: "MAIL\nRCPT\nTEXT\nQUIT", messages: "accept 250 score", session: "quit 1/1/0/0"},
	}
}

func (p *player) steps(lines ...string) {
	for _, line := range lines {
		p.step(line)
	}
}

// untilClosed says something at once, and then nothing until the connection is closed.
func untilClosed(says string) func(*testing.T, *player) {
	return func(_ *testing.T, p *player) {
		p.step("!connect")
		p.say("EHLO mail.plain.example\r\n"+says, "all at once")
		for !strings.Contains(p.out.String(), "S: (") {
			p.read()
		}
	}
}
