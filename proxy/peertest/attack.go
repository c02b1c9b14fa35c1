package peertest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// An Attack is a client that means no good, or that is broken beyond hope: it goes on until the server ends the connection.
// What it says at EHLO is its name under attack.example, so that its session is found in the log.
type Attack struct {
	Name   string
	Reason string // regular expression for why the server says that the session ended
	Reply  string // regular expression for the last line that the client hears, if it hears one
	// Timed attacks end by a time limit of the server's, which a test sets low.
	Timed bool
	// TLS attacks need a server that offers STARTTLS.
	TLS bool

	play func(*attacker)
}

// An Outcome is what became of an attack.
type Outcome struct {
	Last string // line heard
	Sent int64  // octets
	Err  error  // the attack could not be carried out, or the server did not end it
	// Open is the connection of a client that does not listen and so can't know whether the server has ended it: to be closed
	// when the server has said so. Else nil.
	Open io.Closer
}

// attackPatience is how long an attack goes on if the server lets it, and attackMost how many octets it sends then.
const (
	attackPatience = 2 * time.Minute
	attackMost     = 256 << 20
)

// Host is the name that the attack gives at EHLO.
func (a Attack) Host() string { return a.Name + ".attack.example" }

// Run attacks the server at the address, which takes mail for alice@example.org and none for elsewhere.example.
func (a Attack) Run(addr string) (out Outcome) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return Outcome{Err: err}
	}
	defer func() {
		if out.Open == nil {
			conn.Close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(attackPatience)); err != nil {
		return Outcome{Err: err}
	}
	k := &attacker{attack: a, conn: conn, in: bufio.NewReader(conn)}
	a.play(k)
	if k.out.Open == nil {
		k.untilEnd()
	}
	return k.out
}

// An attacker is the connection of an attack.
type attacker struct {
	attack Attack
	conn   net.Conn
	in     *bufio.Reader
	out    Outcome
	over   bool // the server has ended the connection
}

// write sends octets; false when the connection is over.
func (k *attacker) write(s string) bool {
	if k.over || k.out.Err != nil {
		return false
	}
	n, err := io.WriteString(k.conn, s)
	k.out.Sent += int64(n)
	if err != nil && !isGone(err) {
		k.out.Err = fmt.Errorf("after %d octets: %w", k.out.Sent, err)
	}
	return err == nil
}

// isGone reports whether an error says that the other side has closed the connection.
func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// hear reads one reply and gives its last line, "" when the connection is over.
func (k *attacker) hear() string {
	for !k.over && k.out.Err == nil {
		line, err := k.in.ReadString('\n')
		if err != nil {
			k.over = true
			if !isGone(err) {
				k.out.Err = fmt.Errorf("the server does not end it: %w, last heard %q", err, k.out.Last)
			}
			return ""
		}
		line = strings.TrimRight(line, "\r\n")
		k.out.Last = line
		if len(line) < 4 || line[3] != '-' {
			return line
		}
	}
	return ""
}

// say sends a line and reads the reply.
func (k *attacker) say(line string) string {
	k.write(line + "\r\n")
	return k.hear()
}

// hello goes as far as the reply to EHLO.
func (k *attacker) hello() {
	k.hear()
	k.say("EHLO " + k.attack.Host())
}

// envelope goes as far as the first recipient.
func (k *attacker) envelope() {
	k.hello()
	k.say("MAIL FROM:<carol@good.example>")
	k.say("RCPT TO:<alice@example.org>")
}

// data goes as far as 354.
func (k *attacker) data() {
	k.envelope()
	k.say("DATA")
}

// endlessly says lines, each after the reply to the one before.
func (k *attacker) endlessly(line func(n int) string) {
	for n := 0; k.out.Sent < attackMost; n++ {
		if k.say(line(n)) == "" {
			return
		}
	}
}

// flood sends without waiting, while what is heard is read.
func (k *attacker) flood(piece func(n int) string) {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		k.untilEnd()
	}()
	sent := int64(0)
	for n := 0; sent < attackMost; n++ {
		m, err := io.WriteString(k.conn, piece(n))
		sent += int64(m)
		if err != nil {
			break
		}
	}
	<-heard
	k.out.Sent += sent
}

// untilEnd reads until the server ends the connection.
func (k *attacker) untilEnd() {
	for k.hear() != "" {
	}
}

func always(s string) func(int) string { return func(int) string { return s } }

// trickle sends the octets one by one, over and over, with a pause after each.
func (k *attacker) trickle(s string) {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		k.untilEnd()
	}()
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for n := 0; ; n++ {
		select {
		case <-heard:
			return
		case <-pause.C:
		}
		if _, err := io.WriteString(k.conn, s[n%len(s):n%len(s)+1]); err != nil {
			<-heard
			return
		}
	}
}

// injectBeforeTLS pipelines a command in plain text behind STARTTLS, and sees whether it counts as one that came encrypted.
func (k *attacker) injectBeforeTLS() {
	k.hello()
	k.write("STARTTLS\r\nMAIL FROM:<injected@good.example>\r\nRCPT TO:<alice@example.org>\r\n")
	if !strings.HasPrefix(k.hear(), "220 ") {
		return
	}
	if k.in.Buffered() > 0 {
		k.out.Err = errors.New("what was sent in plain text behind STARTTLS has been answered")
		return
	}
	c := tls.Client(k.conn, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		k.out.Err = fmt.Errorf("the handshake after what was injected: %w", err)
		return
	}
	k.conn, k.in = c, bufio.NewReader(c)
	k.say("EHLO " + k.attack.Host())
	if r := k.say("RCPT TO:<alice@example.org>"); !strings.HasPrefix(r, "503 ") {
		k.out.Err = fmt.Errorf("a sender that was given in plain text counts under TLS: %q", r)
	}
	k.say("QUIT")
}

// neverRead asks for replies and takes none.
func (k *attacker) neverRead() {
	k.hello()
	if t, ok := k.conn.(*net.TCPConn); ok {
		// A failure leaves a larger buffer, which is filled just as well.
		_ = t.SetReadBuffer(4 << 10)
	}
	ask := strings.Repeat("EHLO "+k.attack.Host()+"\r\n", 50)
	k.out.Open = k.conn
	for k.out.Sent < attackMost {
		// When nothing goes out any more it is the server's turn.
		if k.conn.SetWriteDeadline(time.Now().Add(time.Second)) != nil {
			return
		}
		n, err := io.WriteString(k.conn, ask)
		if k.out.Sent += int64(n); err != nil {
			return
		}
	}
}

// vanish resets the connection in the middle of a message.
func (k *attacker) vanish() {
	k.data()
	k.write("Subject: cut off\r\n")
	if t, ok := k.conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	k.conn.Close()
	k.over = true
}

// halfClose says that nothing more will come, and stays.
func (k *attacker) halfClose() {
	k.data()
	k.write("Subject: cut off\r\n")
	if t, ok := k.conn.(*net.TCPConn); ok {
		if err := t.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
			k.out.Err = err
		}
	}
}

// Attacks are all of them.
func Attacks() []Attack {
	const tooMany, tooBig, timeout = "^too many commands$", "^message too big$", "^(idle|session) timeout$"
	return []Attack{
		{Name: "endless-commands", Reason: tooMany, Reply: "^421 4.7.0 .*too many commands", play: func(k *attacker) {
			k.hello()
			k.endlessly(always("NOOP"))
		}},
		{Name: "endless-commands-unread", Reason: tooMany, Reply: "^421 4.7.0 .*too many commands", play: func(k *attacker) {
			k.hello()
			k.flood(always("NOOP\r\nVRFY x\r\n"))
		}},
		{Name: "endless-errors", Reason: "^too many errors$", Reply: "^421 4.7.0 .*too many errors", play: func(k *attacker) {
			k.hello()
			k.endlessly(func(n int) string { return fmt.Sprintf("GIBBERISH %d", n) })
		}},
		{Name: "endless-ehlo", Reason: tooMany, Reply: "^421 4.7.0", play: func(k *attacker) {
			k.hello()
			k.endlessly(always("EHLO " + k.attack.Host()))
		}},
		{Name: "rset-storm", Reason: tooMany, Reply: "^421 4.7.0", play: func(k *attacker) {
			k.hello()
			k.endlessly(always("RSET"))
		}},
		{Name: "mail-rset-storm", Reason: tooMany, Reply: "^421 4.7.0", play: func(k *attacker) {
			k.hello()
			k.endlessly(func(n int) string { return [...]string{"MAIL FROM:<carol@good.example>", "RSET"}[n%2] })
		}},
		{Name: "endless-recipients", Reason: tooMany, Reply: "^421 4.7.0", play: func(k *attacker) {
			k.envelope()
			k.endlessly(always("RCPT TO:<alice@example.org>"))
		}},
		{Name: "endless-strangers", Reason: "^closed by 421$", Reply: "^421 4.7.0 Too many recipients were refused", play: func(k *attacker) {
			k.hello()
			k.say("MAIL FROM:<carol@good.example>")
			k.endlessly(func(n int) string { return fmt.Sprintf("RCPT TO:<user%d@elsewhere.example>", n) })
		}},
		{Name: "endless-line", Reason: "^line too long$", Reply: "^500 5.5.2 Line too long", play: func(k *attacker) {
			k.hello()
			k.flood(always(strings.Repeat("A", 4096)))
		}},
		{Name: "endless-bare-newlines", Reason: "^bare LF$", Reply: "^500 5.5.2 Lines must end in CRLF", play: func(k *attacker) {
			k.hello()
			k.flood(always("NOOP\n"))
		}},
		{Name: "endless-headers", Reason: tooBig, Reply: "^552 5.3.4", play: func(k *attacker) {
			k.data()
			k.flood(always(strings.Repeat("X-Field: value\r\n", 256)))
		}},
		{Name: "endless-folding", Reason: tooBig, Reply: "^552 5.3.4", play: func(k *attacker) {
			k.data()
			k.write("Subject: begins\r\n")
			k.flood(always(strings.Repeat(" and goes on\r\n", 256)))
		}},
		{Name: "endless-header-line", Reason: tooBig, Reply: "^55[24] 5", play: func(k *attacker) {
			k.data()
			k.write("Subject: ")
			k.flood(always(strings.Repeat("A", 4096)))
		}},
		{Name: "endless-dots", Reason: tooBig, Reply: "^552 5.3.4", play: func(k *attacker) {
			k.data()
			k.write("Subject: dots\r\n\r\n")
			k.flood(always(strings.Repeat("..\r\n", 1024)))
		}},
		{Name: "endless-bare-lines", Reason: tooBig, Reply: "^554 5.5.2", play: func(k *attacker) {
			k.data()
			k.flood(always(strings.Repeat("a\nb\r\n.\n", 512)))
		}},
		{Name: "huge-chunk", Reason: tooBig, Reply: "^552 5.3.4", play: func(k *attacker) {
			k.hello()
			k.say("BDAT 99999999999")
		}},
		{Name: "browser", Reason: "^not smtp$", Reply: "^554 5.5.1", play: func(k *attacker) {
			k.hello()
			k.flood(always("POST / HTTP/1.1\r\nHost: mx.example.org\r\n\r\n"))
		}},
		{Name: "tls-without-starttls", Reason: "^tls on a plain text port$", Reply: "^500 5.5.2", play: func(k *attacker) {
			k.hello()
			k.write("\x16\x03\x01\x02\x00\x01")
		}},
		{Name: "starttls-injection", TLS: true, Reason: "^quit$", Reply: "^221 ", play: (*attacker).injectBeforeTLS},
		{Name: "starttls-garbage", TLS: true, Reason: "^tls handshake failed: ", Reply: "^220 2.0.0", play: func(k *attacker) {
			k.hello()
			k.say("STARTTLS")
			k.write(strings.Repeat("EHLO x\r\n", 100))
		}},
		{Name: "half-closed", Reason: "^client closed$", play: (*attacker).halfClose},
		{Name: "vanished", Reason: "^(reset|client closed)$", play: (*attacker).vanish},

		{Name: "half-command", Timed: true, Reason: timeout, Reply: "^421 4.4.2", play: func(k *attacker) {
			k.hello()
			k.write("MAIL FROM:<ca")
		}},
		{Name: "slow-command", Timed: true, Reason: timeout, Reply: "^421 4.4.2", play: func(k *attacker) {
			k.hello()
			k.trickle(strings.Repeat("NOOP ", 300))
		}},
		{Name: "silent-in-data", Timed: true, Reason: timeout, Reply: "^421 4.4.2", play: func(k *attacker) {
			k.data()
			k.write("Subject: wait for it\r\n")
		}},
		{Name: "slow-data", Timed: true, Reason: timeout, Reply: "^421 4.4.2", play: func(k *attacker) {
			k.data()
			k.trickle("Subject: slow\r\n")
		}},
		{Name: "half-handshake", TLS: true, Timed: true, Reason: "^tls handshake failed: timeout$", Reply: "^220 2.0.0", play: func(k *attacker) {
			k.hello()
			k.say("STARTTLS")
			k.write("\x16\x03\x01\x02\x00")
		}},
		{Name: "never-reads", Timed: true, Reason: "^(write timeout|idle timeout|session timeout|too many commands)$", play: (*attacker).neverRead},
	}
}
