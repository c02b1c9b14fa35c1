package rules_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/rules"
	"postern/rules/rulestest"
)

const overridable = `
lists: {l: {file: l.txt}}
rules:
  - {id: PLAIN, score: 1, when: {envelope: helo, equals: pc}}
  - {id: LISTED, score: 1, when: {envelope: helo, in: l}}
  - {id: ASIDE, score: 1, mode: off, when: {envelope: helo, equals: pc}}
  - {id: ASKS, score: 1, when: {symbol: PLAIN}}
`

func TestOverrides(t *testing.T) {
	score, shadow, enforce, off := int32(250), rules.Shadow, rules.Enforce, rules.Off
	at := rules.Pos{File: "postern.yaml", Line: 7, Col: 3}
	tests := []struct {
		why       string
		overrides map[string]rules.Override
		perDomain map[string]bool
		want      map[string]int32
	}{
		{"none", nil, nil, map[string]int32{"PLAIN": 100, "LISTED": 400, "ASKS": 100}},
		{"a score", map[string]rules.Override{"PLAIN": {Score: &score}}, nil, map[string]int32{"PLAIN": 250, "LISTED": 400, "ASKS": 100}},
		{"a score in place of the list entry's", map[string]rules.Override{"LISTED": {Score: &score}}, nil, map[string]int32{"PLAIN": 100, "LISTED": 250, "ASKS": 100}},
		{"off: nobody sees its symbol", map[string]rules.Override{"PLAIN": {Mode: &off}}, nil, map[string]int32{"LISTED": 400}},
		{"shadow: enforced rules don't see its symbol", map[string]rules.Override{"PLAIN": {Mode: &shadow}}, nil, map[string]int32{"PLAIN": 100, "LISTED": 400}},
		{"on", map[string]rules.Override{"ASIDE": {Mode: &enforce}}, nil, map[string]int32{"PLAIN": 100, "LISTED": 400, "ASIDE": 100, "ASKS": 100}},
		{"off, but asked for the sake of some domain", nil, map[string]bool{"ASIDE": true}, map[string]int32{"PLAIN": 100, "LISTED": 400, "ASIDE": 100, "ASKS": 100}},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			for id, o := range tt.overrides {
				o.Pos = at
				tt.overrides[id] = o
			}
			set, err := rules.Load([]rules.Source{{Name: "r.yaml", Src: []byte(overridable)}}, rules.Options{
				Overrides: tt.overrides, PerDomain: tt.perDomain,
				ReadFile: func(string) ([]byte, error) { return []byte("pc 4\n"), nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			s := rulestest.New(nil)
			s.Smtp["helo"] = rules.Answer{Values: []string{"pc"}}
			got := map[string]int32{}
			for _, hit := range set.Eval(t.Context(), s).Hits {
				got[hit.Rule.ID] = hit.Score
				if o, ok := tt.overrides[hit.Rule.ID]; ok && o.Score != nil && hit.ScorePos != at {
					t.Errorf("the score of %s is said to stand at %v", hit.Rule.ID, hit.ScorePos)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestOverrideOfAnUnknownRule(t *testing.T) {
	_, err := rules.Load([]rules.Source{{Name: "r.yaml", Src: []byte(overridable)}}, rules.Options{
		Overrides: map[string]rules.Override{"PLAN": {Pos: rules.Pos{File: "postern.yaml", Line: 7, Col: 3}}},
		ReadFile:  func(string) ([]byte, error) { return nil, nil },
	})
	const want = `postern.yaml:7:3: unknown rule "PLAN", did you mean "PLAIN"? (known: ASIDE, ASKS, LISTED, PLAIN)`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
