package filters

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"postern/filters/dns"
)

// SPFConfig is the configuration of the SPF check.
type SPFConfig struct {
	Queries int    `yaml:"queries"` // DNS queries that one check may cost
	Scores  Scores `yaml:"scores"`
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
	report := Report{Fact: res, Findings: []Finding{c.cfg.Scores.finding("spf", res.Result, res.detail(in.Client.IP))}}
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

// errSPFQueries is the cause of a permerror by our own bound on queries.
var errSPFQueries = errors.New("the policy costs too many DNS queries")
