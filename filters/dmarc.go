package filters

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/filters/dns"
	"postern/filters/message"
	"postern/rules/strict"
)

// DMARCConfig is the configuration of the DMARC check.
type DMARCConfig struct {
	Honor     DMARCHonor     `yaml:"honor"`     // policies that are carried out, not only scored
	Discovery DMARCDiscovery `yaml:"discovery"` // how organizational domains are found
	Overrides DMARCOverrides `yaml:"overrides"` // when a failure is not held against a message
	Scores    Scores         `yaml:"scores"`
}

func defaultDMARCConfig() DMARCConfig {
	return DMARCConfig{
		Honor:     DMARCHonor{dmarcReject},
		Discovery: "treewalk",
		Scores: Scores{
			"pass":              0,
			"none":              0,
			"fail":              100,
			"temperror":         0,
			"policy_none":       0, // these three stand beside fail
			"policy_quarantine": 200,
			"policy_reject":     400,
			"no_from":           200,
			"many_from":         200,
			"bad_from":          100,
		},
	}
}

// DMARCHonor lists policies: quarantine, reject.
type DMARCHonor []dmarcPolicy

// UnmarshalStrict knows the two policies that ask for anything.
func (h *DMARCHonor) UnmarshalStrict(n *strict.Node) strict.Problems {
	var words []string
	problems := n.Decode(&words)
	list := DMARCHonor{}
	for i, w := range words {
		if w != string(dmarcQuarantine) && w != string(dmarcReject) {
			problems.Addf(n.Items()[i].Pos(), "%s", strict.Unknown("policy", w, []string{"quarantine", "reject"}))
			continue
		}
		list = append(list, dmarcPolicy(w))
	}
	if len(problems) == 0 {
		*h = list
	}
	return problems
}

// DMARCDiscovery is how organizational domains are found: "treewalk" (RFC 9989) or "psl" (the public suffix list, as
// RFC 7489 had it).
type DMARCDiscovery string

// UnmarshalStrict reads treewalk or psl.
func (d *DMARCDiscovery) UnmarshalStrict(n *strict.Node) strict.Problems {
	var word string
	problems := n.Decode(&word)
	if len(problems) == 0 && word != "treewalk" && word != "psl" {
		problems.Addf(n.Pos(), "unknown discovery %q, expected treewalk or psl", word)
		return problems
	}
	*d = DMARCDiscovery(word)
	return problems
}

// DMARCInput is what DMARC draws its conclusion from.
type DMARCInput struct {
	Header message.Header
	SPF    *SPFResult  // nil: SPF did not run, and so nothing can be said to fail
	DKIM   *DKIMResult // nil: DKIM did not run, likewise
	PSL    bool        // find organizational domains by the public suffix list
}

// DMARCResult is the outcome of DMARC (RFC 9989).
type DMARCResult struct {
	Result       string      // "pass", "fail", "none", "temperror"
	Reason       string      // for anything but pass
	Domain       string      // the author domain; "" where From has no single one
	From         string      // what is wrong with the From field: "no_from", "many_from", "bad_from"; "" for nothing
	FromReason   string      // the same in words
	Policy       dmarcPolicy // the policy to be applied to a failing message; "" without a record
	Published    dmarcPolicy // the same before the test flag made it milder
	PolicyDomain string      // where the record stands
	By           string      // what passed: "spf" or "dkim"
	Aligned      string      // the authenticated domain that passed
	Override     string      // why a failure is not held against the message: "arc", "forwarder", "list", "domain"; "" for nothing
}

// DMARCKey is the fact of the DMARC check.
var DMARCKey = Key[*DMARCResult]{Check: "dmarc"}

// CheckDMARC evaluates DMARC. The error is the cause of a temperror.
func CheckDMARC(ctx context.Context, r dns.Lookuper, in DMARCInput) (*DMARCResult, error) {
	who := authorDomain(in.Header)
	d := newDMARCDiscovery(ctx, r, in.PSL)
	if len(who.others) > 0 {
		return checkAuthors(d, who, in)
	}
	return checkAuthor(d, who, in)
}

// checkAuthors evaluates each of several author domains. A message never passes so, for which of them the reader takes
// for the author is not known. But the strictest policy among those that fail is that of the message: otherwise a second
// address in From would be all that it takes to get round the first one's (RFC 9989 section 11.5).
func checkAuthors(d *dmarcDiscovery, who author, in DMARCInput) (*DMARCResult, error) {
	none := &DMARCResult{Result: "none", From: who.problem, FromReason: who.reason, Reason: who.reason}
	strictest := none
	var doubt error
	for _, domain := range who.others {
		one := who
		one.domain = domain
		res, err := checkAuthor(d, one, in)
		doubt = errors.Join(doubt, err)
		if res.Result == "fail" && res.Policy.weight() > strictest.Policy.weight() {
			strictest = res
		}
	}
	if doubt != nil && strictest.Policy != dmarcReject {
		return none.fails(doubt)
	}
	return strictest, nil
}

// checkAuthor evaluates one author domain.
func checkAuthor(d *dmarcDiscovery, who author, in DMARCInput) (*DMARCResult, error) {
	res := &DMARCResult{Result: "none", Domain: who.domain, From: who.problem, FromReason: who.reason, Reason: who.reason}
	if res.Domain == "" {
		return res, nil
	}
	found, err := d.policy(res.Domain)
	if err != nil {
		return res.fails(err)
	}
	if found == nil {
		res.Reason = "no policy record"
		return res, nil
	}
	rec, ok := found.record.usable()
	if !ok {
		res.Reason = "the policy record has no valid policy"
		return res, nil
	}
	res.PolicyDomain = found.domain
	alignErr := res.align(d, rec, in)
	if alignErr != nil && res.By == "" {
		return res.fails(alignErr)
	}
	if err := res.choosePolicy(d, rec); err != nil && res.By == "" {
		return res.fails(err)
	}
	switch {
	case res.By == "" && (in.SPF == nil || in.DKIM == nil):
		res.Result, res.Reason = "none", "SPF or DKIM did not run, without which nothing can be said to fail"
	case res.By == "":
		res.Result, res.Reason = "fail", "neither SPF nor DKIM authenticated it as "+res.Domain
	case who.unsure:
		// That nobody stands behind the domain is certain. That the reader sees this domain and no other is not.
		res.Result, res.Reason = "none", who.reason
	default:
		res.Result, res.Reason = "pass", ""
	}
	return res, nil
}

func (res *DMARCResult) fails(err error) (*DMARCResult, error) {
	res.Result, res.Reason = "temperror", "a DNS look-up failed"
	return res, err
}

// choosePolicy sets the policies. Whether the author domain exists is asked only where it matters.
func (res *DMARCResult) choosePolicy(d *dmarcDiscovery, rec *dmarcRecord) error {
	below, exists := res.PolicyDomain != res.Domain, true
	if below && rec.np != "" && res.By == "" {
		var err error
		if exists, err = d.exists(res.Domain); err != nil {
			return err
		}
	}
	res.Published = rec.policyFor(below, exists)
	res.Policy = rec.applied(res.Published)
	return nil
}

// align looks for an authenticated identifier that is in alignment with the author domain. The error says that one
// may have been missed.
func (res *DMARCResult) align(d *dmarcDiscovery, rec *dmarcRecord, in DMARCInput) error {
	var doubt error
	try := func(by, domain, result string, strict bool) {
		if res.By != "" || result != "pass" && result != "temperror" || domain == "" {
			return
		}
		aligned, err := d.aligned(res.Domain, domain, strict)
		switch {
		case err != nil:
			doubt = errors.Join(doubt, err)
		case aligned && result == "pass":
			res.By, res.Aligned = by, domain
		case aligned:
			doubt = errors.Join(doubt, fmt.Errorf("%s of %s has no result for now", by, domain))
		}
	}
	if in.SPF != nil {
		try("spf", in.SPF.Domain, in.SPF.Result, rec.strictSPF)
	}
	if in.DKIM != nil {
		for _, s := range in.DKIM.Signatures {
			try("dkim", s.Domain, s.Result, rec.strictKey)
		}
	}
	return doubt
}

// author is what the From field says about who wrote a message.
type author struct {
	domain  string   // A-labels, lower case; "" where there is none or more than one
	others  []string // where there are more than one, and not too many: all of them, in their order
	problem string   // a suffix of a symbol: "no_from", "many_from", "bad_from"; "" for none
	reason  string   // the problem in words
	unsure  bool     // the field is malformed: others may read another domain in it
}

// maxAuthorDomains is how many domains of a From field are looked at. Nobody honest has more than two.
const maxAuthorDomains = 10

// authorDomain extracts the one domain of the From field (RFC 9989 section 5.3.1). Where there is none or more than
// one, which of several the reader of the mail sees is not guessed. More than one From field is a fault (RFC 5322
// section 3.6), even when all have the same domain.
func authorDomain(h message.Header) author {
	var who author
	var domains []string
	fields := h.All("From")
	if len(fields) > 1 {
		who.problem, who.reason = "many_from", "there is more than one From field"
	}
	malformed := false
	for _, f := range fields {
		addrs, ok := message.ParseAddresses(f.Value())
		malformed = malformed || !ok
		for _, a := range addrs {
			ascii, ok := asciiDomain(a.Domain)
			switch {
			case !ok:
				malformed = true
			case len(domains) == maxAuthorDomains: // of more the first ones are looked at
			case !slices.Contains(domains, ascii):
				domains = append(domains, ascii)
			}
		}
	}
	if len(domains) == 1 {
		who.domain = domains[0]
	}
	switch {
	case len(domains) > 1:
		who.problem, who.reason, who.unsure, who.others = "many_from", "the From field has more than one domain", true, domains
	case malformed:
		who.problem, who.reason, who.unsure = "bad_from", "the From field is malformed", true
	case who.domain == "":
		who.problem, who.reason = "no_from", "the From field has no address"
	}
	return who
}

// dmarcCheck asks whether the author domain stands behind the message.
type dmarcCheck struct {
	cfg     DMARCConfig
	sealers DomainNames // whose ARC seals may override a failure
	r       dns.Lookuper
}

var (
	_ Symboler    = (*dmarcCheck)(nil)
	_ SenderJudge = (*dmarcCheck)(nil)
)

func newDMARC(cfg DMARCConfig, sealers DomainNames, r dns.Lookuper) *dmarcCheck {
	return &dmarcCheck{cfg: cfg, sealers: sealers, r: r}
}

func (c *dmarcCheck) Name() string    { return "dmarc" }
func (c *dmarcCheck) Scope() Scope    { return PerMessage }
func (c *dmarcCheck) Needs() []string { return []string{"iprev", "spf", "dkim", "arc"} }
func (c *dmarcCheck) JudgesSender()   {}

// Symbols names what the scores name, and each kind of override.
func (c *dmarcCheck) Symbols() []string {
	names := c.cfg.Scores.symbols("dmarc")
	for _, kind := range dmarcOverrideKinds {
		names = append(names, "dmarc.override."+kind)
	}
	return names
}

func (c *dmarcCheck) Run(ctx context.Context, in Input) Report {
	spf, spfErr := awaitOptional(ctx, in.Facts, SPFKey)
	dkim, dkimErr := awaitOptional(ctx, in.Facts, DKIMKey)
	res, err := CheckDMARC(ctx, c.r, DMARCInput{
		Header: in.Message.Header, SPF: spf, DKIM: dkim, PSL: c.cfg.Discovery == "psl",
	})
	// Without one of its inputs DMARC can say that a message passes, but not that it fails.
	if missing := errors.Join(spfErr, dkimErr); missing != nil && res.Result == "fail" {
		res, err = res.fails(missing)
	}
	var over *dmarcOverride
	if res.Result == "fail" {
		seen, missing := c.evidence(ctx, in.Facts, spf, dkim)
		switch over = c.override(in, res, seen); {
		case over != nil:
			res.Override = over.kind
			res.Reason += dmarcLetThrough + over.kind
		case missing != nil:
			res, err = res.fails(missing)
		}
	}
	return Report{Fact: res, Err: err, Auth: []AuthResult{res.authResult()}, Findings: c.findings(res, over)}
}

// dmarcLetThrough stands before the kind of an override in the reason of a failure.
const dmarcLetThrough = ", but it is let through: "

// awaitOptional awaits a check that may be switched off: that is no error, and no result.
func awaitOptional[T any](ctx context.Context, f *Facts, k Key[T]) (T, error) {
	v, err := Await(ctx, f, k)
	if errors.Is(err, ErrSkipped) {
		err = nil
	}
	return v, err
}

// findings gives the result and, for a failure, what the domain's owner asks for. A failure that is overridden forces
// nothing, and what it weighs is taken off again by the finding that names the reason.
func (c *dmarcCheck) findings(res *DMARCResult, over *dmarcOverride) []Finding {
	var findings []Finding
	if res.From != "" {
		findings = append(findings, c.cfg.Scores.finding("dmarc", res.From, res.FromReason))
	}
	f := c.cfg.Scores.finding("dmarc", res.Result, res.detail())
	if res.Result != "fail" {
		return append(findings, f)
	}
	if over == nil && slices.Contains(c.cfg.Honor, res.Policy) {
		f.Force = map[dmarcPolicy]Action{dmarcQuarantine: Quarantine, dmarcReject: Reject}[res.Policy]
		f.Reply = fmt.Sprintf("it is not authenticated as %s, whose owner asks to %s such mail (DMARC)", res.Domain, res.Policy)
	}
	findings = append(findings, f)
	var policy Finding
	if res.Policy != "" { // a host that recorded the failure need not have recorded the policy
		policy = c.policyFinding(res)
		findings = append(findings, policy)
	}
	if over != nil {
		findings = append(findings, Finding{Symbol: "dmarc.override." + over.kind, Score: -f.Score - policy.Score, Detail: over.detail})
	}
	return findings
}

// policyFinding tells what the domain's owner asks for.
func (c *dmarcCheck) policyFinding(res *DMARCResult) Finding {
	asked := fmt.Sprintf("%s asks for %s", res.PolicyDomain, res.Policy)
	if res.Published != res.Policy {
		asked += fmt.Sprintf(" (%s, but in test mode)", res.Published)
	}
	return c.cfg.Scores.finding("dmarc", "policy_"+string(res.Policy), asked)
}

// detail is the evidence in one line.
func (res *DMARCResult) detail() string {
	switch {
	case res.Result == "pass":
		return fmt.Sprintf("%s by %s of %s", res.Domain, strings.ToUpper(res.By), res.Aligned)
	case res.Domain == "":
		return res.Reason
	}
	return res.Domain + ": " + res.Reason
}

func (res *DMARCResult) authResult() AuthResult {
	a := AuthResult{Method: "dmarc", Result: res.Result, Reason: res.Reason}
	if res.Domain != "" {
		a.Props = append(a.Props, Prop{Type: "header", Name: "from", Value: res.Domain})
	}
	if res.Policy != "" {
		a.Props = append(a.Props, Prop{Type: "policy", Name: "dmarc", Value: string(res.Policy)})
	}
	return a
}
