package filters

import (
	"maps"
	"slices"
	"strings"

	"postern/rules"
	"postern/rules/strict"
)

// RuleOverrides change the scores and modes of content rules by their ids, for all mail or for some recipient domain.
type RuleOverrides map[string]RuleOverride

// A RuleOverride changes one rule. What it does not name stays as the rule has it.
type RuleOverride struct {
	Score *float64   `yaml:"score"`
	Mode  *RuleMode  `yaml:"mode"`
	Pos   strict.Pos `yaml:"-"` // of the rule's id
}

// RuleMode is a mode of a rule, as the configuration writes it.
type RuleMode rules.Mode

// UnmarshalStrict reads enforce, shadow or off.
func (m *RuleMode) UnmarshalStrict(n *strict.Node) strict.Problems {
	return decodeWord(n, m, rules.ModeNames()...)
}

// UnmarshalStrict wants each override to change something.
func (o *RuleOverrides) UnmarshalStrict(n *strict.Node) strict.Problems {
	var all map[string]RuleOverride
	problems := n.Decode(&all)
	for _, pair := range n.Pairs() {
		id := pair.Key.Text()
		override := all[id]
		override.Pos = pair.Key.Pos()
		all[id] = override
		switch {
		case pair.Value.Kind() == strict.Mapping && len(pair.Value.Pairs()) == 0, pair.Value.Kind() == strict.Null:
			problems.Addf(pair.Key.Pos(), "nothing is said of the rule %s, expected {score: 2.5} or {mode: shadow}", id)
		case override.Score != nil:
			if wrong := BadPoints(*override.Score); wrong != "" {
				problems.Addf(pair.Value.Get("score").Pos(), "%s", wrong)
			}
		}
	}
	*o = all
	return problems
}

// compiled gives the overrides as the compiler of rules takes them.
func (o RuleOverrides) compiled() map[string]rules.Override {
	list := make(map[string]rules.Override, len(o))
	for id, override := range o {
		list[id] = override.compiled()
	}
	return list
}

func (o RuleOverride) compiled() rules.Override {
	c := rules.Override{Pos: o.Pos}
	if o.Score != nil {
		score := int32(Points(*o.Score))
		c.Score = &score
	}
	if o.Mode != nil {
		mode := rules.Mode(*o.Mode)
		c.Mode = &mode
	}
	return c
}

// perDomain gives the ids of the rules that some domain has in a mode of its own.
func perDomain(domains map[string]RuleOverrides) map[string]bool {
	ids := make(map[string]bool)
	for _, overrides := range domains {
		for id, o := range overrides {
			if o.Mode != nil && rules.Mode(*o.Mode) != rules.Off {
				ids[id] = true
			}
		}
	}
	return ids
}

// unknownRules complains about overrides of rules that the set has not.
func unknownRules(set *rules.Set, domains map[string]RuleOverrides) strict.Problems {
	var ids []string
	for _, r := range set.Rules() {
		ids = append(ids, r.ID)
	}
	var problems strict.Problems
	for _, domain := range slices.Sorted(maps.Keys(domains)) {
		for _, id := range slices.Sorted(maps.Keys(domains[domain])) {
			if !slices.Contains(ids, id) {
				problems.Addf(domains[domain][id].Pos, "%s", strict.Unknown("rule", id, ids))
			}
		}
	}
	return problems
}

// ownRules gives the overrides that hold for a recipient domain; nil for none.
func (p *Policy) ownRules(domain string) RuleOverrides {
	if len(p.Rules) == 0 {
		return nil
	}
	return p.Rules[policyDomain(domain)]
}

// policyDomain is a recipient domain as the policies name it: in A-labels and lower case.
func policyDomain(domain string) string {
	name := strings.TrimSuffix(strings.ToLower(domain), ".")
	if ascii, ok := asciiDomain(name); ok {
		return ascii
	}
	return name
}

// Same reports whether two recipient domains are under the same policy.
func (p *Policy) Same(a, b string) bool {
	return policyDomain(a) == policyDomain(b) ||
		p.For(a) == p.For(b) && len(p.ownRules(a)) == 0 && len(p.ownRules(b)) == 0
}

// seen gives the findings as the policy of a recipient domain sees them: with its own scores and modes. A rule that is off but
// for some domains, and not for this one, has found nothing.
func (o RuleOverrides) seen(findings []Finding) []Finding {
	var list []Finding
	for i, f := range findings {
		own, ok := o[f.Symbol]
		if (!ok || f.Pos.IsZero()) && !f.Dormant {
			if list != nil {
				list = append(list, f)
			}
			continue
		}
		if list == nil {
			list = append(make([]Finding, 0, len(findings)), findings[:i]...)
		}
		if f, ok := own.applied(f); ok {
			list = append(list, f)
		}
	}
	if list == nil {
		return findings
	}
	return list
}

// applied is the finding as the override has it; ok is false where there is none.
func (o RuleOverride) applied(f Finding) (changed Finding, ok bool) {
	if o.Score != nil {
		f.Score, f.ScorePos = Points(*o.Score), o.Pos
	}
	switch {
	case o.Mode == nil:
		return f, !f.Dormant
	case rules.Mode(*o.Mode) == rules.Off:
		return f, false
	}
	f.Shadow, f.Dormant = rules.Mode(*o.Mode) == rules.Shadow, false
	return f, true
}

// A group is recipients for whom the rules have the same scores and modes.
type group struct {
	rules RuleOverrides
	rcpts []Rcpt
}

// groups puts recipients together by the domains that have rules of their own. There is always one.
func (p *Policy) groups(rcpts []Rcpt) []group {
	if len(p.Rules) == 0 || len(rcpts) == 0 {
		return []group{{rcpts: rcpts}}
	}
	var list []group
	place := make(map[string]int) // of the group of a domain; "" is that of the domains without rules of their own
	for _, r := range rcpts {
		name := policyDomain(r.To.Domain)
		if len(p.Rules[name]) == 0 {
			name = ""
		}
		i, ok := place[name]
		if !ok {
			i = len(list)
			place[name] = i
			list = append(list, group{rules: p.Rules[name]})
		}
		list[i].rcpts = append(list[i].rcpts, r)
	}
	return list
}
