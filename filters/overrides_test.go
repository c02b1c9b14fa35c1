package filters

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/rules"
)

// Each recipient domain has its own view of the rules, and the mildest verdict is everyone's.
func TestDecideWithRulesOfDomains(t *testing.T) {
	points := func(p float64) *float64 { return &p }
	mode := func(m rules.Mode) *RuleMode { own := RuleMode(m); return &own }
	p := Policy{
		Default: Thresholds{Tag: 500, Reject: 1200},
		Rules: map[string]RuleOverrides{
			"strict.example":                {"R": {Score: points(12)}},
			"milder.example":                {"R": {Score: points(1)}},
			"tries.example":                 {"ASLEEP": {Mode: mode(rules.Enforce)}, "TRIED": {Mode: mode(rules.Enforce)}},
			"shows.example":                 {"R": {Mode: mode(rules.Shadow)}, "ASLEEP": {Mode: mode(rules.Shadow)}},
			"without.xn--bcher-kva.example": {"R": {Mode: mode(rules.Off)}, "spf.fail": {Mode: mode(rules.Off)}},
		},
	}
	pos := rules.Pos{File: "r.yaml", Line: 1, Col: 1}
	found := []Finding{
		{Symbol: "spf.fail", Score: 300},
		{Symbol: "R", Score: 300, Pos: pos},
		{Symbol: "TRIED", Score: 600, Pos: pos, Shadow: true},
		{Symbol: "ASLEEP", Score: 600, Pos: pos, Dormant: true},
	}
	tests := []struct {
		why    string
		to     []string
		score  Score
		action Action
		seen   []string // with "~" before those that don't count
	}{
		{"no rules of its own", []string{"any.example"}, 600, Tag, []string{"spf.fail", "R", "~TRIED"}},
		{"without recipients, as in a scan", nil, 600, Tag, []string{"spf.fail", "R", "~TRIED"}},
		{"a higher score", []string{"strict.example"}, 1500, Reject, []string{"spf.fail", "R", "~TRIED"}},
		{"a lower score", []string{"milder.example"}, 400, Accept, []string{"spf.fail", "R", "~TRIED"}},
		{"enforced here, though off or in shadow elsewhere", []string{"tries.example"}, 1800, Reject, []string{"spf.fail", "R", "TRIED", "ASLEEP"}},
		{"shadow here, though enforced or off elsewhere", []string{"shows.example"}, 300, Accept, []string{"spf.fail", "~R", "~TRIED", "~ASLEEP"}},
		{"off here; a check's symbol is no rule; the domain in U-labels", []string{"Without.Bücher.example"}, 300, Accept, []string{"spf.fail", "~TRIED"}},
		{"the mildest is everyone's", []string{"strict.example", "any.example"}, 600, Tag, []string{"spf.fail", "R", "~TRIED"}},
		{"whatever their order", []string{"milder.example", "strict.example"}, 400, Accept, []string{"spf.fail", "R", "~TRIED"}},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			c := Case{Findings: found}
			for _, domain := range tt.to {
				c.Rcpts = append(c.Rcpts, Rcpt{To: Path{Local: "a", Domain: domain}})
			}
			v := p.Decide(c)
			if v.Score != tt.score || v.Action != tt.action {
				t.Errorf("%v at %v, want %v at %v", v.Action, v.Score, tt.action, tt.score)
			}
			var seen []string
			total := Score(0)
			for _, f := range v.Findings {
				name := f.Symbol
				if f.Shadow {
					name = "~" + name
				} else {
					total += f.Score
				}
				seen = append(seen, name)
			}
			if d := cmp.Diff(tt.seen, seen); d != "" {
				t.Error(d)
			}
			if total != v.Score {
				t.Errorf("the findings add up to %v, the score is %v", total, v.Score)
			}
		})
	}
	if found[1].Score != 300 || !found[3].Dormant {
		t.Error("the findings themselves were changed")
	}
}

// A rule that may refuse before DATA does so by the mode that the recipient's domain has it in.
func TestRefuseEarlyByRulesOfDomains(t *testing.T) {
	enforce, off := RuleMode(rules.Enforce), RuleMode(rules.Off)
	p := Policy{Rules: map[string]RuleOverrides{"tries.example": {"SHADOW": {Mode: &enforce}}, "without.example": {"R": {Mode: &off}}}}
	pos := rules.Pos{File: "r.yaml", Line: 1, Col: 1}
	for _, tt := range []struct {
		domain, symbol string
		shadow         bool
		want           Action
	}{
		{"any.example", "R", false, Reject},
		{"without.example", "R", false, NoAction},
		{"any.example", "SHADOW", true, NoAction},
		{"tries.example", "SHADOW", true, Reject},
	} {
		v := p.RefuseEarly(Case{
			Rcpts:    []Rcpt{{To: Path{Local: "a", Domain: tt.domain}}},
			Findings: []Finding{{Symbol: tt.symbol, Force: Reject, Refuse: true, Shadow: tt.shadow, Pos: pos}},
		})
		if v.Action != tt.want {
			t.Errorf("%s for %s: %v, want %v", tt.symbol, tt.domain, v.Action, tt.want)
		}
	}
}

// Recipients share a transaction under policy.split: defer only where nothing would be judged differently.
func TestSamePolicy(t *testing.T) {
	zero := 0.0
	p := Policy{
		ByDomain: map[string]Thresholds{"strict.example": {Reject: 500}},
		Rules:    map[string]RuleOverrides{"own.example": {"R": {Score: &zero}}, "other.example": {"R": {Score: &zero}}},
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"a.example", "b.example", true},
		{"a.example", "strict.example", false},
		{"a.example", "own.example", false},
		{"own.example", "OWN.example.", true},
		{"own.example", "other.example", false},
	} {
		if got := p.Same(tt.a, tt.b); got != tt.want {
			t.Errorf("%s and %s: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}
