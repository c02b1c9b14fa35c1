package filters

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"postern/filters/dns"
	"postern/filters/message"
	"postern/rules/strict"
)

// SPFConfig is the configuration of the SPF check.
type SPFConfig struct {
	Queries     int      `yaml:"queries"`      // DNS queries that one check may cost
	Honor       SPFHonor `yaml:"honor"`        // results that refuse the message, whatever its score
	ReceivedSPF bool     `yaml:"received_spf"` // write the Received-SPF field too
	Scores      Scores   `yaml:"scores"`
}

// SPFHonor lists results: fail.
type SPFHonor []string

// UnmarshalStrict knows the one result that forbids.
func (h *SPFHonor) UnmarshalStrict(n *strict.Node) strict.Problems {
	var words []string
	problems := n.Decode(&words)
	for i, w := range words {
		if w != "fail" {
			problems.Addf(n.Items()[i].Pos(), "%s", strict.Unknown("result", w, []string{"fail"}))
		}
	}
	*h = words
	return problems
}

func defaultSPFConfig() SPFConfig {
	return SPFConfig{
		Queries: 60,
		Scores: Scores{
			"pass":      0,
			"fail":      300,
			"softfail":  100,
			"neutral":   0,
			"none":      0,
			"temperror": 0,
			"permerror": 50,
		},
	}
}

// SPFInput is whom SPF judges.
type SPFInput struct {
	IP       netip.Addr
	Helo     string
	MailFrom Path   // the null reverse-path makes HELO the identity (RFC 7208 section 2.4)
	Receiver string // our host name, for explanations
	Now      time.Time
	Queries  int // bound on DNS queries; 0 is 60
}

// SPFResult is the outcome of check_host() (RFC 7208 sections 2.6 and 8).
type SPFResult struct {
	Result      string // "none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"
	Identity    string // "mailfrom" or "helo"
	Domain      string // whose policy was asked, in lower case and A-labels
	Sender      string // the address that stands for the sender
	Explanation string // on "fail", what the domain says about it (exp=): a stranger's words, printable ASCII, at most 400 octets
	Reason      string // what decided: the mechanism that matched, or what is wrong
	Mechanism   string // the mechanism that decided, as the record has it; "" for none
	Queries     int    // DNS queries made
}

// SPFKey is the fact of the SPF check.
var SPFKey = Key[*SPFResult]{Check: "spf"}

// maxSPFExplanation bounds the text that a domain may have us pass on.
const maxSPFExplanation = 400

// CheckSPF evaluates the policy of the sender's domain for a client. The error is the cause of a temperror.
func CheckSPF(ctx context.Context, r dns.Lookuper, in SPFInput) (*SPFResult, error) {
	res := &SPFResult{Identity: "mailfrom"}
	local, domain := in.MailFrom.Local, in.MailFrom.Domain
	if in.MailFrom.Null() {
		res.Identity, domain = "helo", in.Helo
	}
	if local == "" {
		local = "postmaster" // RFC 7208 section 4.3
	}
	res.Sender = Path{Local: local, Domain: domain}.String()
	ascii, ok := asciiDomain(domain)
	if !ok || parentDomain(ascii) == "" {
		res.Result, res.Reason = "none", "no domain that could have a policy"
		return res, nil
	}
	res.Domain = ascii
	s := newSPFSession(ctx, r, in, macroValues{
		local: local, senderDomain: ascii, helo: in.Helo, ip: in.IP, receiver: in.Receiver, now: in.Now,
	})
	err := s.evaluate(res)
	if res.Result == "fail" {
		res.Explanation = s.explain()
	}
	res.Queries = s.queries
	return res, err
}

// spfCheck asks whether the sender's domain lets the client send for it.
type spfCheck struct {
	cfg SPFConfig
	r   dns.Lookuper
}

var (
	_ Symboler    = (*spfCheck)(nil)
	_ SenderJudge = (*spfCheck)(nil)
)

func newSPF(cfg SPFConfig, r dns.Lookuper) *spfCheck { return &spfCheck{cfg: cfg, r: r} }

func (c *spfCheck) Name() string    { return "spf" }
func (c *spfCheck) Scope() Scope    { return PerMail }
func (c *spfCheck) Needs() []string { return nil }
func (c *spfCheck) JudgesSender()   {}

func (c *spfCheck) Symbols() []string { return c.cfg.Scores.symbols("spf") }

func (c *spfCheck) Run(ctx context.Context, in Input) Report {
	if !in.Client.IP.IsValid() {
		return Report{Fact: (*SPFResult)(nil)}
	}
	q := SPFInput{
		IP: in.Client.IP, MailFrom: in.Mail.From, Receiver: in.Client.OwnName, Now: in.Now, Queries: c.cfg.Queries,
	}
	if in.Helo != nil {
		q.Helo = in.Helo.Name
	}
	res, err := CheckSPF(ctx, c.r, q)
	finding := c.cfg.Scores.finding("spf", res.Result, res.detail(in.Client.IP))
	if slices.Contains(c.cfg.Honor, res.Result) {
		finding.Force, finding.Reply = Reject, res.refusal()
	}
	report := Report{Fact: res, Findings: []Finding{finding}}
	if c.cfg.ReceivedSPF {
		report.Fields = []message.Field{res.receivedSPF(q)}
	}
	auth := AuthResult{Method: "spf", Result: res.Result, Reason: res.Reason}
	if res.Identity == "helo" {
		auth.Props = []Prop{{Type: "smtp", Name: "helo", Value: q.Helo}}
	} else {
		auth.Props = []Prop{{Type: "smtp", Name: "mailfrom", Value: in.Mail.From.String()}}
	}
	report.Auth = []AuthResult{auth}
	if err != nil {
		report.Err = fmt.Errorf("policy of %s: %w", res.Domain, err)
	}
	return report
}

// detail is the evidence in one line.
func (r *SPFResult) detail(ip netip.Addr) string {
	detail := fmt.Sprintf("%s for %s %s: %s", ip, r.Identity, r.Domain, r.Reason)
	if r.Explanation != "" {
		detail += fmt.Sprintf("; %q", r.Explanation)
	}
	return detail
}

// maxSPFReply bounds the domain's own words in a reply, whose line has 512 octets (RFC 5321 section 4.5.3.1.5).
const maxSPFReply = 200

// refusal says in a sender's words why the message is refused, and whose words the explanation is in (RFC 7208 section
// 8.4).
func (r *SPFResult) refusal() string {
	text := fmt.Sprintf("%s does not allow your server to send for it (SPF)", r.Domain)
	if r.Explanation != "" {
		text += fmt.Sprintf("; %s explains: %s", r.Domain, printableASCII(r.Explanation, maxSPFReply))
	}
	return text
}

// receivedSPF writes the Received-SPF field (RFC 7208 section 9.1). What the client chose is quoted.
func (r *SPFResult) receivedSPF(q SPFInput) message.Field {
	w := &foldingWriter{}
	w.text(receivedSPFName + ": " + r.Result)
	for i, pair := range []Prop{
		{Name: "client-ip", Value: q.IP.String()},
		{Name: "envelope-from", Value: q.MailFrom.String()},
		{Name: "helo", Value: q.Helo},
		{Name: "receiver", Value: q.Receiver},
		{Name: "identity", Value: r.Identity},
		{Name: "mechanism", Value: r.Mechanism},
	} {
		if pair.Name == "mechanism" && pair.Value == "" {
			continue
		}
		if i > 0 {
			w.text(";")
		}
		w.word(pair.Name + "=" + authQuote(printableASCII(pair.Value, maxAuthValue)))
	}
	return message.Field{Name: receivedSPFName, Raw: w.field()}
}

const receivedSPFName = "Received-SPF"

// errSPFQueries is the cause of a permerror by our own bound on queries.
var errSPFQueries = errors.New("the policy costs too many DNS queries")
