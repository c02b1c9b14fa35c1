package filters

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"postern/filters/dns"
	"postern/filters/message"
)

// ARC (RFC 8617) lets those who handle a message on its way, such as mailing lists, testify what they found out about
// its sender before they changed it. Each adds a set of three fields with the next number. The chain of sets can be
// proved to be whole; whether its sealers tell the truth can't, so it counts for those only whom the administrator lists.

// ARCConfig is the configuration of the ARC check.
type ARCConfig struct {
	Sealers DomainNames `yaml:"sealers"` // whose word on DMARC is taken: domains, d= of their seals
	Scores  Scores      `yaml:"scores"`
}

func defaultARCConfig() ARCConfig {
	return ARCConfig{Scores: Scores{"pass": 0, "none": 0, "fail": 0, "temperror": 0}}
}

// ARCKey is the fact of the ARC check.
var ARCKey = Key[*ARCResult]{Check: "arc"}

// arcCheck validates the chain of a message.
type arcCheck struct {
	cfg ARCConfig
	r   dns.Lookuper
}

var _ Symboler = (*arcCheck)(nil)

func newARC(cfg ARCConfig, r dns.Lookuper) *arcCheck { return &arcCheck{cfg: cfg, r: r} }

func (c *arcCheck) Name() string    { return "arc" }
func (c *arcCheck) Scope() Scope    { return PerMessage }
func (c *arcCheck) Needs() []string { return nil }

func (c *arcCheck) Symbols() []string { return c.cfg.Scores.symbols("arc") }

func (c *arcCheck) Run(ctx context.Context, in Input) Report {
	res, err := CheckARC(ctx, c.r, in.Message.Header, in.Message.Body(), in.Now)
	return Report{
		Fact: res, Err: err, Auth: []AuthResult{res.authResult()},
		Findings: []Finding{c.cfg.Scores.finding("arc", res.Result, res.detail())},
	}
}

// detail is the evidence in one line: "sealed by a.example, b.example".
func (res *ARCResult) detail() string {
	if res.Result != "pass" {
		return res.Reason
	}
	sealers := make([]string, len(res.Sets))
	for i, s := range res.Sets {
		sealers[i] = s.Sealer
	}
	return "sealed by " + strings.Join(sealers, ", ")
}

// authResult writes the result with the property of RFC 8617 section 10.2.
func (res *ARCResult) authResult() AuthResult {
	a := AuthResult{Method: "arc", Result: res.Result}
	switch res.Result {
	case "none":
		return a
	case "pass":
		a.Reason = res.detail()
		if res.OldestPass >= 0 {
			a.Props = []Prop{{Type: "header", Name: "oldest-pass", Value: strconv.Itoa(res.OldestPass)}}
		}
	default:
		a.Reason = res.Reason
	}
	return a
}

// vouches looks for a sealer's testimony that the message was authenticated as the author domain when it came to
// him. The latest sealer must be one that is trusted. If he did not find it authenticated himself, because it had been
// changed before, the one before him is asked, as long as they are trusted. It gives the testimony in words, "" for none.
func (res *ARCResult) vouches(header message.Header, domain string, trusted DomainNames) string {
	if res == nil || res.Result != "pass" {
		return ""
	}
	for i := len(res.Sets) - 1; i >= 0; i-- {
		s := res.Sets[i]
		if !trusted.hold(s.Sealer) {
			return ""
		}
		if how := testimony(header[s.results].Value(), domain); how != "" {
			return fmt.Sprintf("%s found %s when it sealed the message as set %d", s.Sealer, how, i+1)
		}
	}
	return ""
}

// testimony finds a result of ARC-Authentication-Results that authenticates an author domain: DMARC's for it, or DKIM's
// or SPF's for a domain of the same organization. "" for none.
func testimony(value, author string) string {
	_, value, _ = strings.Cut(value, ";") // i=
	results, err := ParseAuthResults(value)
	if err != nil {
		return ""
	}
	for _, r := range results.Results {
		if r.Result != "pass" {
			continue
		}
		for _, p := range r.Props {
			at := strings.LastIndexByte(p.Value, '@')
			domain, ok := asciiDomain(p.Value[at+1:])
			if !ok {
				continue
			}
			switch r.Method + " " + strings.ToLower(p.Type+"."+p.Name) {
			case "dmarc header.from":
				if domain == author {
					return "dmarc=pass"
				}
			case "dkim header.d", "dkim header.i", "spf smtp.mailfrom":
				if org := message.OrgDomain(author); domain == author || org != "" && org == message.OrgDomain(domain) {
					return r.Method + "=pass of " + domain
				}
			}
		}
	}
	return ""
}
