package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// reference reads a message from the octets as sent, all at once. rest is what stands behind its end; ok is false if there is none.
// content is what the message says, bad whether it has a CR, LF or NUL out of place.
func reference(sent string, normalise bool) (content, rest string, bad, ok bool) {
	const end = "\r\n.\r\n"
	whole := "\r\n" + sent
	i := strings.Index(whole, end)
	if i < 0 {
		return "", "", false, false
	}
	rest = whole[i+len(end):]
	var b strings.Builder
	for _, line := range strings.SplitAfter(strings.TrimPrefix(whole[:i+2], "\r\n"), "\r\n") {
		body, crlf := strings.CutSuffix(line, "\r\n")
		if !crlf {
			break // behind the last
		}
		body = strings.TrimPrefix(body, ".")
		for _, c := range []byte(body) {
			switch {
			case c == 0, !normalise && (c == '\r' || c == '\n'):
				bad = true
			case c == '\r' || c == '\n':
				b.WriteString("\r\n")
				continue
			}
			b.WriteByte(c)
		}
		b.WriteString("\r\n")
	}
	return b.String(), rest, bad, true
}

// undot takes what the wire passes on for what every reader of SMTP takes it for. It fails where readers could differ.
func undot(passed string) (string, error) {
	if strings.ContainsRune(passed, 0) {
		return "", errors.New("NUL")
	}
	stripped := strings.ReplaceAll(passed, "\r\n", "")
	if strings.ContainsAny(stripped, "\r\n") {
		return "", errors.New("bare CR or LF")
	}
	var b strings.Builder
	lines := strings.SplitAfter(passed, "\r\n")
	for i, line := range lines {
		if line == ".\r\n" {
			if rest := strings.Join(lines[i+1:], ""); rest != "" {
				return "", fmt.Errorf("end of data before %q", rest)
			}
			return b.String(), nil
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	return "", errors.New("no end of data")
}

// feed runs a reader over pieces of the input that choose cuts, with as little room as choose gives.
func feed(d *dataReader, sent string, choose func(n int) int) (passed string, read int) {
	var b bytes.Buffer
	dst := make([]byte, 64)
	for read < len(sent) && !d.closed {
		piece := sent[read : read+1+choose(min(len(sent)-read, 40))]
		for len(piece) > 0 && !d.closed {
			w, r := d.step(dst[:minRoom+choose(len(dst)-minRoom)], []byte(piece))
			b.Write(dst[:w])
			piece = piece[r:]
			read += r
		}
	}
	for d.state == atEnd && !d.closed {
		w, _ := d.step(dst, nil)
		b.Write(dst[:w])
	}
	return b.String(), read
}

// checkData compares the reader with the reference, in both forms in which it passes a message on.
func checkData(t *testing.T, sent string, normalise bool, choose func(int) int) {
	t.Helper()
	checkDataForm(t, sent, normalise, false, choose)
	checkDataForm(t, sent, normalise, true, choose)
}

func checkDataForm(t *testing.T, sent string, normalise, undotted bool, choose func(int) int) {
	t.Helper()
	cfg := (Config{BareNewline: Reject}).withDefaults()
	if normalise {
		cfg.BareNewline = Normalise
	}
	d := newDataReader(cfg)
	d.undot = undotted
	passed, read := feed(d, sent, choose)
	content, rest, bad, ok := reference(sent, normalise)
	if ok != d.closed {
		t.Fatalf("%q: end seen %v, want %v", sent, d.closed, ok)
	}
	if !ok {
		return
	}
	if sent[read:] != rest {
		t.Fatalf("%q: read up to %q, want %q", sent, sent[read:], rest)
	}
	if bad != (d.failed != nil) {
		t.Fatalf("%q: error %v, want one: %v", sent, d.failed, bad)
	}
	got, err := passed, error(nil)
	if !undotted {
		got, err = undot(passed)
	}
	if err != nil {
		t.Fatalf("%q: passed on %q: %v", sent, passed, err)
	}
	if !bad && got != content {
		t.Fatalf("%q: got %q, want %q", sent, got, content)
	}
	if bad && !strings.HasPrefix(content, strings.TrimSuffix(got, "\r\n")) {
		t.Fatalf("%q: got %q, want the beginning of %q", sent, got, content)
	}
	if !bad && d.size != int64(len(content)) {
		t.Fatalf("%q: size %d, want %d", sent, d.size, len(content))
	}
}

func none(int) int { return 0 }

// all gives everything in one piece.
func all(n int) int { return n - 1 }

func TestDataExhaustive(t *testing.T) {
	// All messages of up to six octets of the alphabet that matters, cut everywhere and nowhere.
	const alphabet = "\r\n.x\x00"
	length := 6
	if testing.Short() {
		length = 4
	}
	var walk func(prefix string)
	walk = func(prefix string) {
		sent := prefix + "\r\n.\r\nNEXT"
		for _, normalise := range []bool{false, true} {
			checkData(t, sent, normalise, none)
			checkData(t, sent, normalise, all)
		}
		if len(prefix) < length {
			for i := range len(alphabet) {
				walk(prefix + alphabet[i:i+1])
			}
		}
	}
	walk("")
}

func FuzzData(f *testing.F) {
	for _, s := range smugglingCases(f).Never {
		f.Add("a"+s+"MAIL FROM:<x@y>\r\n.\r\nNOOP\r\n", true, uint64(1))
		f.Add("a"+s+"MAIL FROM:<x@y>\r\n.\r\nNOOP\r\n", false, uint64(2))
	}
	f.Add(".\r\n", false, uint64(3))
	f.Add("..\r\n...\r\n.x\r\n.\r\n", false, uint64(4))
	f.Fuzz(func(t *testing.T, sent string, normalise bool, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		checkData(t, sent, normalise, func(n int) int { return rng.IntN(max(n, 1)) })
		checkData(t, sent, normalise, all)
	})
}

type smuggling struct {
	Never []string `json:"never_end_of_data"`
	End   []string `json:"end_of_data"`
}

func smugglingCases(t testing.TB) (s smuggling) {
	t.Helper()
	b, err := os.ReadFile("testdata/smuggling.json")
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil || len(s.Never) < 10 || len(s.End) != 1 {
		t.Fatalf("testdata/smuggling.json: %v, %+v", err, s)
	}
	return s
}

// eachReader runs a test with either way in which a session can read a message.
func eachReader(t *testing.T, test func(*testing.T, func(*site))) {
	t.Run("body", func(t *testing.T) { test(t, func(s *site) { s.byServer = false }) })
	t.Run("server", func(t *testing.T) { test(t, func(s *site) { s.byServer = true }) })
}

// smuggled is what an attacker hides behind a false end.
const smuggled = "MAIL FROM:<admin@example.org>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nSubject: forged\r\n\r\nforged\r\n.\r\n"

func TestSmuggling(t *testing.T) { eachReader(t, smuggle) }

func smuggle(t *testing.T, reader func(*site)) {
	cases := smugglingCases(t)
	for _, encrypted := range []bool{false, true} {
		for _, mode := range []Newline{Reject, Normalise} {
			for _, seq := range cases.Never {
				t.Run(fmt.Sprintf("tls=%v %v %q", encrypted, mode, seq), func(t *testing.T) {
					s := serve(t, Config{TLS: testTLS(), ImplicitTLS: encrypted, BareNewline: mode}, reader)
					c := s.dial()
					if encrypted {
						c = c.encrypt()
					}
					c.hello()
					c.envelope()
					// The hidden message's own end is the first true one: everything up to it is one message.
					c.send("Subject: first\r\n\r\nfirst" + seq + smuggled)
					nul := strings.ContainsRune(seq, 0)
					if mode == Reject || nul {
						c.want("554 5.")
					} else {
						c.want("250 ")
					}
					// Still in step: the next reply belongs to the next command.
					c.do("NOOP", "250 2.0.0 Ok")
					c.envelope()
					c.do("Subject: second\r\n\r\nsecond\r\n.", "250 ")
					got := s.deliveries()
					want := 2
					if mode == Reject || nul {
						want = 1
					}
					if len(got) != want || !strings.Contains(got[want-1].body, "second") {
						t.Fatalf("%d messages: %+v", len(got), got)
					}
					for _, d := range got {
						if d.from != "a@example.org" {
							t.Errorf("a message from %s", d.from)
						}
						if rest := strings.ReplaceAll(d.body, "\r\n", ""); strings.ContainsAny(rest, "\r\n\x00") {
							t.Errorf("body %q", d.body)
						}
					}
					if want == 2 && !strings.Contains(got[0].body, "forged") {
						t.Errorf("the hidden lines are not part of the message: %q", got[0].body)
					}
				})
			}
			for _, seq := range cases.End {
				t.Run(fmt.Sprintf("tls=%v %v end %q", encrypted, mode, seq), func(t *testing.T) {
					s := serve(t, Config{TLS: testTLS(), ImplicitTLS: encrypted, BareNewline: mode}, reader)
					c := s.dial()
					if encrypted {
						c = c.encrypt()
					}
					c.hello()
					c.envelope()
					c.send("x" + seq)
					c.want("250 ")
					if got := s.deliveries(); len(got) != 1 || got[0].body != "x\r\n" {
						t.Errorf("got %+v", got)
					}
				})
			}
		}
	}
}

func TestDataIsPassedExactly(t *testing.T) { eachReader(t, dataIsPassedExactly) }

func dataIsPassedExactly(t *testing.T, reader func(*site)) {
	var every []byte // all octets that may stand in a message
	for c := 1; c < 256; c++ {
		if c != '\r' && c != '\n' {
			every = append(every, byte(c))
		}
	}
	for name, tc := range map[string]struct{ sent, want string }{
		"dots":           {sent: "..\r\n...\r\n..x\r\nx.\r\n. \r\n", want: ".\r\n..\r\n.x\r\nx.\r\n \r\n"},
		"all octets":     {sent: string(every) + "\r\n", want: string(every) + "\r\n"},
		"trailing space": {sent: "a \t \r\n \r\n", want: "a \t \r\n \r\n"},
		"a long line":    {sent: strings.Repeat("x", 1<<20) + "\r\n", want: strings.Repeat("x", 1<<20) + "\r\n"},
		"empty lines":    {sent: strings.Repeat("\r\n", 10000), want: strings.Repeat("\r\n", 10000)},
		"no line at all": {},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Config{}, reader)
			c := s.dial()
			c.hello()
			c.envelope()
			c.send(tc.sent + ".\r\nNOOP\r\n")
			c.want("250 ")
			c.want("250 2.0.0 Ok")
			if got := s.deliveries(); len(got) != 1 || got[0].body != tc.want {
				t.Errorf("%d messages, not one like the one sent", len(got))
			}
		})
	}
}

func TestDataCutAtEveryOctet(t *testing.T) { eachReader(t, dataCutAtEveryOctet) }

func dataCutAtEveryOctet(t *testing.T, reader func(*site)) {
	const dialogue = "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<b@c.example>\r\nDATA\r\n\r\n..\r\nx\r\n.\r\nMAIL FROM:<c@d.example>\r\nQUIT\r\n"
	s := serve(t, Config{Limits: Limits{PerIP: 1000}}, reader)
	for cut := 1; cut < len(dialogue); cut++ {
		c := s.dial()
		c.want("220")
		// The second piece is sent when all of the first has been read: when what it asks for has been answered.
		c.send(dialogue[:cut])
		replies := strings.Count(commandsOnly(dialogue[:cut]), "\r\n")
		for range replies {
			c.reply()
		}
		c.send(dialogue[cut:])
		total := strings.Count(commandsOnly(dialogue), "\r\n")
		last := ""
		for range total - replies {
			last = c.reply()
		}
		if !strings.HasPrefix(last, "221") && cut < len(dialogue)-1 {
			t.Fatalf("cut at %d: last reply %q", cut, last)
		}
		c.wantEnd()
	}
	for i, d := range s.deliveries() {
		if d.body != "\r\n.\r\nx\r\n" || d.from != "a@b.example" {
			t.Fatalf("cut %d: %+v", i+1, d)
		}
	}
	if got := len(s.deliveries()); got != len(dialogue)-1 {
		t.Errorf("%d messages, want %d", got, len(dialogue)-1)
	}
}

// commandsOnly leaves out the message, of which only the end is answered.
func commandsOnly(s string) string {
	before, data, ok := strings.Cut(s, "DATA\r\n")
	if !ok {
		return s
	}
	_, after, ok := strings.Cut("\r\n"+data, "\r\n.\r\n")
	if !ok {
		return before + "DATA\r\n"
	}
	return before + "DATA\r\n.\r\n" + after
}

func TestDataLimits(t *testing.T) { eachReader(t, dataLimits) }

func dataLimits(t *testing.T, reader func(*site)) {
	limits := Limits{DataLine: 20, MessageMax: 100}
	lines := func(n int) string { return strings.Repeat("12345678\r\n", n) }
	for name, tc := range map[string]struct {
		send, want string
		end        bool // the connection
	}{
		"as big as it may be":  {send: lines(10), want: "250 "},
		"with dots, unstuffed": {send: "..2345678\r\n" + lines(9), want: "250 "},
		"one octet more":       {send: lines(9) + "123456789\r\n", want: "552 5.3.4"},
		"almost twice":         {send: lines(19), want: "552 5.3.4"},
		"a flood":              {send: lines(5000), want: "552 5.3.4", end: true},
		"longest line":         {send: strings.Repeat("x", 20) + "\r\n", want: "250 "},
		"line too long":        {send: strings.Repeat("x", 21) + "\r\n", want: "554 5.6.0 Message refused: line 1 is longer than 20 octets"},
		"the first error stays": {send: "ok\r\nx\ny\r\n" + strings.Repeat("x", 21) + "\r\n",
			want: "554 5.5.2 Message refused: line 2 has a bare LF"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Config{Limits: limits}, reader)
			c := s.dial()
			c.hello()
			c.envelope()
			c.send(tc.send + ".\r\n")
			c.want(tc.want)
			if tc.end {
				c.wantEnd()
				if r := s.reason(); r != "message too big" {
					t.Errorf("reason %q", r)
				}
				if got := s.attempts(); !errors.Is(got[0].err, io.ErrUnexpectedEOF) || !errors.Is(got[0].dataErr, io.ErrUnexpectedEOF) {
					t.Errorf("the session saw %+v", got)
				}
				return
			}
			c.do("NOOP", "250 2.0.0 Ok")
			if good := len(s.deliveries()) == 1; good != strings.HasPrefix(tc.want, "250") {
				t.Errorf("deliveries: %+v", s.deliveries())
			}
		})
	}
}

func TestDataCutOff(t *testing.T) { eachReader(t, dataCutOff) }

func dataCutOff(t *testing.T, reader func(*site)) {
	for name, send := range map[string]string{
		"in a line":           "Subject: x\r\n\r\nhel",
		"behind a line":       "hello\r\n",
		"behind the dot":      "hello\r\n.",
		"in the end":          "hello\r\n.\r",
		"at once":             "",
		"while it is refused": "hel\nlo\r\n.",
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Config{}, reader)
			c := s.dial()
			c.hello()
			c.envelope()
			c.send(send)
			c.halfClose()
			c.wantEnd()
			if r := s.reason(); r != "client closed" {
				t.Errorf("reason %q", r)
			}
			got := s.attempts()
			if len(got) != 1 || !errors.Is(got[0].err, io.ErrUnexpectedEOF) || !errors.Is(got[0].dataErr, io.ErrUnexpectedEOF) {
				t.Errorf("the session saw %+v", got)
			}
		})
	}
}

// TestBodyLeftUnread: however much of the message the session reads, the next command is the one behind its end.
func TestBodyLeftUnread(t *testing.T) {
	message := strings.Repeat("..line\r\n", 10_000)
	for _, step := range []int{0, 1, 7, 100, 20_000} {
		for _, encrypted := range []bool{false, true} {
			s := serve(t, Config{TLS: testTLS(), ImplicitTLS: encrypted}, func(s *site) { s.readOnly, s.readUpTo = true, step })
			c := s.dial()
			if encrypted {
				c = c.encrypt()
			}
			c.hello()
			for range 2 {
				c.envelope()
				c.send(message + ".\r\nNOOP\r\n")
				c.want("452 4.3.1 no room")
				c.want("250 2.0.0 Ok")
			}
			for _, d := range s.attempts() {
				if want := strings.Repeat(".line\r\n", 10_000)[:step]; d.body != want || d.dataErr != nil {
					t.Errorf("%d octets: %d were read, %v", step, len(d.body), d.dataErr)
				}
			}
		}
	}
}

// TestBodyTooLate: once go-smtp's reader has begun, the message can't be had in the other form.
func TestBodyTooLate(t *testing.T) {
	var late error
	s := serve(t, Config{}, func(s *site) {
		s.byServer = true
		s.onData = func(c *smtpConn) { _, late = c.Body().Read(make([]byte, 10)) }
	})
	c := s.dial()
	c.hello()
	c.envelope()
	c.do("text\r\n.", "250 ")
	if !errors.Is(late, errBodyBegun) {
		t.Errorf("read: %v", late)
	}
}
