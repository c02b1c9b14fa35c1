// Package rules is the language in which an administrator says what spam looks like.
//
// A rule file is YAML. A rule has an id, what it adds to the score (or an action), a condition and tests:
//
//	lists:
//	  freemail: [gmail.com, outlook.com]
//	rules:
//	  - id: FREEMAIL_REPLYTO
//	    score: 2.0
//	    description: The reply goes to free mail although the sender claims a company.
//	    when:
//	      all:
//	        - {header: Reply-To, part: domain, in: freemail}
//	        - not: {header: Reply-To, part: org_domain, same_as: {header: From, part: org_domain}}
//
// [Parse] reads a file, [Compile] joins files to a [Set], and [Set.Eval] puts its questions to a [Subject], the message
// with its envelope and what the checks found. The package knows no SMTP, no DNS and no MIME: all that a rule
// can ask goes through that interface.
//
// # Three values
//
// A condition is true, false or unknown. It is unknown where it asks about a check that failed or timed out. Unknown
// follows Kleene's logic: not(unknown) is unknown, all(false, unknown) is false, any(true, unknown) is true. A rule
// whose condition is unknown does not hit, and is reported in [Result.Unknown], so that a DNS failure neither
// convicts nor acquits anybody.
//
// # Work
//
// Nothing is decoded or normalised that no condition asks for, each view of a text is made once for all rules, cheap
// conditions are asked before dear ones, and a rule is left as soon as its outcome is settled. The order in which
// conditions are asked never changes what a rule says. All matching is linear in the text.
package rules

import (
	"net/netip"
	"time"

	"postern/rules/strict"
)

// A Pos is a place in a rule file.
type Pos = strict.Pos

// A File is what one rule file says. It is not changed after Parse, and may be compiled any number of times.
type File struct {
	Name       string
	Pack       *Pack // nil where the file doesn't say
	Lists      map[string]*List
	Conditions map[string]*Condition
	Brands     map[string]*Brand
	Rules      []Rule

	warnings strict.Problems
}

// A Pack is what a file says about itself.
type Pack struct {
	Name        string
	Description string
	Thresholds  Thresholds // what the scores assume
	Pos         Pos
}

// Thresholds are the scores, in hundredths, at which a message is tagged, quarantined and rejected. Zero: not said.
type Thresholds struct{ Tag, Quarantine, Reject int32 }

// A Mode says whether a rule's hits count.
type Mode uint8

// An Override changes the score or the mode of a rule where it is used, and not in its file.
type Override struct {
	Score *int32 // in hundredths; nil: as the rule has it. It stands in for scores of list entries too
	Mode  *Mode
	Pos   Pos
}

// The modes.
const (
	Enforce Mode = iota
	Shadow       // hits are shown and never counted, and only shadow rules see them
	Off
)

var modeNames = [...]string{"enforce", "shadow", "off"}

func (m Mode) String() string { return modeNames[m] }

// A Rule is one rule of a file.
type Rule struct {
	ID          string
	Score       int32  // in hundredths of a point
	Action      string // "", "accept", "tag", "quarantine", "defer", "reject"
	Reply       string // what a deferred or rejected client is told; printable ASCII
	Malware     bool   // precedes what would accept the message
	Refuse      bool   // may refuse before DATA; see [Set.Refusals]
	Mode        Mode
	Description string
	Pos         Pos // of the rule's id
	Tests       []Test

	// Where the score and the mode in force stand: in the rule, or in what overrides it.
	ScorePos, ModePos Pos
	ScoreOverridden   bool
	PerDomain         bool // some recipient domain has it in another mode, so it is asked though it be off

	when  *expr
	print uint64 // see fingerprint
}

// A Test is a message that a rule must hit, or must not.
type Test struct {
	Want    Want
	Pos     Pos
	File    string // to be read, relative to the rule file, when the mail is not given in place
	Mail    string // as written in the rule file
	IP      netip.Addr
	RDNS    string
	Helo    string
	From    string
	Rcpts   []string
	Auth    map[string]string
	TLS     string         // "1.2", "1.3"; "" without
	Symbols map[string]int // findings of checks, with their counts
	DNS     DNS            // nil: the checks are not run
	Time    time.Time
}

// A Want is what a test expects.
type Want string

// The expectations.
const (
	Hit  Want = "hit"
	Miss Want = "miss"
)

// A Truth is the value of a condition.
type Truth uint8

// The truth values.
const (
	False Truth = iota
	True
	Unknown
)

var truthNames = [...]string{"false", "true", "unknown"}

func (t Truth) String() string { return truthNames[t] }

// An Answer is what a Subject says about something that can have several values, or can't be known.
type Answer struct {
	Values  []string
	Unknown bool // a check that would say (more) failed or timed out; Values holds what is known nevertheless
}

// A Subject is what rules ask about: a message, its envelope, and what the checks found out. Its methods are called
// from one goroutine at a time, and should do no work before they are called. Parts that it doesn't know yield nothing.
//
// All text is UTF-8, whatever the message was written in; only the part "raw" of a header field holds the bytes as they came.
type Subject interface {
	// Header answers for all fields of a name, top to bottom. Parts: "decoded" (unfolded, RFC 2047 words decoded), "raw"
	// (unfolded, undecoded), and of each address in them, in order, "name", "address", "local", "domain", "org_domain",
	// "name_domain" (the organizational domain of an address or host in the name).
	Header(name, part string) Answer
	// Mailboxes returns the addresses in all fields of a name, top to bottom.
	Mailboxes(name string) []Mailbox
	// Body returns the text of the message. Parts: "text" (what a reader sees), "hidden" (what a reader of the HTML does
	// not see), "html" (its source), "raw" (the body undecoded).
	Body(part string) string
	// Links have the parts "url", "scheme", "host", "org_domain", "path", "shown" (the text of the link), "shown_domain"
	// (the organizational domain of a host or URL in that text, none where it names none), "user" (what stands before the host),
	// "port" (one that is not usual), "idn" (the host as it is shown, if that differs), "tricks" (words), "source" ("text",
	// "html", "resource" for what HTML loads by itself, "attachment" for attached HTML, "calendar", "pdf").
	Links() []Item
	// Attachments have the parts "name", "type" (as declared), "real_type" (by content), "size" (bytes, decoded),
	// "inside" (names in an archive, one value each), "encrypted" ("true" or none), "inline" ("true" or none), "extension",
	// "kind", "inside_kind", "tricks" and "active" (words).
	Attachments() []Item
	// Envelope parts: "ip", "rdns" (only where it is forward-confirmed), "helo", "from" (one empty value for the null
	// reverse-path), "from_domain", "rcpt", "rcpt_domain" (one value per recipient), "tls" ("1.2", "1.3"; none without TLS).
	Envelope(part string) Answer
	// Auth parts: "spf", "dkim", "dmarc", "arc", "iprev" (result words of RFC 8601; temperror is Unknown with that value),
	// "dmarc_domain" and "dkim_domain" (only what passed).
	Auth(part string) Answer
	// Message parts: "size" (bytes), "parts" (count), "defects" (words), "script" (of the letters, the most frequent first:
	// "latin"), "language" (as ISO 639-1 has it; none where it can't be told), "types" (media types of the parts), "charsets" and
	// "encodings" (of the texts), "field_names" (of the header section, a space between them), "date_ahead" (hours), "active" and
	// "hidden_by" (words), "invisible" and "mixed_words" (counts).
	Message(part string) Answer
	// Symbol answers for the findings of checks: how many of that name, and the sum of their scores in hundredths.
	// Unknown: the check that yields it failed, timed out or has not run. Rules are not asked for here.
	Symbol(name string) (count int, score int32, unknown bool)
	// Now is the time of the message, in the local time zone.
	Now() time.Time
}

// An Item is a link or an attachment.
type Item interface {
	Part(name string) []string
}
