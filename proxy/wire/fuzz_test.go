package wire

import (
	"bytes"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A nolistener never accepts.
type nolistener struct{}

func (nolistener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (nolistener) Close() error              { return nil }
func (nolistener) Addr() net.Addr            { return &net.TCPAddr{} }

var replyLines = regexp.MustCompile(`^(?:[2-5][0-9]{2}[- ][ -~]{0,508}\r\n)*$`)

// A scripted is a connection whose client has sent all it will ever send.
type scripted struct {
	net.Conn // nil: only what is defined here is used
	in       *bytes.Reader
	cut      int // the most that one read gives
	out      bytes.Buffer
}

func (s *scripted) Read(b []byte) (int, error) {
	return s.in.Read(b[:min(len(b), s.cut)])
}

func (s *scripted) Write(b []byte) (int, error)      { return s.out.Write(b) }
func (s *scripted) Close() error                     { return nil }
func (s *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711} }
func (s *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }

// talk plays go-smtp's part: it answers every command with 250, DATA with 354, and the end of a message with 250.
func talk(t *testing.T, s *scripted, cfg Config) (commands, messages []string, unsynced bool) {
	t.Helper()
	l := NewListener(nolistener{}, cfg)
	k := &link{l: l, cfg: l.cfg.Load(), sock: s, started: time.Now(), attached: true}
	k.in = newInput(s)
	c := &Conn{link: k}
	say := func(r string) {
		if _, err := io.WriteString(c, r); err != nil {
			t.Fatalf("writing a reply: %v", err)
		}
	}
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b) // at first it does what await does
		if err != nil {
			return commands, messages, k.unsynced
		}
		k.withServer = true
		cmd := string(b[:n])
		for len(cmd) > 0 && !strings.HasSuffix(cmd, "\r\n") {
			if n, err = c.Read(b); err != nil {
				t.Fatalf("half a command: %q", cmd)
			}
			cmd += string(b[:n])
		}
		commands = append(commands, cmd)
		if cmd != "DATA\r\n" {
			say("250 2.0.0 yes\r\n")
			continue
		}
		say("354 go\r\n")
		var m strings.Builder
		for !strings.HasSuffix("\r\n"+m.String(), "\r\n.\r\n") {
			if n, err = c.Read(b); err != nil {
				return commands, messages, k.unsynced
			}
			m.Write(b[:n])
		}
		body, err := undot(m.String())
		if err != nil {
			t.Fatalf("passed on %q: %v", m.String(), err)
		}
		if c.DataErr() == nil {
			messages = append(messages, body)
		}
		say("250 2.0.0 yes\r\n")
	}
}

var commandLine = regexp.MustCompile(`^(?:(?:EHLO|HELO) [^\x00-\x08\x0a-\x1f\x7f]+|MAIL (?i:FROM:)[^\x00-\x08\x0a-\x1f\x7f]*|RCPT (?i:TO:)[^\x00-\x08\x0a-\x1f\x7f]*|DATA|RSET)\r\n$`)

func FuzzCommands(f *testing.F) {
	for _, s := range []string{
		"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n",
		"HELO x\r\nmail\tfrom:<a@b>\r\nRCPT TO:<postmaster>\r\nDATA\r\n..\n.\r\n.\r\nRSET\r\nMAIL FROM:<>\r\n",
		"EHLO x\r\nMAIL FROM:<>\r\nDATA\r\nRSET\r\nMAIL FROM:<>\r\n",
		"EHLO x\nMAIL FROM:<>\r\n\nQUIT\r\n",
		"BDAT 5\r\nhelloNOOP\r\nBDAT 5 LAST\r\nhello\r\nVRFY\r\nHELP\r\nSTARTTLS\r\n",
		"XCLIENT ADDR=192.0.2.1\r\nGET / HTTP/1.1\r\n",
		strings.Repeat("x", 3000) + "\r\nNOOP\r\n",
		"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n\n" + strings.Repeat("x", 500) + "\r\n.\r\nRSET\r\n", // too much to look for its end
		"\x16\x03\x01\x00", "\r\r\n\n\x00\r\n",
	} {
		f.Add([]byte(s), uint8(0), true)
		f.Add([]byte(s), uint8(200), false)
	}
	f.Fuzz(func(t *testing.T, input []byte, cut uint8, normalise bool) {
		cfg := Config{Hostname: "mx.test", XClientFrom: loopback(), Limits: Limits{CommandLine: 64, DataLine: 40, MessageMax: 200}}
		if normalise {
			cfg.BareNewline = Normalise
		}
		run := func(cut int) (commands, messages []string, heard string, unsynced bool) {
			s := &scripted{in: bytes.NewReader(input), cut: cut}
			commands, messages, unsynced = talk(t, s, cfg)
			return commands, messages, s.out.String(), unsynced
		}
		commands, messages, heard, unsynced := run(int(cut) + 1)
		for _, c := range commands {
			if !commandLine.MatchString(c) {
				t.Errorf("a command that is none: %q", c)
			}
			if len(c) > 64+len("postmaster@mx.test") {
				t.Errorf("a command of %d octets", len(c))
			}
		}
		if !replyLines.MatchString(heard) {
			t.Errorf("replies %q", heard)
		}
		// How the network cuts the input must not matter to what is taken from it, but for what was sent ahead of a refused DATA.
		commands2, messages2, _, unsynced2 := run(1 << 20)
		if unsynced || unsynced2 {
			return
		}
		if strings.Join(commands, "") != strings.Join(commands2, "") || strings.Join(messages, "\x00") != strings.Join(messages2, "\x00") {
			t.Errorf("cut after %d: %q, %q\nin one piece: %q, %q", int(cut)+1, commands, messages, commands2, messages2)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add([]byte("250-a\r\n250 b\r\n"), []byte("421 bye\r\n"))
	f.Add([]byte("250-a\r\n25"), []byte("0 b\r\n"))
	f.Add([]byte("2000"), []byte("\n"))
	f.Add([]byte("0 x\r\n"), []byte("\r\n\n\x00"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		s := &scripted{in: bytes.NewReader([]byte("RSET\r\n")), cut: 100}
		l := NewListener(nolistener{}, Config{})
		k := &link{l: l, cfg: l.cfg.Load(), sock: s, started: time.Now(), attached: true}
		k.greeted, k.withServer = true, true
		k.in = newInput(s)
		c := &Conn{link: k}
		if n, err := c.Read(make([]byte, 100)); n != 6 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		for _, p := range [][]byte{a, b} {
			if n, err := c.Write(p); n != len(p) || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		}
		if got := s.out.String(); !replyLines.MatchString(got) {
			t.Errorf("%q then %q: the client hears %q", a, b, got)
		}
	})
}
