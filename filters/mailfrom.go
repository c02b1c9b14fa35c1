package filters

import (
	"context"
	"fmt"

	"postern/filters/dns"
)

// MailFromConfig is the configuration of the check of the reverse-path's domain.
type MailFromConfig struct {
	Scores Scores `yaml:"scores"`
}

func defaultMailFromConfig() MailFromConfig {
	return MailFromConfig{Scores: Scores{
		"ok":           0,
		"null_mx":      300, // the domain says that it takes no mail (RFC 7505)
		"unresolvable": 200, // it has neither MX nor address
		"temperror":    0,
	}}
}

// MailFromResult says whether a bounce could reach the sender: "ok", "null_mx", "unresolvable" or "temperror".
type MailFromResult struct {
	Result string
	Domain string // A-labels, lower case
}

// MailFromKey is the fact of the check.
var MailFromKey = Key[*MailFromResult]{Check: "mailfrom"}

// CheckMailFrom asks whether a domain takes mail: it has an MX that is not the null MX (RFC 7505 section 3), or else an
// address (RFC 5321 section 5.1). The error is the cause of a temperror.
func CheckMailFrom(ctx context.Context, r dns.Lookuper, domain string) (*MailFromResult, error) {
	res := &MailFromResult{Result: "unresolvable"}
	ascii, ok := asciiDomain(domain)
	if !ok {
		return res, nil // no domain in DNS can be meant
	}
	res.Domain = ascii
	mxs, err := r.MX(ctx, ascii)
	switch {
	case err == nil && len(mxs) == 1 && (mxs[0].Host == "." || mxs[0].Host == ""):
		res.Result = "null_mx"
		return res, nil
	case err == nil:
		res.Result = "ok"
		return res, nil
	case dns.IsNotExist(err):
		return res, nil // a name that does not exist has no address either
	case dns.IsNoData(err):
		_, err = dns.Addrs(ctx, r, ascii)
	}
	switch {
	case err == nil:
		res.Result = "ok"
	case !dns.IsVoid(err):
		res.Result = "temperror"
		return res, fmt.Errorf("mail servers of %s: %w", ascii, err)
	}
	return res, nil
}

// mailFromCheck asks whether the reverse-path's domain takes mail.
type mailFromCheck struct {
	cfg MailFromConfig
	r   dns.Lookuper
}

var (
	_ Symboler    = (*mailFromCheck)(nil)
	_ SenderJudge = (*mailFromCheck)(nil)
)

func newMailFrom(cfg MailFromConfig, r dns.Lookuper) *mailFromCheck {
	return &mailFromCheck{cfg: cfg, r: r}
}

func (c *mailFromCheck) Name() string    { return "mailfrom" }
func (c *mailFromCheck) Scope() Scope    { return PerMail }
func (c *mailFromCheck) Needs() []string { return nil }
func (c *mailFromCheck) JudgesSender()   {}

func (c *mailFromCheck) Symbols() []string { return c.cfg.Scores.symbols("mailfrom") }

// Run judges no bounce, whose reverse-path is empty, and no address literal, which needs no DNS to be reached.
func (c *mailFromCheck) Run(ctx context.Context, in Input) Report {
	domain := in.Mail.From.Domain
	if _, literal := parseAddressLiteral(domain); literal || domain == "" {
		return Report{}
	}
	res, err := CheckMailFrom(ctx, c.r, domain)
	return Report{Fact: res, Err: err, Findings: []Finding{c.cfg.Scores.finding("mailfrom", res.Result, domain)}}
}
