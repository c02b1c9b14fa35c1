package filters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"postern/filters/message"
	"postern/rules"
)

// ContentCheck is the name of the check that evaluates the content rules.
const ContentCheck = "content"

// content evaluates the rules over the message and over what all other checks found.
type content struct {
	set    *rules.Set
	needs  []string
	owners []symbolOwner
}

// A symbolOwner is a check and the symbols that it can yield.
type symbolOwner struct {
	check    string
	patterns []string
}

func newContent(set *rules.Set, others []Stage) *content {
	c := &content{set: set}
	for _, s := range others {
		name := s.Check.Name()
		c.needs = append(c.needs, name)
		c.owners = append(c.owners, symbolOwner{check: name, patterns: symbolsOf(s.Check)})
	}
	return c
}

func (c *content) Name() string    { return ContentCheck }
func (c *content) Scope() Scope    { return PerMessage }
func (c *content) Needs() []string { return c.needs }

// Run turns each rule that hits into a finding. Rules whose condition stayed unknown are told in the fact.
func (c *content) Run(ctx context.Context, in Input) Report {
	s := c.subject(ctx, in)
	eval := c.set.EvalBrief
	if in.Detail {
		eval = c.set.Eval
	}
	res := eval(ctx, s)
	if err := ctx.Err(); err != nil {
		return Report{Err: fmt.Errorf("evaluating rules: %w", context.Cause(ctx))}
	}
	report := Report{Findings: ruleFindings(res)}
	unknown := make([]string, len(res.Unknown))
	for i, r := range res.Unknown {
		unknown[i] = r.ID
	}
	report.Fact = ContentFact{Unknown: unknown}
	return report
}

// ContentFact is what the content check tells beside its findings.
type ContentFact struct {
	Unknown []string // ids of the rules whose condition could not be decided, because a check failed
}

func ruleFindings(res rules.Result) []Finding {
	findings := make([]Finding, 0, len(res.Hits))
	for _, hit := range res.Hits {
		r := hit.Rule
		findings = append(findings, Finding{
			Symbol:   r.ID,
			Score:    Score(hit.Score), // a list entry's own score replaces the rule's
			ScorePos: hit.ScorePos,
			Dormant:  r.Mode == rules.Off,
			Detail:   hit.Detail,
			Pos:      r.Pos,
			Shadow:   r.Mode == rules.Shadow,
			Force:    ActionNamed(r.Action),
			Reply:    r.Reply,
			Malware:  r.Malware,
			Refuse:   r.Refuse,
		})
	}
	return findings
}

// A Refuser is a check that may refuse a recipient before DATA.
type Refuser interface {
	MayRefuse() bool
}

// Refusals awaits the checks that may refuse before DATA, evaluates the rules that may (set may be nil), and gives the
// findings that ask for it, those of shadow rules too: the recipient's domain may have them otherwise. Without any such check
// or rule it waits for nothing.
func (r *Run) Refusals(ctx context.Context, set *rules.Set, rcpts []Rcpt) []Finding {
	asks := set != nil && len(set.Refusals()) > 0
	s := &subject{ctx: ctx, in: r.in}
	s.in.Rcpts = rcpts
	var refusals []Finding
	for i, stage := range r.p.stages {
		refuser, ok := stage.Check.(Refuser)
		mayRefuse := ok && refuser.MayRefuse()
		if t := r.tasks[i]; t != nil && (asks || mayRefuse) {
			report := t.await(ctx)
			s.take(symbolOwner{check: stage.Check.Name(), patterns: symbolsOf(stage.Check)}, report)
			refusals = appendRefusals(refusals, report.Findings)
		}
	}
	if asks {
		refusals = appendRefusals(refusals, ruleFindings(set.EvalRefusals(ctx, s)))
	}
	return refusals
}

// A BannerRefuser is a check of the client that may refuse the connection in place of the banner.
type BannerRefuser interface {
	RefusesAtBanner() bool
}

// BannerRefusal awaits the checks that may refuse in place of the banner, and gives the first finding that asks for it.
// Without any such check it waits for nothing.
func (r *Run) BannerRefusal(ctx context.Context) (Finding, bool) {
	for i, stage := range r.p.stages {
		refuser, ok := stage.Check.(BannerRefuser)
		if r.tasks[i] == nil || !ok || !refuser.RefusesAtBanner() {
			continue
		}
		for _, f := range r.tasks[i].await(ctx).Findings {
			if f.Banner && !f.Shadow {
				return f, true
			}
		}
	}
	return Finding{}, false
}

func appendRefusals(list, findings []Finding) []Finding {
	for _, f := range findings {
		if f.Refuse {
			list = append(list, f)
		}
	}
	return list
}

// subject gathers the reports of the other checks, which have ended or end soon, into what rules ask about.
func (c *content) subject(ctx context.Context, in Input) *subject {
	s := &subject{ctx: ctx, in: in}
	for i, name := range c.needs {
		report, err := in.Facts.Report(ctx, name)
		if errors.Is(err, ErrSkipped) {
			continue
		}
		if err != nil {
			report = Report{Err: err}
		}
		s.take(c.owners[i], report)
	}
	return s
}

// subject is what rules may ask of one message; it implements rules.Subject.
type subject struct {
	ctx      context.Context
	in       Input
	findings []Finding
	auth     []AuthResult
	failed   []symbolOwner
	rdns     rules.Answer
}

var _ rules.Subject = (*subject)(nil)

func (s *subject) take(owner symbolOwner, report Report) {
	s.findings = append(s.findings, report.Findings...)
	s.auth = append(s.auth, report.Auth...)
	if fact, ok := report.Fact.(*IprevResult); ok && fact != nil && fact.Name != "" {
		s.rdns.Values = []string{fact.Name}
	}
	if report.Err == nil {
		return
	}
	s.findings = append(s.findings, Finding{Symbol: owner.check + ".error"})
	s.failed = append(s.failed, owner)
	if owner.check == "iprev" {
		s.rdns.Unknown = true
	}
}

// Header answers with one value per field, or per address for the parts of addresses.
func (s *subject) Header(name, part string) rules.Answer {
	if s.in.Message == nil {
		return rules.Answer{Unknown: true}
	}
	var answer rules.Answer
	for _, f := range s.in.Message.Header.All(name) {
		answer.Values = appendHeader(answer.Values, f, part)
	}
	return answer
}

func appendHeader(values []string, f message.Field, part string) []string {
	switch part {
	case "raw":
		return append(values, f.Value())
	case "", "decoded":
		return append(values, f.Decoded())
	}
	addresses, _ := message.ParseAddresses(f.Value())
	for _, a := range addresses {
		if a.Group {
			continue
		}
		if v := addressPart(a, part); v != "" {
			values = append(values, v)
		}
	}
	return values
}

func addressPart(a message.Address, part string) string {
	switch part {
	case "name":
		return a.Name
	case "address":
		return a.String()
	case "local":
		return a.Local
	case "domain":
		return a.Domain
	case "org_domain":
		return message.OrgDomain(a.Domain)
	case "name_domain":
		return claimedDomain(a.Name)
	}
	return ""
}

// Mailboxes gives the addresses in all fields of a name.
func (s *subject) Mailboxes(name string) []rules.Mailbox {
	if s.in.Message == nil {
		return nil
	}
	var list []rules.Mailbox
	for _, f := range s.in.Message.Header.All(name) {
		addresses, _ := message.ParseAddresses(f.Value())
		for _, a := range addresses {
			if !a.Group {
				list = append(list, rules.Mailbox{Name: a.Name, Local: a.Local, Domain: a.Domain, OrgDomain: message.OrgDomain(a.Domain)})
			}
		}
	}
	return list
}

// maxRawBody bounds what a rule on the raw body sees; the text views have the reader's own bounds.
const maxRawBody = 1 << 20

// Body gives the decoded views of the body, or its first MiB as it was sent.
func (s *subject) Body(part string) string {
	m := s.in.Message
	if m == nil {
		return ""
	}
	switch part {
	case "hidden":
		return m.Hidden()
	case "html":
		return m.HTML()
	case "raw":
		return rawBody(m.Body())
	}
	return m.Text()
}

// rawBody reads a body into memory of just its size.
func rawBody(body *io.SectionReader) string {
	var raw strings.Builder
	raw.Grow(int(min(body.Size(), maxRawBody)))
	buf := bodyBuffers.Get().(*[bodyPiece]byte)
	defer bodyBuffers.Put(buf)
	if _, err := io.CopyBuffer(&raw, io.LimitReader(body, maxRawBody), buf[:]); err != nil {
		return ""
	}
	return raw.String()
}

func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// Envelope answers about the client and the SMTP envelope.
func (s *subject) Envelope(part string) rules.Answer {
	in := s.in
	switch part {
	case "ip":
		if in.Client != nil && in.Client.IP.IsValid() {
			return values(in.Client.IP.String())
		}
	case "rdns":
		return s.rdns
	case "helo":
		if in.Helo != nil {
			return values(in.Helo.Name)
		}
	case "from", "from_domain":
		if in.Mail != nil {
			return values(pathPart(in.Mail.From, part == "from_domain"))
		}
	case "rcpt", "rcpt_domain":
		var answer rules.Answer
		for _, r := range in.Rcpts {
			answer.Values = append(answer.Values, pathPart(r.To, part == "rcpt_domain"))
		}
		return answer
	case "tls":
		if in.Client != nil && in.Client.TLS != nil {
			return values(TLSName(in.Client.TLS.Version))
		}
	}
	return rules.Answer{}
}

func values(v string) rules.Answer {
	return rules.Answer{Values: []string{v}}
}

func pathPart(p Path, domain bool) string {
	if domain {
		return strings.ToLower(p.Domain)
	}
	return p.String()
}

// Auth answers with the results of an authentication method, or with the domains that it authenticated.
func (s *subject) Auth(part string) rules.Answer {
	method, wantDomain := part, false
	switch part {
	case "dmarc_domain":
		method, wantDomain = "dmarc", true
	case "dkim_domain":
		method, wantDomain = "dkim", true
	}
	answer := rules.Answer{Unknown: s.hasFailed(method)}
	for _, a := range s.auth {
		switch {
		case a.Method != method:
		case a.Result == "temperror" && wantDomain:
			answer.Unknown = true
		case !wantDomain:
			answer.Values = append(answer.Values, a.Result)
			answer.Unknown = answer.Unknown || a.Result == "temperror"
		case a.Result == "pass":
			answer.Values = append(answer.Values, authDomain(a)...)
		}
	}
	return answer
}

// authDomain is the domain that a DKIM or DMARC result is about.
func authDomain(a AuthResult) []string {
	for _, p := range a.Props {
		if p.Type == "header" && (p.Name == "d" || p.Name == "from") {
			domain := p.Value[strings.LastIndexByte(p.Value, '@')+1:]
			return one(strings.ToLower(domain))
		}
	}
	return nil
}

func (s *subject) hasFailed(check string) bool {
	for _, f := range s.failed {
		if f.check == check {
			return true
		}
	}
	return false
}

// Symbol counts the findings of other checks. A symbol that a failed check could have yielded is unknown.
func (s *subject) Symbol(name string) (count int, score int32, unknown bool) {
	for _, f := range s.findings {
		if !f.Shadow && matchesSymbol(name, f.Symbol) {
			count += max(f.Count, 1)
			score += int32(f.Score)
		}
	}
	if count > 0 {
		return count, score, false
	}
	for _, owner := range s.failed {
		for _, pattern := range owner.patterns {
			if matchesSymbol(pattern, name) || matchesSymbol(name, pattern) {
				return 0, 0, true
			}
		}
	}
	return 0, 0, false
}

// Now is the time at which the message is judged.
func (s *subject) Now() time.Time { return s.in.Now }
