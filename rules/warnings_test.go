package rules_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/rules"
)

func TestWarnings(t *testing.T) {
	const tail = "rules: [{id: RULE, score: 1, when: "
	tests := []struct {
		why, src string
		want     []string
	}{
		{"the policy has other thresholds than the pack assumes", "pack: {name: p, thresholds: {tag: 5, quarantine: 9, reject: 15}}\n" + tail + "{symbol: spf.fail}}]",
			[]string{"w.yaml:1:7: the scores of the pack p assume quarantine at 9, the policy has 8; reject at 15, the policy has 12"}},
		{"what the pack doesn't say is not compared", "pack: {name: p, thresholds: {tag: 5}}\n" + tail + "{symbol: spf.fail}}]", nil},
		{"a comparison with a field that may be absent", tail + "{not: {header: Reply-To, part: domain, same_as: {header: From, part: domain}}}}]",
			[]string{"w.yaml:1:37: also true where there is no Reply-To field: if that is not meant, add {header: Reply-To, exists: true}"}},
		{"the field is asked for beside it", tail + "{all: [{header: reply-to, exists: true}, {not: {header: Reply-To, part: domain, in: [a.example]}}]}}]", nil},
		{"or further out", tail + "{all: [{header: Reply-To, contains: x}, {any: [{not: {header: Reply-To, part: domain, in: [a.example]}}, {symbol: spf.fail}]}]}}]", nil},
		{"a field that is always there", tail + "{not: {header: From, part: domain, in: [a.example]}}}]", nil},
		{"what is not contained is meant so", tail + "{not: {header: X-Mailer, contains: evolution}}}]", nil},
		{"an expression that matches everything", tail + "{header: Subject, matches: 'a*'}}]",
			[]string{`w.yaml:1:63: the expression "a*" matches everything, an empty text too`}},
		{"names that nobody uses", "lists: {l: [a]}\nconditions: {c: {symbol: spf.fail}}\n" + tail + "{symbol: spf.fail}}]",
			[]string{"w.yaml:1:12: the list l is used by no rule", "w.yaml:2:14: the condition c is used by no rule"}},
		{"a file without rules keeps them for others", "lists: {l: [a]}\nconditions: {c: {symbol: spf.fail}}", nil},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			set, err := rules.Load([]rules.Source{{Name: "w.yaml", Src: []byte(tt.src)}}, rules.Options{Thresholds: rules.Thresholds{Tag: 500, Quarantine: 800, Reject: 1200}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range set.Warnings() {
				got = append(got, w.Error())
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
