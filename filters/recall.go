package filters

import (
	"slices"
	"strings"

	"postern/filters/message"
)

// What was found out about a message when it came in is worth more, months later, than what DNS says by then. It stands in the
// message: the receiving host wrote it into Authentication-Results (RFC 8601).

// A Recaller is a check that takes what was recorded of it for its own result. recorded has at least one result, all of them
// with words that [recallable] lists.
type Recaller interface {
	Recall(in Input, recorded []AuthResult) Report
}

var (
	_ Recaller = (*spfCheck)(nil)
	_ Recaller = (*dkimCheck)(nil)
	_ Recaller = (*arcCheck)(nil)
	_ Recaller = (*dmarcCheck)(nil)
)

// recallable are the results of each method that can be taken over. A failure of DNS is none: it says nothing about the message.
var recallable = map[string][]string{
	"spf":   {"none", "neutral", "pass", "fail", "softfail", "permerror"},
	"dkim":  {"none", "pass", "fail", "policy", "neutral", "permerror"},
	"arc":   {"none", "pass", "fail"},
	"dmarc": {"none", "pass", "fail", "permerror"},
}

// Recorded gives the results of SPF, DKIM, ARC and DMARC that a host recorded under its authserv-id, by method. Of several fields the
// topmost that tells of a method counts for it: what stands below may have come with the message.
func Recorded(header message.Header, authservID string) map[string][]AuthResult {
	byMethod := make(map[string][]AuthResult)
	for _, field := range header.All(authResultsName) {
		found, err := ParseAuthResults(field.Value())
		if err != nil || !strings.EqualFold(strings.TrimSuffix(found.AuthservID, "."), strings.TrimSuffix(authservID, ".")) {
			continue
		}
		here := make(map[string][]AuthResult)
		for _, r := range found.Results {
			if slices.Contains(recallable[r.Method], r.Result) {
				here[r.Method] = append(here[r.Method], r)
			}
		}
		for method, results := range here {
			if _, above := byMethod[method]; !above {
				byMethod[method] = results
			}
		}
	}
	return byMethod
}

// Recall has the checks whose results were recorded take these over in place of running. It is called before the scope of
// such a check begins.
func (r *Run) Recall(recorded map[string][]AuthResult) { r.recorded = recorded }

// recalled gives the report of a check whose results were recorded.
func (r *Run) recalled(c Check, in Input) (report Report, ok bool) {
	if len(r.recorded) == 0 {
		return Report{}, false
	}
	results := r.recorded[c.Name()]
	recaller, able := c.(Recaller)
	if !able || len(results) == 0 {
		return Report{}, false
	}
	return recaller.Recall(in, results), true
}

// prop is the value of a property, "" for none.
func (a AuthResult) prop(kind, name string) string {
	for _, p := range a.Props {
		if strings.EqualFold(p.Type, kind) && strings.EqualFold(p.Name, name) {
			return p.Value
		}
	}
	return ""
}

// recordedDetail is the evidence of a recorded result.
func recordedDetail(what, reason string) string {
	return strings.TrimPrefix(strings.TrimSuffix(what+": as recorded; "+reason, "; "), ": ")
}

// Recall takes over a recorded result.
func (c *spfCheck) Recall(_ Input, recorded []AuthResult) Report {
	r := recorded[0]
	res := &SPFResult{Result: r.Result, Identity: "mailfrom", Reason: r.Reason, Sender: r.prop("smtp", "mailfrom")}
	if res.Sender == "" {
		res.Identity, res.Sender = "helo", r.prop("smtp", "helo")
	}
	res.Domain, _ = asciiDomain(res.Sender[strings.LastIndexByte(res.Sender, '@')+1:])
	finding := c.cfg.Scores.finding("spf", res.Result, recordedDetail(res.Domain, r.Reason))
	if slices.Contains(c.cfg.Honor, res.Result) {
		finding.Force, finding.Reply = Reject, res.refusal()
	}
	return Report{Fact: res, Auth: recorded, Findings: []Finding{finding}}
}

// Recall takes over recorded results, one a signature.
func (c *dkimCheck) Recall(_ Input, recorded []AuthResult) Report {
	res := &DKIMResult{}
	for _, r := range recorded {
		if r.Result == "none" {
			continue
		}
		domain, _ := asciiDomain(r.prop("header", "d"))
		res.Signatures = append(res.Signatures, &DKIMSignature{
			Result: r.Result, Reason: r.Reason, Domain: domain, Selector: r.prop("header", "s"), Identity: r.prop("header", "i"),
		})
	}
	report := Report{Fact: res, Auth: recorded}
	if len(res.Signatures) == 0 {
		report.Findings = []Finding{c.cfg.Scores.finding("dkim", "none", "the message is not signed")}
		return report
	}
	report.Findings = c.findings(res)
	return report
}

// Recall takes over a recorded result. The sealers are not known by it, so it vouches for nothing.
func (c *arcCheck) Recall(_ Input, recorded []AuthResult) Report {
	r := recorded[0]
	return Report{
		Fact: &ARCResult{Result: r.Result, Reason: r.Reason, OldestPass: -1}, Auth: recorded,
		Findings: []Finding{c.cfg.Scores.finding("arc", r.Result, recordedDetail("", r.Reason))},
	}
}

// Recall takes over a recorded result, with the policy and the override where Postern has recorded them.
func (c *dmarcCheck) Recall(_ Input, recorded []AuthResult) Report {
	r := recorded[0]
	res := &DMARCResult{Result: r.Result, Reason: recordedDetail("", r.Reason), Policy: dmarcPolicy(r.prop("policy", "dmarc"))}
	res.Domain, _ = asciiDomain(r.prop("header", "from"))
	if !slices.Contains([]dmarcPolicy{dmarcNone, dmarcQuarantine, dmarcReject}, res.Policy) {
		res.Policy = ""
	}
	res.Published, res.PolicyDomain = res.Policy, res.Domain
	var over *dmarcOverride
	if _, kind, ok := strings.Cut(r.Reason, dmarcLetThrough); ok && slices.Contains(dmarcOverrideKinds, kind) {
		res.Override = kind
		over = &dmarcOverride{kind: kind, detail: "as recorded"}
	}
	return Report{Fact: res, Auth: recorded, Findings: c.findings(res, over)}
}
