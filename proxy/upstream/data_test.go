package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// BeforeDot sees the message written and decides whether it is sent.
func TestBeforeDot(t *testing.T) {
	s := (&server{}).start(t)
	u := newUpstream(t, Config{Address: "smtp://" + s.addr()})
	var saw int
	body := text("Hello\r\n")
	body.BeforeDot = func() error {
		saw = len(s.messages())
		return nil
	}
	if result, err := deliver(context.Background(), mustOpen(t, u, Client{}), body, alice); err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	if saw != 0 || len(s.messages()) != 1 {
		t.Fatalf("%d messages at BeforeDot, %d after; expected 0 and 1", saw, len(s.messages()))
	}

	gone := errors.New("the client is gone")
	body = text("Hello\r\n")
	body.BeforeDot = func() error { return gone }
	c := mustOpen(t, u, Client{})
	result, err := deliver(context.Background(), c, body, alice)
	wantError(t, err, "data", false)
	if !errors.Is(err, gone) || result.Offered || c.Alive() {
		t.Fatalf("got %v, %v, alive %v", result, err, c.Alive())
	}
	u.Close()
	s.stopConns(t)
	if n := len(s.messages()); n != 1 {
		t.Fatalf("the withdrawn message was delivered: %d", n)
	}
}

// stopConns waits for all connections to be over.
func (s *server) stopConns(t *testing.T) {
	t.Helper()
	s.ln.Close()
	s.wg.Wait()
}

// A message that can't be read, or has line ends that some server may take for its end, is not sent to its end.
func TestBadMessage(t *testing.T) {
	broken := errors.New("disk on fire")
	cases := []struct {
		name   string
		body   Body
		is     error
		reason string
	}{
		{name: "read error", body: Body{Message: io.MultiReader(strings.NewReader("Hello\r\n"), errReader{broken})}, is: broken},
		{name: "truncated", body: Body{Message: io.MultiReader(strings.NewReader("Hello\r\n"), errReader{io.ErrUnexpectedEOF})}, is: io.ErrUnexpectedEOF, reason: "no fault of the next hop"},
		{name: "reader without progress", body: Body{Message: errReader{nil}}, is: io.ErrNoProgress},
		{name: "bare LF", body: text("a\r\nb\n.\r\nMAIL FROM:<x@example.com>\r\n"), is: ErrBareNewline, reason: "SMTP smuggling"},
		{name: "bare CR", body: text("a\r\nb\r.\r\n"), is: ErrBareNewline, reason: "SMTP smuggling"},
		{name: "CR CR LF", body: text("a\r\r\n.\r\r\n"), is: ErrBareNewline, reason: "SMTP smuggling"},
		{name: "LF first", body: text("\n.\r\n"), is: ErrBareNewline},
		{name: "CR last", body: text("abc\r"), is: ErrBareNewline, reason: "the CRLF that is added would make it \\r\\r\\n"},
		{name: "bare LF in the fields", body: Body{Fields: []byte("X: a\n.\r\n")}, is: ErrBareNewline},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := (&server{}).start(t)
			u := newUpstream(t, Config{Address: "smtp://" + s.addr()})
			result, err := deliver(context.Background(), mustOpen(t, u, Client{}), tc.body, alice)
			wantError(t, err, "data", false)
			if !errors.Is(err, tc.is) || errors.Is(err, ErrClosed) || result.Offered {
				t.Fatalf("got %v, %v; expected %v (%s)", result, err, tc.is, tc.reason)
			}
			s.stopConns(t)
			if n := len(s.messages()); n != 0 {
				t.Fatalf("%d messages delivered", n)
			}
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// Nothing is offered when no recipient was accepted.
func TestNoRecipient(t *testing.T) {
	for _, scheme := range []string{"smtp", "lmtp"} {
		s := &server{lmtp: scheme == "lmtp", hooks: map[string]hook{"rcpt": say("550 5.1.1 User unknown\r\n", true)}}
		s.start(t)
		c := mustOpen(t, newUpstream(t, Config{Address: scheme + "://" + s.addr()}), Client{})
		if r, err := c.Mail(context.Background(), Mail{From: bob}); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
		if r, err := c.Rcpt(context.Background(), Rcpt{To: alice}); err != nil || r.Code != 550 || r.Enhanced != "5.1.1" || r.Text() != "User unknown" {
			t.Fatal(r, err)
		}
		result, err := c.Data(context.Background(), text("Hello\r\n"))
		if err != nil || result.Reply.Code != 503 || !result.Reply.Own || result.Offered {
			t.Fatalf("got %v, %v; expected our own 503", result, err)
		}
	}
}

// LMTP gives each recipient its own reply (RFC 2033 section 4.2).
func TestLMTPReplies(t *testing.T) {
	cases := []struct {
		name    string
		replies string
		codes   []int // of Per
		code    int   // of Reply
		fails   bool
		reason  string
	}{
		{name: "all accepted", replies: "250 a\r\n250 b\r\n250 c\r\n", codes: []int{250, 250, 250}, code: 250},
		{name: "mixed", replies: "250 a\r\n452 4.2.2 full\r\n250 c\r\n", codes: []int{250, 452, 250}, reason: "no reply stands for all"},
		{name: "all refused", replies: "550 a\r\n550-b\r\n550 b\r\n550 c\r\n", codes: []int{550, 550, 550}, code: 550},
		{name: "breaks off", replies: "250 a\r\n550 b\r\n", codes: []int{250, 550}, fails: true, reason: "only the third is in doubt"},
		{name: "421 among them", replies: "250 a\r\n421 b\r\n250 c\r\n", codes: []int{250, 421, 250}, reason: "the others have theirs"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := &server{lmtp: true, hooks: map[string]hook{"dot": func(p *peer, _ string) bool {
				p.say(tc.replies)
				return !tc.fails
			}}}
			s.listen(t, "unix", unixSocket(t))
			c := mustOpen(t, newUpstream(t, Config{Address: "lmtp+unix:" + s.addr()}), Client{})
			result, err := deliver(context.Background(), c, text("Hello\r\n"), alice, bob, Path{Local: "carol", Domain: "example.org"})
			if tc.fails {
				wantError(t, err, "data", true)
			} else if err != nil {
				t.Fatal(err)
			}
			var codes []int
			for _, r := range result.Per {
				codes = append(codes, r.Code)
			}
			if !slices.Equal(codes, tc.codes) || result.Reply.Code != tc.code || !result.Offered {
				t.Fatalf("got %v; expected %v and %d (%s)", result, tc.codes, tc.code, tc.reason)
			}
		})
	}
}

// After a refusal of DATA the server still has the transaction (RFC 5321 section 3.3). It is not mixed with the next one.
func TestTransactionAfterRefusedData(t *testing.T) {
	refuse := true
	s := &server{keywords: []string{"PIPELINING"}}
	s.hooks = map[string]hook{"data": func(p *peer, _ string) bool {
		if refuse {
			refuse = false
			p.say("451 4.3.0 Not now\r\n")
			return true
		}
		return p.takeMessage()
	}}
	s.start(t)
	c := mustOpen(t, newUpstream(t, Config{Address: "smtp://" + s.addr()}), Client{})
	for _, want := range []int{451, 250} {
		if result, err := deliver(context.Background(), c, text("x\r\n"), alice); err != nil || result.Reply.Code != want {
			t.Fatalf("got %v, %v; expected %d", result, err, want)
		}
	}
	if got := connections(s, "RSET"); got != "1" {
		t.Fatalf("RSET on connections %q, expected one", got)
	}
	if mail := s.messages(); len(mail) != 1 || len(mail[0].to) != 1 {
		t.Fatalf("got %v", mail)
	}
}

// What is stuffed, and how the pieces of a message fit together.
func TestDots(t *testing.T) {
	cases := []struct{ name, fields, message, want, reason string }{
		{name: "plain", fields: "A: b\r\n", message: "C: d\r\n\r\nText\r\n", want: "A: b\r\nC: d\r\n\r\nText\r\n.\r\n"},
		{name: "dots", message: ".\r\n..\r\na.\r\n.a\r\n", want: "..\r\n...\r\na.\r\n..a\r\n.\r\n"},
		{name: "dot after the fields", fields: "A: b\r\n", message: ".x\r\n", want: "A: b\r\n..x\r\n.\r\n", reason: "the state goes over the seam"},
		{name: "fields without line end", fields: "A: b", message: ".x\r\n", want: "A: b.x\r\n.\r\n", reason: "not at the beginning of a line"},
		{name: "no last line end", message: "a", want: "a\r\n.\r\n"},
		{name: "lone dot without line end", message: ".", want: "..\r\n.\r\n"},
		{name: "empty", want: ".\r\n"},
		{name: "empty lines", message: "\r\n\r\n", want: "\r\n\r\n.\r\n"},
		{name: "8-bit and NUL", message: "\x00\xff\x80\r\n", want: "\x00\xff\x80\r\n.\r\n", reason: "passed as they are"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var got bytes.Buffer
			s := &server{hooks: map[string]hook{"body": func(p *peer, _ string) bool {
				for {
					line, err := p.r.ReadString('\n')
					got.WriteString(line)
					if err != nil {
						return false
					}
					if line == ".\r\n" {
						p.say("250 ok\r\n")
						return true
					}
				}
			}}}
			s.start(t)
			c := mustOpen(t, newUpstream(t, Config{Address: "smtp://" + s.addr()}), Client{})
			// A reader that gives single octets finds the seams between blocks.
			body := Body{Fields: []byte(tc.fields), Message: oneByOne{strings.NewReader(tc.message)}}
			if result, err := deliver(context.Background(), c, body, alice); err != nil || result.Reply.Code != 250 {
				t.Fatal(result, err)
			}
			if got.String() != tc.want {
				t.Fatalf("got %q, expected %q (%s)", got.String(), tc.want, tc.reason)
			}
		})
	}
}

type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

// A writes keeps what is written to it, write by write.
type writes struct {
	net.Conn
	all []string
}

func (w *writes) Write(p []byte) (int, error) {
	w.all = append(w.all, string(p))
	return len(p), nil
}

func (w *writes) SetWriteDeadline(time.Time) error { return nil }

// A message that fits into a block waits for its final dot and leaves with it; a larger one is sent before the dot is allowed.
func TestSmallMessageLeavesWhole(t *testing.T) {
	const fields = "Received: here\r\n"
	for _, tc := range []struct {
		name  string
		size  int
		whole bool
	}{
		{name: "small", size: 100, whole: true},
		{name: "with the dot exactly a block", size: blockSize - len(fields) - len("\r\n.\r\n"), whole: true},
		{name: "an octet more", size: blockSize - len(fields) - len("\r\n.\r\n") + 1},
		{name: "several blocks", size: 3 * blockSize},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sock := &writes{}
			out := newBodyWriter(newLine(sock, "", Timeouts{}, func() {}))
			defer out.release()
			message := strings.Repeat("a", tc.size)
			if err := out.take(Body{Fields: []byte(fields), Message: strings.NewReader(message)}); err != nil {
				t.Fatal(err)
			}
			if tc.whole != out.whole() || tc.whole != (len(sock.all) == 0) {
				t.Fatalf("whole %v with %d writes before the dot", out.whole(), len(sock.all))
			}
			if tc.whole {
				if err := out.dot(); err != nil {
					t.Fatal(err)
				}
				if len(sock.all) != 1 || out.end != "" {
					t.Fatalf("%d writes, %q left", len(sock.all), out.end)
				}
			}
			if got := strings.Join(sock.all, "") + out.end; got != fields+message+"\r\n.\r\n" {
				t.Fatalf("%d octets were sent, expected %d", len(got), len(fields+message+"\r\n.\r\n"))
			}
		})
	}
}
