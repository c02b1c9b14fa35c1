// Package filters judges mail: it runs the checks (reverse DNS, HELO, SPF, DKIM, DMARC, DNSBL, content rules), gathers
// their evidence and lets one function, [Policy.Decide], turn it into a verdict.
//
// A check answers about one scope: the client that connected, its HELO, the reverse-path, a recipient, or the message.
// It starts as soon as the inputs of its scope exist, so that DNS latency hides behind the SMTP dialogue, and is awaited
// only where a decision needs it. Checks yield evidence ([Finding], [AuthResult]); they know no thresholds.
//
// The whole chain, in the order in which results are merged, is the list in registry.go.
package filters

import (
	"context"
	"crypto/tls"
	"net/netip"
	"strconv"
	"time"

	"postern/filters/message"
	"postern/rules"
)

// A Scope says what a check's answer is about, and so how long it lives.
type Scope uint8

// The scopes, in the order in which their inputs become known.
const (
	PerClient  Scope = iota // the connection's client address
	PerHelo                 // the name given at EHLO or HELO
	PerMail                 // the reverse-path
	PerMessage              // the message, after the final dot
)

func (s Scope) String() string {
	return [...]string{"client", "helo", "mail", "message"}[s]
}

// A Check gathers one kind of evidence.
type Check interface {
	// Name is the check's name in the configuration, the log and the needs of others: "spf", "dnsbl.client".
	Name() string
	// Scope is what the check's answer is about.
	Scope() Scope
	// Needs names the checks whose results Run awaits. A need of a later scope, an unknown one and a cycle are refused at start.
	Needs() []string
	// Run judges. ctx ends with the scope (RSET, a new EHLO, close) or with the check's time limit.
	Run(ctx context.Context, in Input) Report
}

// A SenderJudge is a check that holds the sender to account for the client's address, and so does not run for
// clients in networks.trusted (SPF, DMARC, DNSBL, HELO).
type SenderJudge interface {
	JudgesSender()
}

// A MalwareJudge is a check that looks for malware, which goes before what would accept a message. With on_error: defer, so
// does its failure: what could not be looked at is not accepted unseen.
type MalwareJudge interface {
	JudgesMalware()
}

// A Symboler is a check that names the symbols it can yield, without which no rule may refer to them.
// A name that ends in "*" stands for all that begin so.
type Symboler interface {
	Symbols() []string
}

// A ListUser is a check that asks lists in DNS, which can be parked: left alone for a while, and not believed.
type ListUser interface {
	// ListStates gives, for each zone, why it is parked; "" if it is not.
	ListStates(now time.Time) map[string]string
}

// A SelfTester is a check that tests what it relies on: at start, and then when that is due.
type SelfTester interface {
	SelfTest(ctx context.Context, now time.Time)
}

// Input is what a check may look at: immutable snapshots. Fields of a later scope than the check's are nil.
type Input struct {
	Client  *Client
	Helo    *Helo
	Mail    *Mail
	Rcpts   []Rcpt // at PerMessage only: the accepted recipients, in order
	Message *message.Message
	Facts   *Facts
	Now     time.Time
	Detail  bool // somebody reads [Finding.Detail]
}

// Client is the SMTP client that is judged: the peer, or the one that a relay in front wrote into its Received field.
type Client struct {
	IP        netip.Addr // IPv4-mapped IPv6 addresses are unmapped; invalid for local submission without address (scan)
	Trusted   bool       // in networks.trusted: its sender is not judged
	TLS       *tls.ConnectionState
	OwnName   string // our host name, for the HELO check and the authserv-id
	OwnIP     netip.Addr
	EarlyTalk bool
}

// Helo is the name that the client gave.
type Helo struct {
	Name     string
	Extended bool // EHLO
}

// Mail is the reverse-path and its parameters.
type Mail struct {
	From Path
	Size int64
	UTF8 bool
}

// Rcpt is one recipient.
type Rcpt struct {
	To Path
}

// A Path is a reverse-path or forward-path. The zero value is the null reverse-path "<>".
type Path struct {
	Local  string // unquoted
	Domain string // as written; an address literal keeps its brackets
}

// Null reports whether p is the null reverse-path.
func (p Path) Null() bool { return p.Local == "" && p.Domain == "" }

// A Report is all that a check found out.
type Report struct {
	Findings []Finding
	Auth     []AuthResult
	Fields   []message.Field // to prepend, e.g. Received-SPF
	Fact     any             // typed result for checks that need this one; see Key
	Err      error           // the check could not do its work: becomes the finding "<name>.error" and, by on_error, tag or defer
}

// A Score is in hundredths of a point.
type Score int32

// String writes the score in points, without trailing zeros: "12.4", "-1", "0".
func (s Score) String() string {
	var b []byte
	n := int64(s)
	if n < 0 {
		b, n = append(b, '-'), -n
	}
	b = strconv.AppendInt(b, n/100, 10)
	if n %= 100; n != 0 {
		b = append(b, '.', '0'+byte(n/10))
	}
	if n %= 10; n != 0 {
		b = append(b, '0'+byte(n))
	}
	return string(b)
}

// Points makes a Score from points, rounded to hundredths.
func Points(p float64) Score {
	if p < 0 {
		return Score(p*100 - 0.5)
	}
	return Score(p*100 + 0.5)
}

// A Finding is one piece of evidence.
type Finding struct {
	Symbol  string    // "spf.fail", "dnsbl.zen.spamhaus.org", or a rule's id
	Score   Score     // what it adds to the sum
	Detail  string    // the evidence, for people; may hold what a stranger wrote
	Pos     rules.Pos // a rule's file and line; zero for a check's own finding
	Shadow  bool      // a shadow rule's: shown, never counted
	Force   Action    // an action that this finding asks for whatever the score
	Reply   string    // text for the client, for a forced refusal; a stranger's words only in printable ASCII, cut, and named as his
	Malware bool      // precedes a local accept
	Refuse  bool      // may refuse before DATA
	Banner  bool      // may refuse in place of the banner

	ScorePos rules.Pos // where a rule's score stands: in the rule, in a list, or in what overrides it
	Dormant  bool      // of a rule that is off but for some recipient domains
	Count    int       // for how many this one stands; 0 is one
}

// An Action is what is done with a message.
type Action uint8

// The actions, mildest first after NoAction.
const (
	NoAction Action = iota
	Accept
	Tag
	Quarantine
	Defer
	Reject
)

var actionNames = [...]string{"none", "accept", "tag", "quarantine", "defer", "reject"}

func (a Action) String() string { return actionNames[a] }

// An AuthResult is one method's result for the Authentication-Results field (RFC 8601 section 2.2).
type AuthResult struct {
	Method string // "spf", "dkim", "dmarc", "iprev"
	Result string // "pass", "fail", "softfail", "neutral", "none", "temperror", "permerror", "policy"
	Reason string
	Props  []Prop
}

// A Prop is a property of an AuthResult: {"smtp", "mailfrom", "bob@example.org"}.
type Prop struct{ Type, Name, Value string }

// A Reply is what the client is told.
type Reply struct {
	Code     int    // 250, 451, 550 …
	Enhanced string // "5.7.1"
	Text     string
}

// A Verdict is the policy's decision on a message.
type Verdict struct {
	Action   Action
	Would    Action // what would have been done without observe; NoAction when the same
	Score    Score
	Limit    Score // the threshold that decided, or the reject threshold when none did
	Reply    Reply
	By       string // what decided: "score", "dmarc", a symbol or rule id, "malware", "relay" …
	Findings []Finding
}
