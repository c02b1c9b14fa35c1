package peertest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"strings"
	"sync"
	"testing"
)

func TestParseReplyLine(t *testing.T) {
	for _, tc := range []struct {
		line string
		code int
		more bool
		text string
		bad  bool
	}{
		{line: "250 ok\r\n", code: 250, text: "ok"},
		{line: "250-more\r\n", code: 250, more: true, text: "more"},
		{line: "250\r\n", code: 250}, // RFC 5321 section 4.2: the text may be missing
		{line: "250 \r\n", code: 250},
		{line: "250 ok\n", bad: true}, // a bare LF ends no reply line
		{line: "25\r\n", bad: true},
		{line: "abc ok\r\n", bad: true},
		{line: "250_ok\r\n", bad: true},
		{line: "199 ok\r\n", bad: true}, // SMTP has no replies below 200
		{line: "600 ok\r\n", bad: true},
	} {
		code, more, text, err := parseReplyLine(tc.line)
		if (err != nil) != tc.bad {
			t.Errorf("%q: error %v, want one: %v", tc.line, err, tc.bad)
			continue
		}
		if code != tc.code || more != tc.more || text != tc.text {
			t.Errorf("%q is %d, %v, %q", tc.line, code, more, text)
		}
	}
}

// A reply may come before the message has ended; the client must be able to see it while it still sends.
func TestReplyInTheMiddleOfAMessage(t *testing.T) {
	s := StartSink(t, Sink{BytesAt: 10, Script: func(e Event) Answer {
		if e.Verb == "BYTES" {
			return Answer{Reply: "552 5.3.4 Too big", Close: true}
		}
		return Answer{}
	}})
	c := Dial(t, s.Addr)
	c.Expect(220)
	c.Want("HELO client.example", 250)
	c.Want("MAIL FROM:<>", 250)
	c.Want("RCPT TO:<alice@example.org>", 250)
	c.Want("DATA", 354)
	c.Send("0123456789\r\n")
	c.Expect(552)
	c.WantClosed()
	if got := s.Transactions(); len(got) != 0 {
		t.Errorf("a message without its end is recorded as answered: %+v", got)
	}
}

func TestEndsOfAConnection(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(*Client)
	}{
		{"half closed", (*Client).CloseWrite},
		{"closed", (*Client).Close},
		{"reset", (*Client).Reset},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eof := make(chan Event, 1)
			s := StartSink(t, Sink{Script: func(e Event) Answer {
				if e.Verb == "EOF" {
					eof <- e
				}
				return Answer{}
			}})
			c := Dial(t, s.Addr)
			c.Expect(220)
			c.Want("HELO client.example", 250)
			tc.end(c)
			if e := <-eof; e.Tx.Helo != "HELO client.example" {
				t.Errorf("the sink sees %+v", e)
			}
		})
	}
}

func TestReplyTellsHowAConnectionEnds(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script Answer
		want   error
	}{
		{"closed without a word", Answer{Close: true}, io.EOF},
		{"closed within a line", Answer{Raw: "250 o", Close: true}, io.ErrUnexpectedEOF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := StartSink(t, Sink{Script: func(e Event) Answer {
				if e.Verb == "NOOP" {
					return tc.script
				}
				return Answer{}
			}})
			c := Dial(t, s.Addr)
			c.Expect(220)
			c.Send("NOOP\r\n")
			if _, _, err := c.Reply(); !errors.Is(err, tc.want) {
				t.Errorf("error is %v, want %v", err, tc.want)
			}
		})
	}
}

func TestSinkServesManyAtOnce(t *testing.T) {
	s := StartSink(t, Sink{Script: func(e Event) Answer {
		if e.Verb == "RCPT" && strings.Contains(e.Line, "7@") {
			return Answer{Reply: "550 5.1.1 Not seven"}
		}
		return Answer{}
	}})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			to := fmt.Sprintf("user%d@example.org", i)
			err := smtp.SendMail(s.Addr, nil, "eve@example.com", []string{to}, fmt.Appendf(nil, "Subject: %d\r\n\r\nx\r\n", i))
			if refused := strings.HasPrefix(to, "user7@") || strings.HasPrefix(to, "user17@"); (err != nil) != refused {
				t.Errorf("%s: %v", to, err)
			}
		})
	}
	wg.Wait()
	subjects := map[string]bool{}
	for _, tx := range s.Wait(18) {
		subjects[string(tx.Data)] = true
	}
	if len(subjects) != 18 || s.Connections() != 20 {
		t.Errorf("%d different messages over %d connections, want 18 over 20", len(subjects), s.Connections())
	}
}

func TestDialSeesTheAddress(t *testing.T) {
	s := StartSink(t, Sink{})
	c := Dial(t, s.Addr)
	c.Expect(220)
	if tcp, ok := c.LocalAddr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		t.Errorf("the client's address is %v, want loopback", c.LocalAddr())
	}
	if got := c.Transcript(); !strings.Contains(got, `S: "220 sink.example ESMTP sink\r\n"`) {
		t.Errorf("the transcript is %q", got)
	}
}
