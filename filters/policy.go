package filters

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Thresholds are the scores from which an action is taken; zero means never.
type Thresholds struct {
	Tag, Quarantine, Reject Score
}

// Split says what happens when the recipients of one message are under different policies.
type Split uint8

// The ways to treat recipients under different policies.
const (
	SplitLenient Split = iota // refuse only if every recipient's policy refuses, else the milder action
	SplitDefer                // a later recipient under another policy hears 452 and is retried apart
)

// A Policy turns evidence into a verdict. It is immutable.
type Policy struct {
	Default    Thresholds
	ByDomain   map[string]Thresholds    // per recipient domain, in A-labels and lower case
	Rules      map[string]RuleOverrides // likewise: scores and modes of rules
	Split      Split
	Postmaster Action // the severest action on mail that goes to postmaster or abuse only
	Bounces    Action // the severest action on mail with the null reverse-path
	Observe    bool
	Diverts    bool   // there is a quarantine
	Contact    string // whom a refused sender may ask: an address or URL
}

// A Case is all that a decision is made of.
type Case struct {
	ID       string // the transaction's id, for the reply
	Refusal  *Refusal
	Mail     *Mail
	Rcpts    []Rcpt
	Findings []Finding
}

// A Refusal is a decision that no evidence can change: relaying, protocol, size, loops.
type Refusal struct {
	By    string // "relay", "loop", "size" …
	Reply Reply
}

// For gives the thresholds for a recipient domain.
func (p *Policy) For(domain string) Thresholds {
	if len(p.ByDomain) == 0 {
		return p.Default
	}
	if t, ok := p.ByDomain[policyDomain(domain)]; ok {
		return t
	}
	return p.Default
}

// Decide is the only place that decides. In this order: refusals of relaying and protocol, malware, local accept,
// forced action, score.
//
// A forced quarantine, defer or reject is final; a forced tag is the least that happens, the score may ask for more.
//
// Recipients whose domains have rules with other scores or modes are judged apart, and the mildest verdict is everyone's; the
// findings are then as that domain has them, so that they add up to the score.
func (p *Policy) Decide(c Case) Verdict {
	var mildest Verdict
	for i, g := range p.groups(c.Rcpts) {
		own := c
		own.Rcpts, own.Findings = g.rcpts, g.rules.seen(c.Findings)
		v := p.decide(own)
		if i == 0 || v.severity() < mildest.severity() {
			mildest = v
		}
	}
	return mildest
}

// severity is the action that is taken, or would be without observe.
func (v *Verdict) severity() Action { return max(v.Action, v.Would) }

// decide is Decide for recipients whose rules have the same scores and modes.
func (p *Policy) decide(c Case) Verdict {
	v := Verdict{Findings: c.Findings, Score: sum(c.Findings), Limit: p.limit(c)}
	switch malware, accept, forced := strongest(c.Findings); {
	case c.Refusal != nil:
		v.Action, v.By, v.Reply = Reject, c.Refusal.By, c.Refusal.Reply
		if v.Reply.Code/100 == 4 {
			v.Action = Defer
		}
		v.Reply.Text = withID(v.Reply.Text, c.ID)
		return v
	case malware != nil:
		v.Action, v.By = p.againstMalware(malware.Force), "malware"
		if malware.Force == Defer {
			v.By = malware.Symbol // it could not be looked for
		}
		v.Reply = p.reply(v.Action, cmp.Or(malware.Reply, "the message carries malware"), c.ID)
	case accept != nil:
		v.Action, v.By = Accept, accept.Symbol
	case forced != nil && forced.Force > Tag:
		v.Action, v.By = forced.Force, forced.Symbol
		v.Reply = p.reply(v.Action, cmp.Or(forced.Reply, reason(*forced)), c.ID)
	default:
		p.byScore(&v, c)
		if forced != nil && v.Action < Tag {
			v.Action, v.By, v.Limit = Tag, forced.Symbol, 0
		}
	}
	p.soften(&v, c)
	return v
}

// RefuseEarly decides, for one recipient or none, on the findings that ask for a refusal before DATA: the first one is the reason. Nothing is
// refused when observing, and postmaster, abuse and bounces have their exceptions here as after DATA.
func (p *Policy) RefuseEarly(c Case) Verdict {
	own := RuleOverrides(nil)
	if len(c.Rcpts) > 0 {
		own = p.ownRules(c.Rcpts[0].To.Domain)
	}
	c.Findings = slices.DeleteFunc(slices.Clone(own.seen(c.Findings)), func(f Finding) bool { return f.Shadow })
	v := Verdict{Findings: c.Findings, Score: sum(c.Findings)}
	if len(c.Findings) == 0 {
		return v
	}
	first := c.Findings[0]
	v.Action, v.By = Reject, first.Symbol
	if first.Force == Defer {
		v.Action = Defer
	}
	v.Reply = p.reply(v.Action, cmp.Or(first.Reply, reason(first)), c.ID)
	p.soften(&v, c)
	return v
}

// RefuseBanner decides on a finding that asks for a refusal in place of the banner. Nobody is named by then, so no
// exception is made for anybody's mail.
func (p *Policy) RefuseBanner(f Finding, id string) Verdict {
	v := Verdict{Findings: []Finding{f}, Score: f.Score, Action: Reject, By: f.Symbol}
	v.Reply = p.reply(v.Action, reason(f), id)
	v.Reply.Code = 554 // RFC 5321 section 3.1
	p.soften(&v, Case{})
	return v
}

// sum is the exact score: what the findings in the log line add up to.
func sum(findings []Finding) Score {
	total := Score(0)
	for _, f := range findings {
		if !f.Shadow {
			total += f.Score
		}
	}
	return total
}

// strongest picks the findings that ask for an action whatever the score; the first one among equals.
func strongest(findings []Finding) (malware, accept, forced *Finding) {
	for i := range findings {
		f := &findings[i]
		switch {
		case f.Shadow:
		case f.Malware && (malware == nil || f.Force > malware.Force):
			malware = f
		case f.Malware:
		case f.Force == Accept && accept == nil:
			accept = f
		case f.Force > Accept && (forced == nil || f.Force > forced.Force):
			forced = f
		}
	}
	return malware, accept, forced
}

// againstMalware is never less than diverting, whatever the rule asks for, and refusing where there is no quarantine.
func (p *Policy) againstMalware(asked Action) Action {
	if asked == NoAction || asked <= Quarantine && !p.Diverts {
		return Reject
	}
	return max(asked, Quarantine)
}

// limit is the lowest reject threshold among the recipients, or the highest threshold there is: what the log
// shows when no threshold decided.
func (p *Policy) limit(c Case) Score {
	limit := Score(0)
	for _, t := range p.thresholds(c) {
		top := cmp.Or(t.Reject, t.Quarantine, t.Tag)
		if limit == 0 || top < limit {
			limit = top
		}
	}
	return limit
}

// thresholds lists each recipient's, or the default without recipients (scan).
func (p *Policy) thresholds(c Case) []Thresholds {
	if len(c.Rcpts) == 0 || len(p.ByDomain) == 0 {
		return []Thresholds{p.Default}
	}
	list := make([]Thresholds, len(c.Rcpts))
	for i, r := range c.Rcpts {
		list[i] = p.For(r.To.Domain)
	}
	return list
}

// byScore takes the mildest action that any recipient's thresholds ask for: a refusal only if all refuse.
func (p *Policy) byScore(v *Verdict, c Case) {
	v.Action = NoAction
	for i, t := range p.thresholds(c) {
		action, limit := t.action(v.Score)
		if i == 0 || action < v.Action {
			v.Action = action
			if action > Accept {
				v.Limit = limit
			}
		}
	}
	v.By = "score"
	if v.Action == Accept {
		v.Limit = p.limit(c)
		return
	}
	v.Reply = p.reply(v.Action, "it looks like spam"+chiefly(v.Findings), c.ID)
}

func (t Thresholds) action(score Score) (Action, Score) {
	switch {
	case t.Reject != 0 && score >= t.Reject:
		return Reject, t.Reject
	case t.Quarantine != 0 && score >= t.Quarantine:
		return Quarantine, t.Quarantine
	case t.Tag != 0 && score >= t.Tag:
		return Tag, t.Tag
	}
	return Accept, 0
}

// soften applies the caps (postmaster, bounces), the lack of a quarantine, and observe mode.
func (p *Policy) soften(v *Verdict, c Case) {
	if v.By != "malware" {
		if p.Postmaster != NoAction && toPostmaster(c.Rcpts) && v.Action > p.Postmaster {
			v.Action, v.By = p.Postmaster, v.By+",postmaster"
		}
		if p.Bounces != NoAction && c.Mail != nil && c.Mail.From.Null() && v.Action > p.Bounces {
			v.Action, v.By = p.Bounces, v.By+",bounce"
		}
	}
	if v.Action == Quarantine && !p.Diverts {
		v.Action = Tag
	}
	if p.Observe && v.Action > Accept {
		v.Would, v.Action = v.Action, Accept
	}
	if v.Action <= Quarantine {
		v.Reply = Reply{}
	}
}

// toPostmaster reports whether all recipients are addresses that RFC 5321 section 4.5.1 and RFC 2142 want reachable.
func toPostmaster(rcpts []Rcpt) bool {
	return len(rcpts) > 0 && !slices.ContainsFunc(rcpts, func(r Rcpt) bool {
		return !strings.EqualFold(r.To.Local, "postmaster") && !strings.EqualFold(r.To.Local, "abuse")
	})
}

func (p *Policy) reply(a Action, why, id string) Reply {
	switch a {
	case Reject:
		text := "Message refused: " + why
		if p.Contact != "" {
			text += "; if this is a mistake, tell " + p.Contact
		}
		return Reply{Code: 550, Enhanced: "5.7.1", Text: withID(text, id)}
	case Defer:
		return Reply{Code: 451, Enhanced: "4.7.1", Text: withID("Message deferred: "+why, id)}
	}
	return Reply{}
}

// withID puts the id by which the administrator finds the log line at the end of a reply.
func withID(text, id string) string {
	if id == "" {
		return text
	}
	return fmt.Sprintf("%s (id %s)", text, id)
}

// chiefly names, in a sender's words, the finding that weighs most.
func chiefly(findings []Finding) string {
	top := -1
	for i, f := range findings {
		if !f.Shadow && f.Score > 0 && (top < 0 || f.Score > findings[top].Score) {
			top = i
		}
	}
	if top < 0 {
		return ""
	}
	return ", chiefly because " + reason(findings[top])
}

// reason says in a sender's words what a finding means. It quotes nothing that the sender wrote.
func reason(f Finding) string {
	kind, rest, _ := strings.Cut(f.Symbol, ".")
	switch kind {
	case "spf":
		return "the sender's domain does not allow your server to send for it (SPF)"
	case "dkim":
		return "its DKIM signature is not valid"
	case "dmarc":
		return "it is not authenticated as the domain in its From field (DMARC)"
	case "iprev", "rdns":
		return "your server's address has no confirmed host name"
	case "helo":
		return "your server did not introduce itself with its own host name"
	case "dnsbl":
		for _, of := range dnsblIdentities {
			if zone, ok := strings.CutSuffix(rest, "."+string(of)); ok {
				return dnsblWords[of] + " is listed at " + zone
			}
		}
		return "your server's address is listed at " + rest
	case "mailfrom":
		return "the sender's domain does not take mail, and so can't be answered"
	}
	if f.Reply != "" {
		return f.Reply
	}
	return "its content matches a rule of this site (" + f.Symbol + ")"
}

// ActionNamed is the action of that name; NoAction for an unknown one.
func ActionNamed(name string) Action {
	for a, n := range actionNames {
		if n == name {
			return Action(a)
		}
	}
	return NoAction
}
