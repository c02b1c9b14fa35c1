// Package upstream is the next hop: the mail server, or the Maildir, to which accepted mail is handed on.
//
// # Addresses
//
// A next hop is named by a URL:
//
//	smtp://host[:25]        SMTP (RFC 5321), STARTTLS as [Config.TLS] says
//	smtps://host[:465]      SMTP inside TLS, the certificate always verified (RFC 8314)
//	lmtp://host[:24]        LMTP (RFC 2033): like SMTP, but with one reply for each recipient after the message
//	lmtp+unix:///path       LMTP on a Unix socket
//	maildir:/path           a folder of files, one for each message: the next hop of who has no server yet
//
// # A transaction
//
// [Upstream.Open] gives a [Conn] that has been greeted. Then come [Conn.Mail], one [Conn.Rcpt] for each recipient and
// [Conn.Data]. A next hop that says no (4xx, 5xx) gives a [Reply]; a connection that breaks, stalls or talks nonsense gives
// an [*Error], whose Offered field says the one thing that matters for what may be done next: whether the final dot was
// sent. Before it, the next hop must not have taken the message (RFC 5321 section 4.1.1.4), and the transaction can be
// replayed on another connection. After it, the outcome is in doubt until a reply is read.
//
// # Why not a ready-made client
//
// The client of go-smtp cannot write commands in one go (RFC 2920), drops or adds parameters, writes an unquoted local
// part as it is (a parameter injection), has no XCLIENT and no context, rewrites line ends in the message, and reads
// nothing while it sends data, so that a reply that comes early is missed. A proxy needs to be exact in each of these.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// An Upstream is one next hop. Its methods may be called by many goroutines.
type Upstream interface {
	// Probe asks the next hop, on a connection of its own, what it offers.
	Probe(ctx context.Context) (Caps, error)
	// Open gives a connection on which mail of the client can be sent, a fresh one or an idle one from the pool.
	// A next hop that refuses at the greeting, EHLO or XCLIENT is an [*Error] that wraps [*Refused].
	Open(ctx context.Context, client Client) (Conn, error)
	// Addr is the network ("tcp", "unix") and address ("host:port", "/path") that is dialled; both are empty for a Maildir.
	Addr() (network, address string)
	// String is the address as configured.
	String() string
	// Close ends the idle connections, and breaks those in use. It returns when none is left.
	Close() error
}

// A Conn is a connection to a next hop, for one transaction after another. It is used by one goroutine at a time; to
// break a call that hangs, cancel its context, which ends the connection.
type Conn interface {
	// Caps is what the next hop offers on this connection.
	Caps() Caps
	// Mail begins a transaction, and gives up an earlier one that is still open. Of the parameters only those that the
	// next hop offers are sent.
	Mail(ctx context.Context, m Mail) (Reply, error)
	// Rcpt names one more recipient.
	Rcpt(ctx context.Context, r Rcpt) (Reply, error)
	// MailRcpt is Mail and Rcpt in one write where the next hop offers PIPELINING (RFC 2920), else one after the other.
	// If MAIL is refused, rcpt is the zero Reply.
	MailRcpt(ctx context.Context, m Mail, r Rcpt) (mail, rcpt Reply, err error)
	// Data offers the message to the recipients that were accepted. Whatever the result, the transaction is over.
	Data(ctx context.Context, b Body) (DataResult, error)
	// Reset gives up the transaction, if there is one.
	Reset(ctx context.Context) error
	// Alive reports whether the connection can still be used, as far as is known without asking the next hop.
	Alive() bool
	// Close gives the connection back: to the pool if it is fit for another client, else it says QUIT and closes it.
	// It does not wait for the next hop. The Conn must not be used any more.
	Close() error
}

// Mail is the reverse-path and the parameters of the MAIL command.
type Mail struct {
	From       Path
	Size       int64   // octets; 0 for unknown
	Body       string  // "", "7BIT" or "8BITMIME". Where 8BITMIME is not offered the message is sent as it is all the same
	UTF8       bool    // SMTPUTF8 (RFC 6531). Where it is not offered Mail answers 550 5.6.7 itself
	Ret        string  // "", "FULL" or "HDRS" (RFC 3461)
	EnvID      string  // decoded ENVID (RFC 3461), "" for none
	RequireTLS bool    // REQUIRETLS (RFC 8689). Where it is not offered Mail answers 550 5.7.30 itself
	Auth       *string // decoded AUTH= parameter (RFC 4954); "" for "<>"; nil for none
}

// Rcpt is a recipient and the parameters of the RCPT command.
type Rcpt struct {
	To        Path
	Notify    []string // "NEVER", or of "SUCCESS", "FAILURE", "DELAY" (RFC 3461)
	ORcptType string   // "rfc822" or "utf-8"
	ORcpt     string   // decoded original recipient, "" for none
}

// Client is the SMTP client whose mail is sent on, told to the next hop by XCLIENT, XFORWARD or a PROXY header.
type Client struct {
	IP       netip.Addr // invalid for unknown
	Port     int        // 0 for unknown
	Name     string     // confirmed reverse DNS name, "" for none
	Helo     string     // the name given at EHLO or HELO
	Extended bool       // EHLO
	TLS      bool
	DestIP   netip.Addr // where the client connected to
	DestPort int
	ID       string // our id of the session or message, for the next hop's log
}

// Body is a message on its way.
type Body struct {
	Fields  []byte    // header fields to prepend, with CRLF line ends
	Message io.Reader // the rest: CRLF line ends, not dot-stuffed; a last line without CRLF gets one

	// BeforeDot, if not nil, is called after all of the message was written, or laid ready if it is small, and before the next hop
	// is told that this was all. If it fails the connection is broken off and the next hop does not take the message.
	BeforeDot func() error
}

// DataResult is the outcome of [Conn.Data].
type DataResult struct {
	// Reply is the next hop's reply. With LMTP it is the first of Per if all have the same code, else the zero Reply.
	Reply Reply
	// Per has, with LMTP, a reply for each recipient that was accepted, in their order; nil with SMTP. If the connection broke
	// while they came (an error with Offered), it has those that were heard, and only the other recipients are in doubt.
	Per []Reply
	// Offered says that the final dot was sent.
	Offered bool
}

// Caps is what a next hop offers.
type Caps struct {
	Name           string // the next hop's name for itself in its reply to EHLO
	Extended       bool   // it took EHLO or LHLO
	LMTP           bool
	TLS            bool // this connection is inside TLS
	SMTPUTF8       bool
	EightBit       bool // 8BITMIME
	DSN            bool
	Pipelining     bool
	StartTLS       bool // offered before TLS began
	RequireTLS     bool
	Auth           bool
	EnhancedStatus bool
	Size           bool
	MaxSize        int64    // octets; 0 when the next hop names no fixed limit
	XClient        []string // attributes, upper case
	XForward       []string
}

// An Error is a failure of the next hop or of the way there, as opposed to a refusal, which is a [Reply].
type Error struct {
	Op      string // "connect", "tls", "greeting", "ehlo", "xclient", "mail", "rcpt", "data" …
	Addr    string // the next hop as configured
	Offered bool   // the final dot was sent: whether the next hop has the message is in doubt
	Told    bool   // the next hop knew for which client it was: what it did may have been meant for that one alone
	Err     error
}

func (e *Error) Error() string {
	if e.Offered {
		return fmt.Sprintf("upstream %s: %s: outcome in doubt: %v", e.Addr, e.Op, e.Err)
	}
	return fmt.Sprintf("upstream %s: %s: %v", e.Addr, e.Op, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the next hop took too long.
func (e *Error) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// Refused is the error of a next hop that does not want the connection at all.
type Refused struct{ Reply Reply }

func (r *Refused) Error() string { return "refused: " + r.Reply.String() }

// Errors that an [*Error] can wrap.
var (
	ErrProtocol    = errors.New("protocol error")                    // the next hop's reply is not SMTP, or not one to what was asked
	ErrClosed      = errors.New("connection closed by the next hop") // orderly, or with an unasked 421
	ErrDead        = errors.New("connection not usable any more")    // after an earlier error or 421 on this Conn
	ErrBareNewline = errors.New("bare CR or LF in the message")      // the message given to Data does not have CRLF line ends
)
