// Package wire owns the SMTP client's socket. It stands between the network and go-smtp's server and hands that server
// nothing but well-formed SMTP.
//
// # The protocol, for a newcomer
//
// SMTP (RFC 5321) is a dialogue of lines. The server greets with "220 …", the client sends one command a line (EHLO,
// MAIL, RCPT, DATA, RSET, NOOP, QUIT), and the server answers each with one reply: a three-digit code, a hyphen on all
// lines but the last, a text. Every line ends in CR LF and in nothing else (RFC 5321 section 2.3.8). After DATA has been
// answered 354 the client sends the message; a line that holds a single dot ends it, and a line of the message that
// begins with a dot has that dot doubled (section 4.5.2). So the five octets CR LF "." CR LF, and only they, end a message.
//
// Servers that see an end elsewhere, in "\n.\n" or "\r\n.\r" say, can be made to take one message for two, the second
// of them forged in the name of the first's server: SMTP smuggling. This package reads what was sent, to the letter, and refuses a
// message with a CR, LF or NUL out of place; or, where [Normalise] is set, rewrites it so that nobody behind can read it
// otherwise.
//
// # How it works
//
// [NewListener] wraps a listener; [Listener.Accept] gives connections to an smtp.Server whose TLSConfig is nil,
// MaxLineLength 0 and ReadTimeout 0. The wire does by itself, before go-smtp hears of the connection, all that comes
// before the first command: limits, the PROXY header (a load balancer in front names the real client), implicit TLS,
// the wait for clients that talk early, the banner. So it does HELO, EHLO and what
// else may come before the first MAIL. Only then is the connection given to Accept; an idle connection thus costs no buffer. go-smtp's own
// greeting is swallowed, and it is told the client's HELO or EHLO before it gets the MAIL.
//
// From then on each Read by go-smtp gives one whole command, or the octets of a message up to its end, and never one
// octet more: what a client sends ahead stays here, where a STARTTLS can drop it (RFC 3207 section 4.2) and a refused DATA can
// tell it from commands. Each Write collects a reply until it is complete. The wire answers what go-smtp would answer wrongly or count as an error:
// unknown verbs, broken lines, commands out of sequence, BDAT, AUTH, STARTTLS, XCLIENT, QUIT. It replaces the reply to EHLO.
//
// The session finds its connection as c.Conn().(*wire.Conn) and asks it what go-smtp hides: [Conn.RemoteAddr] behind proxies,
// [Conn.TLS], [Conn.Extended], [Conn.Offered], after each message [Conn.DataErr], and before the upstream hears the final dot [Conn.Alive].
//
// STARTTLS and XCLIENT set the dialogue back to its start. The wire ends go-smtp's connection there, so that its session is
// logged out, and presents the same socket to Accept as a new connection: no state can leak across.
package wire

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
)

// Newline says what is done about a CR or LF that is not part of a CRLF.
type Newline uint8

const (
	// Reject refuses the message (554 5.5.2) or command (500 5.5.2).
	Reject Newline = iota
	// Normalise makes each bare CR or LF of a message a CRLF, and takes a bare LF as the end of a command. What ends
	// the message is still decided by the octets as sent. NUL, and a bare CR in a command, are refused.
	Normalise
)

func (n Newline) String() string {
	if n == Normalise {
		return "normalise"
	}
	return "reject"
}

// Config is what a listener needs to know. It is copied by NewListener and SetConfig; the slices are not written to.
type Config struct {
	Hostname string // our name: banner, first word of the EHLO reply, 221, 421
	// Keywords gives the EHLO keywords that the upstreams offer now ("SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN").
	// PIPELINING, ENHANCEDSTATUSCODES, STARTTLS and XCLIENT are the wire's own; CHUNKING, BINARYMIME and AUTH are never offered.
	Keywords func() []string

	TLS         *tls.Config // nil: no STARTTLS
	ImplicitTLS bool        // the client begins with the handshake (RFC 8314); needs TLS

	ProxyFrom   []netip.Prefix // peers that must send a PROXY header, version 1 or 2
	XClientFrom []netip.Prefix // peers that may use XCLIENT
	Exempt      []netip.Prefix // clients that no limit by address or network is for
	Census      *Census        // shared with other listeners; nil: one of its own. SetConfig does not change it

	BareNewline Newline
	// PostmasterDomain completes "RCPT TO:<Postmaster>" (RFC 5321 section 4.5.1) to postmaster@PostmasterDomain. Empty: Hostname.
	PostmasterDomain string
	Limits           Limits

	// EarlyWait says how long the banner is held back to see whether this client talks first. Nil: it is not held back, and a client
	// is an early talker only if its octets are there when the connection is accepted. Clients in Exempt and XClientFrom are not asked about.
	EarlyWait func(*Conn) time.Duration
	// Open is called once per connection, after the limits and the PROXY header, before TLS and banner. A reply refuses the connection:
	// the wire writes it in place of the banner and closes.
	Open func(*Conn) (refusal *Reply)
	// Greet is called when the banner is due: after the wait, and after the handshake of implicit TLS. A reply is written in its place, and
	// the connection is closed. It may take its time, while which nothing is read.
	Greet func(*Conn) (refusal *Reply)
	// Hello is called when the client has said HELO or EHLO (see Conn.Extended) and go-smtp does not have the connection yet: the
	// first time, and again where the client says it again before MAIL, or behind STARTTLS or XCLIENT. A reply refuses the greeting. When
	// go-smtp gets the connection, at the first MAIL, its session finds the greeting that was accepted last.
	Hello func(c *Conn, name string) (refusal *Reply)
	// Closed is called once for each connection for which Open was (or would have been) called, when it is over. It may run in any goroutine.
	Closed func(*Conn)

	Log *slog.Logger     // of what has no session to be logged with: bad PROXY headers, limits reached; nil: none
	Now func() time.Time // for Conn.Started and the pace of the log; deadlines are the system's. Nil: time.Now
}

// Limits bounds what one client, or all of them, may take. A zero field has the default that stands beside it.
type Limits struct {
	Connections int // at once: 2000
	PerIP       int // at once from one address: 20
	PerNet      int // at once from one /24 (IPv4) or /64 (IPv6): five times PerIP
	Arrivals    int // new ones from one address within a minute: 600
	ArrivalsNet int // likewise from one /24 or /64: five times Arrivals

	CommandLine int   // octets of a command with its CRLF: 2048, at most 8192 (RFC 5321 section 4.5.3.1.4 says 512 and more for extensions)
	DataLine    int   // octets of a line of the message without its CRLF: 1 MiB (section 4.5.3.1.6 says 998; real mail has more)
	MessageMax  int64 // octets of a message: 50 MiB. Of one that is refused up to twice as many are read to find its end, then the connection is closed

	Handshake time.Duration // for a PROXY header or a TLS handshake as a whole: 30s
	Idle      time.Duration // for a whole command, and for the client to take a reply: 5m (section 4.5.3.2.7)
	DataIdle  time.Duration // between two pieces of a message: 3m (section 4.5.3.2.5)
	Session   time.Duration // for the whole connection: 30m

	Commands        int // since the last accepted message, accepted RCPTs not counted: 1000
	Errors          int // replies 500 to 504 and 555 in the connection: 20
	UnknownCommands int // in the connection: 10
}

// MaxCommandLine is the most that Limits.CommandLine may be.
const MaxCommandLine = 8192

// withDefaults returns the configuration with every zero limit replaced.
func (c Config) withDefaults() *Config {
	if c.Hostname == "" {
		c.Hostname = "localhost"
	}
	if c.PostmasterDomain == "" {
		c.PostmasterDomain = c.Hostname
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	l := &c.Limits
	orDefault(&l.Connections, 2000)
	orDefault(&l.PerIP, 20)
	orDefault(&l.PerNet, 5*l.PerIP)
	orDefault(&l.Arrivals, 600)
	orDefault(&l.ArrivalsNet, 5*l.Arrivals)
	orDefault(&l.CommandLine, 2048)
	l.CommandLine = min(l.CommandLine, MaxCommandLine)
	orDefault(&l.DataLine, 1<<20)
	orDefault(&l.MessageMax, 50<<20)
	orDefault(&l.Handshake, 30*time.Second)
	orDefault(&l.Idle, 5*time.Minute)
	orDefault(&l.DataIdle, 3*time.Minute)
	orDefault(&l.Session, 30*time.Minute)
	orDefault(&l.Commands, 1000)
	orDefault(&l.Errors, 20)
	orDefault(&l.UnknownCommands, 10)
	return &c
}

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// contains reports whether one of the prefixes holds the address.
func contains(list []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// A Reply is one SMTP reply.
type Reply struct {
	Code     int    // 220, 421, 554
	Enhanced string // RFC 3463: "5.7.1"; may be empty
	Text     string // one line
}

func (r Reply) String() string {
	if r.Enhanced == "" {
		return fmt.Sprintf("%d %s", r.Code, r.Text)
	}
	return fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text)
}

// A DataError says why a message cannot be taken although the client ended it properly. The session answers with its Reply.
type DataError struct {
	Reply Reply
	Line  int // of the message, from 1
}

func (e *DataError) Error() string {
	return fmt.Sprintf("message line %d: %s", e.Line, strings.TrimSuffix(e.Reply.Text, "."))
}
