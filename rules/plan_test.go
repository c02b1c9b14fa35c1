package rules_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/rules"
	"postern/rules/match/matchtest"
	"postern/rules/packs"
	"postern/rules/rulestest"
)

// outcome is the rules that hit and those that stay unknown, as evaluation has them.
func outcome(r rules.Result) map[string]rules.Truth {
	got := map[string]rules.Truth{}
	for _, m := range r.Hits {
		got[m.Rule.ID] = rules.True
	}
	for _, r := range r.Unknown {
		got[r.ID] = rules.Unknown
	}
	return got
}

// asked is the same from asking each rule whatever the message is, as explaining does.
func asked(t *testing.T, set *rules.Set, s rules.Subject) map[string]rules.Truth {
	want := map[string]rules.Truth{}
	for _, e := range set.Explain(t.Context(), s) {
		want[e.Rule.ID] = e.Truth
	}
	return want
}

// Rules that nothing in a message reaches are not asked. Those that are have to be all that hit.
func TestRulesThatAreNotAskedDoNotHit(t *testing.T) {
	shipped, err := packs.Open(packs.Default)
	if err != nil {
		t.Fatal(err)
	}
	ships, err := rules.Load(shipped, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	made := loadMade(t, 200)
	hits := 0
	try := func(set *rules.Set, s rules.Subject) {
		want := asked(t, set, s)
		hits += len(want)
		if d := cmp.Diff(want, outcome(set.Eval(t.Context(), s))); d != "" {
			t.Errorf("evaluation and asking each rule differ: %s", d)
		}
		if d := cmp.Diff(want, outcome(set.EvalBrief(t.Context(), s))); d != "" {
			t.Errorf("brief evaluation and asking each rule differ: %s", d)
		}
	}
	for _, text := range matchtest.Texts(8, 3000, 3) {
		line, _, _ := strings.Cut(text, "\n")
		s := rulestest.New([]byte("From: \"Account security\" <a@paypal.com.example>\nReply-To: b@gmail.com\nSubject: " + line + "\n\n" + text))
		try(made, s)
		try(ships, s)
	}
	// The mail that rules are tested with is what they hit.
	every := 10
	if os.Getenv("POSTERN_FULL") != "" {
		every = 1
	}
	for i, c := range ships.Tests() {
		if i%every > 0 {
			continue
		}
		if s, err := rulestest.Build(c); err == nil {
			try(ships, s)
		}
	}
	if hits < 100 {
		t.Errorf("only %d hits were compared", hits)
	}
}

// Each way in which conditions stand to each other, over sources that are known, absent and not known.
func TestReach(t *testing.T) {
	set := compile(t, `
conditions:
  wire: {body: text, contains: wire}
rules:
  - {id: BODY, score: 1, when: {body: text, contains: [apple, pear]}}
  - {id: SUBJECT, score: 1, when: {header: Subject, matches: 'b.d'}}
  - {id: LINKED, score: 1, when: {uri: {host: {contains: evil}}}}
  - {id: ALL, score: 1, when: {all: [{header: Subject, contains: bid}, {body: text, contains: plum}]}}
  - {id: ANY, score: 1, when: {any: [{header: Subject, contains: bid}, {body: text, contains: plum}]}}
  - {id: NONE, score: 1, when: {not: {body: text, contains: plum}}}
  - {id: TWO, score: 1, when: {at_least: 2, of: [{header: Subject, contains: bid}, {body: text, contains: plum}, {is: wire}, {not: {header: Subject, contains: x}}]}}
  - {id: MOST, score: 1, when: {at_least: 3, of: [{header: Subject, contains: bid}, {body: text, contains: plum}, {is: wire}, {not: {header: Subject, contains: x}}]}}
  - {id: NAMED, score: 1, when: {all: [{is: wire}, {body: text, contains: apple}]}}
  - {id: OTHER, score: 1, when: {all: [{symbol: BODY}, {symbol: SUBJECT}]}}
  - {id: NO_LINK, score: 1, when: {uri: {host: {contains: evil}}, count: 0}}
  - {id: EVERY, score: 1, when: {uri: {host: {contains: evil}}, which: every}}
  - {id: LAST, score: 1, when: {header: Subject, which: last, contains: bid}}
`)
	texts := []string{"", "an apple", "plum wire", "apple plum wire", "see http://evil.example/", "http://evil.example/ http://good.example/ pear"}
	for _, text := range texts {
		for _, head := range []string{"", "Subject: bid\n", "Subject: bad x\n", "Subject: bid\nSubject: none\n"} {
			s := rulestest.New([]byte("From: a@b.example\n" + head + "\n" + text))
			for _, subject := range []rules.Subject{s, unknownFields{Subject: s}} {
				if d := cmp.Diff(asked(t, set, subject), outcome(set.Eval(t.Context(), subject))); d != "" {
					t.Errorf("%q with %q: %s", text, head, d)
				}
			}
		}
	}
}

// unknownFields says of all header fields that there may be more.
type unknownFields struct{ *rulestest.Subject }

func (u unknownFields) Header(name, part string) rules.Answer {
	a := u.Subject.Header(name, part)
	a.Unknown = true
	return a
}
