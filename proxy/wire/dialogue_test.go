package wire

import (
	"strings"
	"testing"
)

func TestDialogue(t *testing.T) {
	const (
		hi   = "< 220 mx.test ESMTP\n> EHLO client.example\n< 250-mx.test\r\n"
		mail = "> MAIL FROM:<a@example.org>\n< 250 2.1.0\n> RCPT TO:<b@example.com>\n< 250 2.1.5\n"
		body = "> DATA\n< 354\n>> hello\\r\\n.\\r\\n\n< 250 2.0.0\n"
	)
	for name, tc := range map[string]struct {
		script string
		cfg    Config
		sent   int // messages
	}{
		"one message":              {script: hi + mail + body + "> QUIT\n< 221 2.0.0 mx.test\n< END", sent: 1},
		"two in one connection":    {script: hi + mail + body + mail + body, sent: 2},
		"an old client's HELO":     {script: "< 220\n> HELO client.example\n< 250 mx.test\n" + mail + body, sent: 1},
		"EHLO again resets":        {script: hi + mail + "> EHLO client.example\n< 250-mx.test\n> RCPT TO:<b@example.com>\n< 503 5.5.1"},
		"RSET resets":              {script: hi + mail + "> RSET\n< 250 2.0.0\n> RCPT TO:<b@example.com>\n< 503 5.5.1\n> DATA\n< 503"},
		"RSET before EHLO":         {script: "< 220\n> RSET\n< 250 2.0.0\n> MAIL FROM:<a@example.org>\n< 503"},
		"MAIL twice":               {script: hi + mail + "> MAIL FROM:<c@example.org>\n< 503 5.5.1\n" + body, sent: 1}, // go-smtp would mix the two
		"MAIL before EHLO":         {script: "< 220\n> MAIL FROM:<a@example.org>\n< 503 5.5.1\n> EHLO x\n< 250-"},
		"RCPT before MAIL":         {script: hi + "> RCPT TO:<b@example.com>\n< 503 5.5.1"},
		"no recipient left":        {script: hi + "> MAIL FROM:<>\n< 250\n> RCPT TO:<unknown@example.com>\n< 550 5.1.1 no such user\n> DATA\n< 554 5.5.1"},
		"EHLO without name":        {script: "< 220\n> EHLO\n< 501 5.5.4\n> HELO \n< 501 5.5.4\n> EHLO x\n< 250-"},
		"EHLO refused":             {script: "< 220\n> EHLO refused.example\n< 550 5.7.1 not you\n> MAIL FROM:<>\n< 503\n> EHLO x\n< 250-"},
		"LMTP's greeting":          {script: "< 220\n> LHLO x\n< 500 5.5.1"},
		"lower case":               {script: "< 220\n> ehlo x\n< 250-\n> mail from:<a@example.org>\n< 250\n> rcpt to:<b@example.com>\n< 250\n> data\n< 354\n>> .\\r\\n\n< 250\n> quit\n< 221", sent: 1},
		"tab behind the verb":      {script: "< 220\n>> EHLO\\tx\\r\\n\n< 250-\n>> MAIL\\tFROM:<a@example.org>\\r\\n\n< 250"},
		"trailing white space":     {script: hi + "> MAIL FROM:<a@example.org>  \n< 250\n>> RCPT TO:<b@example.com>\\t \\r\\n\n< 250\n> DATA  \n< 354\n>> .\\r\\n\n< 250", sent: 1},
		"space behind the colon":   {script: hi + "> MAIL FROM: <a@example.org>\n< 250\n> RCPT TO: <b@example.com>\n< 250"},
		"no space behind the verb": {script: hi + "> MAILFROM:<a@example.org>\n< 500 5.5.2"},
		"verb alone":               {script: hi + "> MAIL\n< 501\n> MAIL FROM:<>\n< 250\n> RCPT\n< 501"},
		"DATA with argument":       {script: hi + mail + "> DATA now\n< 501 5.5.4\n" + body, sent: 1},
		"empty line":               {script: hi + ">> \\r\\n\n< 500\n> NOOP\n< 250"},
		"short lines":              {script: hi + "> A\n< 500\n> ABC\n< 500\n> ABCDE\n< 500\n> NOOP\n< 250"}, // go-smtp hangs up at the fourth
		"a longer STARTTLS":        {script: hi + "> STARTTLSX\n< 500 5.5.2"},
		"no TLS":                   {script: hi + "> STARTTLS\n< 502 5.5.1\n> NOOP\n< 250"},
		"others' verbs": {script: hi + "> VRFY b\n< 252\n> EXPN l\n< 502\n> HELP\n< 214\n> ETRN x\n< 502\n> AUTH PLAIN AAAA\n< 502\n" +
			"> XFORWARD NAME=x\n< 502\n> XCLIENT NAME=x\n< 502\n> NOOP ignored\n< 250"},
		"CHUNKING":                        {script: hi + mail + ">> BDAT 13 LAST\\r\\nMAIL FROM:<\\r\\nNOOP\\r\\n\n< 502 5.5.1\n< 250 2.0.0 Ok\n" + body, sent: 1}, // the chunk is no command
		"CHUNKING with a huge chunk":      {script: hi + "> BDAT 99999999999\n< 552 5.3.4\n< END"},
		"CHUNKING with no size":           {script: hi + "> BDAT x\n< 501\n< END"}, // what follows could be anything
		"postmaster":                      {script: hi + "> MAIL FROM:<>\n< 250\n> RCPT TO:<Postmaster>\n< 250 2.1.5 Recipient ok\n" + body, sent: 1},
		"a browser":                       {script: "< 220\n> POST / HTTP/1.1\n< 554 5.5.1\n< END"},
		"TLS on a plain text port":        {script: "< 220\n>> \\x16\\x03\\x01\\x02\\x00\n< 500 5.5.2\n< END"},
		"bare LF in a command":            {script: hi + ">> NOOP\\nRSET\\r\\nNOOP\\r\\n\n< 500 5.5.2\n< 250 2.0.0 Ok"}, // one line, one reply: RSET is not seen
		"bare LF and no CRLF":             {script: hi + ">> NOOP\\n\n< 500 5.5.2\n>> NOOP\\n\n< 500 5.5.2\n< END"},     // it would wait in vain
		"bare LF taken":                   {cfg: Config{BareNewline: Normalise}, script: hi + ">> NOOP\\n\n< 250\n> NOOP\n< 250"},
		"bare CR in a command":            {script: hi + ">> NOOP\\rRSET\\r\\n\n< 500 5.5.2\n> NOOP\n< 250"},
		"bare CR, normalised listener":    {cfg: Config{BareNewline: Normalise}, script: hi + ">> NOOP\\rRSET\\r\\n\n< 500 5.5.2\n> NOOP\n< 250"},
		"two CRs":                         {script: hi + ">> NOOP\\r\\r\\n\n< 500 5.5.2\n> NOOP\n< 250"},
		"NUL in a command":                {script: hi + ">> MAIL FROM:<a\\x00@example.org>\\r\\n\n< 500 5.5.2\n> NOOP\n< 250"},
		"escape character in a command":   {script: hi + ">> MAIL FROM:<a\\x1b[2J@example.org>\\r\\n\n< 500 5.5.2"},
		"longest command":                 {script: hi + "> NOOP " + strings.Repeat("x", 2048-len("NOOP \r\n")) + "\n< 250"},
		"command one octet too long":      {script: hi + "> NOOP " + strings.Repeat("x", 2049-len("NOOP \r\n")) + "\n< 500 5.5.2 Line too long\n> NOOP\n< 250"},
		"command far too long":            {script: hi + "> " + strings.Repeat("x", 60000) + "\n< 500 5.5.2 Line too long\n> NOOP\n< 250"},
		"command without end":             {script: hi + ">> " + strings.Repeat("x", 80000) + "\n< 500 5.5.2 Line too long, closing\n< END"},
		"pipelining":                      {script: "< 220\n> EHLO x\n< 250-\n>> MAIL FROM:<a@example.org>\\r\\nRCPT TO:<unknown@example.com>\\r\\nRCPT TO:<b@example.com>\\r\\nDATA\\r\\n\n< 250\n< 550\n< 250\n< 354\n>> x\\r\\n.\\r\\nQUIT\\r\\n\n< 250\n< 221\n< END", sent: 1},
		"message sent ahead of 354":       {script: hi + mail + ">> DATA\\r\\nMAIL FROM:<z@example.org>\\r\\n.\\r\\nNOOP\\r\\n\n< 354\n< 250\n< 250 2.0.0 Ok", sent: 1},
		"message sent ahead of a refusal": {script: hi + ">> MAIL FROM:<>\\r\\nRCPT TO:<unknown@x.example>\\r\\nDATA\\r\\nMAIL FROM:<z@example.org>\\r\\nRCPT TO:<b@example.com>\\r\\nDATA\\r\\n.\\r\\n\n< 250\n< 550\n< 554\n< 503 5.5.0\n< END"},
		"QUIT sent ahead of a refusal":    {script: hi + ">> MAIL FROM:<>\\r\\nRCPT TO:<unknown@x.example>\\r\\nDATA\\r\\nRSET\\r\\nNOOP\\r\\nQUIT\\r\\n\n< 250\n< 550\n< 554\n< 250\n< 250\n< 221\n< END"},
		"all in one packet":               {script: ">> EHLO x\\r\\nMAIL FROM:<>\\r\\nRCPT TO:<b@example.com>\\r\\nDATA\\r\\nhi\\r\\n.\\r\\nQUIT\\r\\n\n< 220\n< 250-\n< 250\n< 250\n< 354\n< 250\n< 221\n< END", sent: 1},
		"the session panics":              {script: hi + "> MAIL FROM:<>\n< 250\n> RCPT TO:<panic@example.com>\n< 421\n< END"},
		"the session panics in DATA":      {script: hi + "> MAIL FROM:<>\n< 250\n> RCPT TO:<datapanic@example.com>\n< 250\n> DATA\n< 354\n< 421\n< END"},
		"the session says 421":            {script: hi + "> MAIL FROM:<>\n< 250\n> RCPT TO:<hangup@example.com>\n< 421 4.7.0 go away\n< END"},
		"a reply of the session unfit":    {script: hi + "> MAIL FROM:<>\n< 250\n> RCPT TO:<odd@example.com>\n< 550-two\r\n> RCPT TO:<codeless@example.com>\n< 451 4.3.0\n> NOOP\n< 250"},
		"errors have an end": {cfg: Config{Limits: Limits{Errors: 3}},
			script: hi + "> DATA\n< 503\n> EHLO\n< 501\n> BDAT 0\n< 502\n< 421 4.7.0 mx.test too many errors\n< END"},
		"unknown verbs have an end": {cfg: Config{Limits: Limits{UnknownCommands: 2}}, script: hi + "> FOO\n< 500\n> BAR\n< 500\n< 421 4.7.0\n< END"},
		"refused mail is no error":  {cfg: Config{Limits: Limits{Errors: 1}}, script: hi + "> MAIL FROM:<>\n< 250\n> RCPT TO:<unknown@example.com>\n< 550\n> NOOP\n< 250"},
		"commands have an end":      {cfg: Config{Limits: Limits{Commands: 3}}, script: hi + "> NOOP\n< 250\n> NOOP\n< 250\n< 421 4.7.0 mx.test too many commands\n< END"},
		"a message renews the commands": {cfg: Config{Limits: Limits{Commands: 5}},
			script: hi + mail + body + mail + body + mail + body + "> NOOP\n< 250", sent: 3},
		"a dot first": {script: hi + mail + "> DATA\n< 354\n>> .\\r\\n\n< 250", sent: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, tc.cfg)
			c := s.dial()
			c.play(unescapeCRLF(tc.script))
			if got := len(s.deliveries()); got != tc.sent {
				t.Errorf("%d messages, want %d", got, tc.sent)
			}
		})
	}
}

// unescapeCRLF takes the CRLF out of wanted replies, where a line break would end the step.
func unescapeCRLF(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

func TestEhloReply(t *testing.T) {
	s := serve(t, Config{TLS: testTLS(), XClientFrom: loopback(), Keywords: func() []string {
		return []string{"SIZE 1000", "8bitmime", "BINARYMIME", "CHUNKING", "STARTTLS", "AUTH PLAIN", "8BITMIME", "X\r\n250 FORGED", ""}
	}})
	c := s.dial()
	c.want("220 mx.test ESMTP")
	got := c.do("EHLO client.example", "250-")
	want := "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8bitmime\r\n250-STARTTLS\r\n" +
		"250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n250 ENHANCEDSTATUSCODES\r\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestFactsOfConn(t *testing.T) {
	type seen struct {
		extended, size, dsn, chunking, bad bool
		helo, last                         string
		commands                           int
		in, out                            int64
	}
	found := make(chan seen, 1)
	s := serve(t, Config{}, func(s *site) {
		s.onMail = func(c *smtpConn) error {
			found <- seen{
				extended: c.Extended(), size: c.Offered("size"), dsn: c.Offered("DSN"), chunking: c.Offered("CHUNKING"), bad: c.BadPipelining(),
				helo: c.helo, last: c.LastCommand(), commands: c.Commands(), in: c.BytesIn(), out: c.BytesOut(),
			}
			return nil
		}
	})
	c := s.dial()
	banner := c.want("220")
	reply := c.do("EHLO one.example", "250")
	c.do("MAIL FROM:<>", "250")
	got := <-found
	want := seen{extended: true, size: true, dsn: true, helo: "one.example", last: "MAIL", commands: 2,
		in: int64(len("EHLO one.example\r\nMAIL FROM:<>\r\n")), out: int64(len(banner + reply))}
	if got != want {
		t.Errorf("after EHLO: got %+v, want %+v", got, want)
	}
	c.send("HELO two.example\r\nMAIL FROM:<>\r\n") // sent ahead where RFC 2920 has it wait
	c.want("250 mx.test")
	c.want("250")
	got = <-found
	if got.extended || got.size || got.helo != "two.example" || !got.bad {
		t.Errorf("after HELO: got %+v", got)
	}
	c.do("QUIT", "221")
	if r := s.reason(); r != "quit" {
		t.Errorf("reason %q", r)
	}
}

func TestPostmaster(t *testing.T) {
	for _, tc := range []struct{ rcpt, want string }{
		{rcpt: "<postmaster>", want: "postmaster@example.com"},
		{rcpt: " <POSTMASTER>", want: "postmaster@example.com"},
		{rcpt: "<postmaster@other.example>", want: "postmaster@other.example"},
		{rcpt: "<postmaster> NOTIFY=NEVER", want: ""}, // parameters stay: go-smtp refuses this one, DSN is off there
	} {
		s := serve(t, Config{PostmasterDomain: "example.com"})
		c := s.dial()
		c.hello()
		c.do("MAIL FROM:<>", "250")
		if tc.want == "" {
			c.do("RCPT TO:"+tc.rcpt, "504 5.5.4 NOTIFY")
			continue
		}
		c.do("RCPT TO:"+tc.rcpt, "250")
		c.do("DATA", "354")
		c.do(".", "250")
		if got := s.deliveries(); len(got) != 1 || got[0].to[0] != tc.want {
			t.Errorf("%s: got %+v", tc.rcpt, got)
		}
	}
}
