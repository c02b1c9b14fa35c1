package filters

import (
	"context"
	"fmt"
	"strings"

	"postern/filters/dns"
)

// DKIMConfig is the configuration of the DKIM check.
type DKIMConfig struct {
	Signatures int    `yaml:"signatures"` // how many signatures of a message are verified, from the top
	TrustTest  bool   `yaml:"trust_test"` // take a key in test mode (t=y) for one in earnest
	Scores     Scores `yaml:"scores"`
}

func defaultDKIMConfig() DKIMConfig {
	return DKIMConfig{
		Signatures: defaultDKIMSignatures,
		Scores: Scores{
			"pass":            0,
			"none":            0,
			"fail":            50,
			"policy":          0,
			"neutral":         0,
			"temperror":       0,
			"permerror":       0,
			"many_signatures": 50, // more than are verified
		},
	}
}

// DKIMKey is the fact of the DKIM check.
var DKIMKey = Key[*DKIMResult]{Check: "dkim"}

// dkimRanks orders results, the one that says most for a message first: only the best one of a message counts for its
// score, because a broken signature beside a good one is what a mailing list leaves behind, and says nothing.
var dkimRanks = []string{"pass", "temperror", "policy", "neutral", "fail", "permerror"}

// dkimCheck verifies the signatures of a message.
type dkimCheck struct {
	cfg  DKIMConfig
	r    dns.Lookuper
	keys *dkimKeys
}

var _ Symboler = (*dkimCheck)(nil)

func newDKIM(cfg DKIMConfig, r dns.Lookuper) *dkimCheck {
	return &dkimCheck{cfg: cfg, r: r, keys: newDKIMKeys()}
}

func (c *dkimCheck) Name() string    { return "dkim" }
func (c *dkimCheck) Scope() Scope    { return PerMessage }
func (c *dkimCheck) Needs() []string { return nil }

func (c *dkimCheck) Symbols() []string { return c.cfg.Scores.symbols("dkim") }

func (c *dkimCheck) Run(ctx context.Context, in Input) Report {
	res, err := CheckDKIM(ctx, c.r, in.Message.Header, in.Message.Body(), DKIMOptions{
		Signatures: c.cfg.Signatures, TrustTest: c.cfg.TrustTest, Now: in.Now, keys: c.keys,
	})
	report := Report{Fact: res, Err: err}
	if len(res.Signatures) == 0 {
		report.Auth = []AuthResult{{Method: "dkim", Result: "none"}}
		report.Findings = []Finding{c.cfg.Scores.finding("dkim", "none", "the message is not signed")}
		return report
	}
	for _, s := range res.Signatures {
		if s.Result == "" { // the body could not be read
			s.Result, s.Reason = "temperror", "the message could not be read"
		}
		report.Auth = append(report.Auth, s.authResult())
	}
	report.Findings = c.findings(res)
	return report
}

// findings gives one finding for each result that occurs. Only the best one has a score.
func (c *dkimCheck) findings(res *DKIMResult) []Finding {
	var findings []Finding
	for _, result := range dkimRanks {
		var details []string
		for _, s := range res.Signatures {
			if s.Result == result {
				details = append(details, s.describe())
			}
		}
		if details == nil {
			continue
		}
		f := c.cfg.Scores.finding("dkim", result, strings.Join(details, "; "))
		if len(findings) > 0 {
			f.Score = 0
		}
		findings = append(findings, f)
	}
	if res.Skipped > 0 {
		detail := fmt.Sprintf("%d signatures, %d not looked at", len(res.Signatures)+res.Skipped, res.Skipped)
		findings = append(findings, c.cfg.Scores.finding("dkim", "many_signatures", detail))
	}
	return findings
}

// describe is the evidence of one signature in one line.
func (s *DKIMSignature) describe() string {
	who := "unreadable signature"
	if s.Domain != "" {
		who = s.Domain + "/" + s.Selector
	}
	if s.Reason == "" {
		return who
	}
	return who + ": " + s.Reason
}

// headerBLength is how much of the signature tells it from the others of the message (RFC 6008 section 3).
const headerBLength = 8

// authResult writes the result with the properties of RFC 8601 section 2.7.1 and RFC 6008.
func (s *DKIMSignature) authResult() AuthResult {
	a := AuthResult{Method: "dkim", Result: s.Result, Reason: s.Reason}
	for _, p := range []Prop{
		{Type: "header", Name: "d", Value: s.Domain},
		{Type: "header", Name: "i", Value: s.Identity},
		{Type: "header", Name: "s", Value: s.Selector},
		{Type: "header", Name: "a", Value: s.Algorithm},
		{Type: "header", Name: "b", Value: s.B[:min(len(s.B), headerBLength)]},
	} {
		if p.Value != "" {
			a.Props = append(a.Props, p)
		}
	}
	return a
}
