package rules_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"postern/rules"
	"postern/rules/packs"
	"postern/rules/rulestest"
)

const explainRules = `lists:
  freemail: {file: freemail.txt}
conditions:
  calls_itself_bank: {header: From, part: name, view: skeleton, contains: bank}
rules:
  - id: EVERYTHING
    score: 2
    when:
      all:
        - {is: calls_itself_bank}
        - {header: Reply-To, part: domain, in: freemail}
        - not: {header: Reply-To, part: org_domain, same_as: {header: From, part: org_domain}}
        - any:
            - {header: Subject, starts_with: 'invoice'}
            - {body: text, matches: '(?i)\bwire +transfer\b'}
        - at_least: 1
          of: [{symbol: FIRST}, {auth: spf, equals: fail}]
        - uri: {host: {ends_with: .example}}
        - {auth: dmarc, exists: false}
  - id: FIRST
    score: 1
    when: {header: Subject, contains: URGENT}
  - id: SLEEPS
    score: 1
    mode: off
    when: {header: Subject, contains: URGENT}
  - id: UNKNOWN
    score: 1
    when: {auth: spf, equals: fail}
`

const explainMail = `From: "First Ваnk" <a@bank.example>
Reply-To: b@gmail.com
Subject: urgent business

Dear friend, we are in a hurry and must ask you to make a Wire  Transfer before
the day is over, see http://pay.example/now and http://plain.test/
`

func explainSet(t *testing.T, src string) *rules.Set {
	t.Helper()
	set, err := rules.Load([]rules.Source{{Name: "r.yaml", Src: []byte(src)}}, rules.Options{
		ReadFile: func(string) ([]byte, error) { return []byte("gmail.com 3.5 # seen in fraud\n"), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// outline writes an explanation a line a condition.
func outline(e rules.Explained) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\n", e.Rule.ID, e.Truth, rules.FormatScore(e.Score))
	var write func(s *rules.Step, depth int)
	write = func(s *rules.Step, depth int) {
		fmt.Fprintf(&b, "%s%s: %s", strings.Repeat("  ", depth), s.What, s.Truth)
		if len(s.Seen) > 0 {
			fmt.Fprintf(&b, " saw %q", s.Seen)
		}
		if s.More > 0 {
			fmt.Fprintf(&b, " and %d more", s.More)
		}
		if len(s.Other) > 0 {
			fmt.Fprintf(&b, " other %q", s.Other)
		}
		if s.Failed {
			b.WriteString(" failed")
		}
		for _, p := range s.Found {
			fmt.Fprintf(&b, " found [%s|%s|%s]", p.Before, p.Text, p.After)
			if p.Entry != "" {
				fmt.Fprintf(&b, " entry %s (%s)", p.Entry, p.Note)
			}
		}
		b.WriteString("\n")
		for _, sub := range s.Steps {
			write(sub, depth+1)
		}
	}
	if e.When != nil {
		write(e.When, 1)
	}
	return b.String()
}

func TestExplain(t *testing.T) {
	subject := rulestest.New([]byte(explainMail))
	subject.Results["spf"] = rules.Answer{Unknown: true, Values: []string{"temperror"}}
	var got strings.Builder
	for _, e := range explainSet(t, explainRules).Explain(t.Context(), subject, "SLEEPS") {
		got.WriteString(outline(e))
	}
	want := `EVERYTHING true 3.5
  all: true
    is calls_itself_bank: true
      header From name (skeleton) contains "bank": true saw ["flrst bank"] found [flrst |bank|]
    header Reply-To domain in freemail: true saw ["gmail.com"] found [|gmail.com|] entry gmail.com (seen in fraud)
    not: true
      header Reply-To org_domain same_as header From org_domain: false saw ["gmail.com"] other ["bank.example"]
    any: true
      header Subject starts_with "invoice": false saw ["urgent business"]
      body text matches '(?i)\bwire +transfer\b': true saw ["` + bodyStart + `"] found [` + "…we are in a hurry and must ask you to make a |Wire  Transfer| before\nthe day is over, see…" + `]
    at_least 1: true
      symbol FIRST: true
      auth spf equals "fail": unknown saw ["temperror"] failed
    uri: true and 1 more
      uri 1 of 2: true saw ["http://pay.example/now"]
        uri host ends_with ".example": true saw ["pay.example"] found [pay|.example|]
    auth dmarc is absent: true
FIRST true 1
  header Subject contains "URGENT": true saw ["urgent business"] found [|urgent| business]
SLEEPS false 1
UNKNOWN unknown 1
  auth spf equals "fail": unknown saw ["temperror"] failed
`
	if d := cmp.Diff(want, got.String()); d != "" {
		t.Error(d)
	}
}

// bodyStart is as much of the text as an explanation shows, as %q writes it.
const bodyStart = `Dear friend, we are in a hurry and must ask you to make a Wire  Transfer before\nthe day is over, see http://pay.example/now and http://plain.test/\n`

// What an explanation says is what the rules say, of each rule and each of its conditions, for all tests of the packs.
func TestExplainAgreesWithEval(t *testing.T) {
	sources, err := packs.Open(packs.Default)
	if err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load(sources, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range set.Rules() {
		ids = append(ids, r.ID)
	}
	for _, c := range set.Tests() {
		subject, err := rulestest.Build(c)
		if err != nil {
			t.Fatal(err)
		}
		var hits []string
		res := set.Eval(context.Background(), subject)
		sameButDetail(t, res, set.EvalBrief(context.Background(), subject))
		for _, m := range res.Hits {
			hits = append(hits, m.Rule.ID)
		}
		for _, e := range set.Explain(context.Background(), subject, ids...) {
			if hit := slices.Contains(hits, e.Rule.ID); hit != (e.Truth == rules.True) || e.When.Truth != e.Truth {
				t.Errorf("%s: %s is %s, its condition %s, hit: %v", c.Pos, e.Rule.ID, e.Truth, e.When.Truth, hit)
			}
			checkStep(t, e.Rule.ID, e.When)
		}
	}
}

// checkStep holds the value of a combinator against the values of what it combines.
func checkStep(t *testing.T, id string, s *rules.Step) {
	t.Helper()
	count := map[rules.Truth]int{}
	for _, sub := range s.Steps {
		count[sub.Truth]++
		checkStep(t, id, sub)
	}
	want := s.Truth
	switch s.Op {
	case rules.OpAll:
		want = kleene(count[rules.False] > 0, rules.False, count[rules.Unknown] > 0, rules.True)
	case rules.OpAny:
		want = kleene(count[rules.True] > 0, rules.True, count[rules.Unknown] > 0, rules.False)
	case rules.OpNot:
		want = kleene(count[rules.Unknown] > 0, rules.Unknown, count[rules.True] > 0, rules.True)
		if count[rules.True] > 0 {
			want = rules.False
		}
	case rules.OpIs, rules.OpItem:
		want = s.Steps[0].Truth
	}
	if want != s.Truth {
		t.Errorf("%s: %s is %s, its conditions make it %s", id, s.What, s.Truth, want)
	}
	for _, p := range s.Found {
		if len(p.Text) > 200 || len(p.Before) > 100 || len(p.After) > 100 || !utf8.ValidString(p.Before+p.Text+p.After) {
			t.Errorf("%s: %s found %q", id, s.What, p)
		}
	}
}

func kleene(settled bool, value rules.Truth, unknown bool, otherwise rules.Truth) rules.Truth {
	switch {
	case settled:
		return value
	case unknown:
		return rules.Unknown
	}
	return otherwise
}

// An explanation stays short whatever the message and the rule hold.
func TestExplainIsBounded(t *testing.T) {
	var src strings.Builder
	src.WriteString("conditions:\n  c0: {header: Subject, contains: x}\n")
	for i := 1; i <= 20; i++ { // without a bound 2^20 steps
		fmt.Fprintf(&src, "  c%d: {all: [{is: c%d}, {is: c%d}]}\n", i, i-1, i-1)
	}
	src.WriteString("rules:\n  - {id: DEEP, score: 1, when: {is: c20}}\n  - {id: LONG, score: 1, when: {body: text, matches: 'x+'}}\n")
	subject := rulestest.New([]byte("Subject: x\n\n" + strings.Repeat("ä", 1000) + strings.Repeat("x", 100_000) + strings.Repeat("ö", 1000)))
	for _, e := range explainSet(t, src.String()).Explain(t.Context(), subject) {
		if n := len(outline(e)); e.Truth != rules.True || n > 200_000 {
			t.Errorf("%s is %s, %d bytes", e.Rule.ID, e.Truth, n)
		}
		checkText(t, e.When)
	}
}

func checkText(t *testing.T, s *rules.Step) {
	for _, p := range s.Found {
		if !utf8.ValidString(p.Before+p.Text+p.After) || len(p.Before)+len(p.Text)+len(p.After) > 300 {
			t.Errorf("%q", p)
		}
	}
	for _, sub := range s.Steps {
		checkText(t, sub)
	}
}
