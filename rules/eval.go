package rules

import (
	"context"
	"strings"

	"postern/rules/strict"
)

// A Match is a rule that hit.
type Match struct {
	Rule *Rule
	// Score is the rule's, or that of the list entry which made it hit, where the list gives one.
	Score int32
	// ScorePos is where that score stands: in the rule, in what overrides it, or in a list.
	ScorePos Pos
	// Detail is what matched, in short. It may hold what a stranger wrote, control characters included: who shows it
	// escapes it.
	Detail string
}

// A Result is what the rules say about a message, in the order of the rules.
type Result struct {
	Hits    []Match
	Unknown []*Rule // whose condition is unknown, because a check failed or time ran out
	Err     error   // the context's, when it ended before all rules were asked
}

// Eval puts all rules that are not off to a subject.
func (s *Set) Eval(ctx context.Context, subject Subject) Result {
	st := s.begin(ctx, subject)
	defer st.letGo()
	return st.run(st.toAsk())
}

// EvalBrief is Eval without [Match.Detail], which nobody reads while mail is served, and which costs more than the rest where
// many rules hit.
func (s *Set) EvalBrief(ctx context.Context, subject Subject) Result {
	st := s.begin(ctx, subject)
	defer st.letGo()
	st.brief = true
	return st.run(st.toAsk())
}

// EvalRefusals puts only those of [Set.Refusals] to a subject, for use before DATA.
func (s *Set) EvalRefusals(ctx context.Context, subject Subject) Result {
	refuse := newRuleSet(len(s.rules))
	for i := range s.rules {
		if r := &s.rules[i]; r.when != nil && r.rule.Refuse {
			refuse.add(int32(i))
		}
	}
	st := s.begin(ctx, subject)
	defer st.letGo()
	return st.run(refuse)
}

func (st *state) run(asked ruleSet) Result {
	var res Result
	asked.each(func(i int) {
		switch r := &st.set.rules[i]; st.rule(i) {
		case True:
			res.Hits = append(res.Hits, st.match(r))
		case Unknown:
			res.Unknown = append(res.Unknown, r.rule)
		}
	})
	if len(res.Unknown) > 0 {
		res.Err = st.ctx.Err()
	}
	return res
}

// match explains a hit. It asks the conditions again, in the order of the file and with answers at hand, so that rules
// that don't hit pay nothing for it.
func (st *state) match(r *compiledRule) Match {
	m := Match{Rule: r.rule, Score: r.rule.Score, ScorePos: r.rule.ScorePos}
	if st.preset[r.rule.ID] || st.brief && !st.tables.scored {
		return m
	}
	ev := evidence{brief: st.brief}
	r.when.evidence(st, nil, &ev)
	if ev.score != nil && !r.rule.ScoreOverridden {
		m.Score, m.ScorePos = *ev.score, ev.scorePos
	}
	m.Detail = strings.Join(ev.details, "; ")
	return m
}

// Rules returns all rules, those that are off too, in their order.
func (s *Set) Rules() []*Rule {
	rules := make([]*Rule, len(s.rules))
	for i := range s.rules {
		rules[i] = s.rules[i].rule
	}
	return rules
}

// Refusals returns the rules with refuse: true that are not off. They ask only for what is known before DATA.
func (s *Set) Refusals() []*Rule {
	var rules []*Rule
	for i := range s.rules {
		if r := &s.rules[i]; r.rule.Refuse && r.when != nil {
			rules = append(rules, r.rule)
		}
	}
	return rules
}

// Warnings returns what is allowed and looks unintended, sorted by position.
func (s *Set) Warnings() []strict.Problem { return s.warnings }

// NeedsSymbols returns the symbols of checks that the rules in force ask for, sorted.
func (s *Set) NeedsSymbols() []string { return s.symbols }

// NeedsAuth returns the parts of auth that the rules in force ask for, sorted.
func (s *Set) NeedsAuth() []string { return s.auth }
