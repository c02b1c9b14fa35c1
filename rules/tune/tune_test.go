package tune_test

import (
	"context"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"postern/rules/tune"
)

// The rules of the mail below.
const (
	sure    = iota // hits spam only
	common         // hits half of both
	bad            // hits ham more than spam
	good           // a good sign, that ham has
	silent         // hits nothing
	present        // how many there are
)

func ruleset() []tune.Rule {
	return []tune.Rule{
		sure:   {ID: "SURE", Score: 2},
		common: {ID: "COMMON", Score: 3},
		bad:    {ID: "BAD", Score: 3},
		good:   {ID: "GOOD", Score: -1},
		silent: {ID: "SILENT", Score: 2.5},
	}
}

// mail is the same each time.
func mail(n int) []tune.Mail {
	rng := rand.New(rand.NewPCG(1, 2))
	var list []tune.Mail
	for i := range n {
		m := tune.Mail{Spam: i%2 == 0, Base: 1, Part: i / 2 % 5}
		chance := func(rule int, spam, ham float64) {
			of := ham
			if m.Spam {
				of = spam
			}
			if rng.Float64() < of {
				m.Hits = append(m.Hits, rule)
			}
		}
		chance(sure, 0.9, 0)
		chance(common, 0.5, 0.5)
		chance(bad, 0.1, 0.3)
		chance(good, 0.05, 0.7)
		list = append(list, m)
	}
	return list
}

func options() tune.Options { return tune.Options{Tag: 5, Ham: 0.01, Reach: 2, Most: 4.5} }

func propose(t *testing.T, rules []tune.Rule, mail []tune.Mail, opt tune.Options) tune.Proposal {
	t.Helper()
	p, err := tune.Propose(t.Context(), rules, mail, opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPropose(t *testing.T) {
	rules, list := ruleset(), mail(1000)
	p := propose(t, rules, list, options())
	if p.Scores[sure] <= 2 || p.Scores[bad] >= 3 || p.Scores[silent] != 2.5 {
		t.Errorf("scores %v: expected a higher first one, a lower third one, and the last as it was", p.Scores)
	}
	for i, s := range p.Scores {
		was := rules[i].Score
		if s*was <= 0 || math.Abs(s-was) > 2+1e-9 || math.Abs(s) > 4.5+1e-9 {
			t.Errorf("%s: %v from %v is out of bounds", rules[i].ID, s, was)
		}
		if h := math.Round(s * 10); math.Abs(h-s*10) > 1e-9 {
			t.Errorf("%s: %v is no tenth", rules[i].ID, s)
		}
	}
	caught, flagged := 0, 0
	for j, m := range list {
		if p.HeldOut[j] >= 5 {
			if m.Spam {
				caught++
			} else {
				flagged++
			}
		}
	}
	if !p.Met || flagged > 5 || caught < 300 {
		t.Errorf("held out, %d spam and %d ham of 500 each are tagged; bound met: %v", caught, flagged, p.Met)
	}
}

// The same mail proposes the same.
func TestProposeAgain(t *testing.T) {
	if a, b := propose(t, ruleset(), mail(400), options()), propose(t, ruleset(), mail(400), options()); !reflect.DeepEqual(a, b) {
		t.Errorf("%+v, then %+v", a, b)
	}
}

// Where ham can't be spared it is said, and ham weighs as much as is tried.
func TestBoundNotMet(t *testing.T) {
	var list []tune.Mail
	for i := range 40 {
		list = append(list, tune.Mail{Spam: i%2 == 0, Base: 9, Hits: []int{0}, Part: i / 2 % 2})
	}
	p := propose(t, []tune.Rule{{ID: "ALL", Score: 1}}, list, options())
	if p.Met {
		t.Errorf("the bound is met by %v, though all ham has 9 points", p.Scores)
	}
}

// A rule hits too little to tell: its score stays near.
func TestLittleEvidence(t *testing.T) {
	list := mail(400)
	list[0].Hits = append(list[0].Hits, silent)
	p := propose(t, ruleset(), list, options())
	if math.Abs(p.Scores[silent]-2.5) > 0.5 {
		t.Errorf("one hit moves a score from 2.5 to %v", p.Scores[silent])
	}
}

// What a message scored that was not learned from depends on the other parts only.
func TestHeldOut(t *testing.T) {
	list := mail(400)
	turned := make([]tune.Mail, len(list))
	copy(turned, list)
	for j := range turned {
		if turned[j].Part == 0 {
			turned[j].Hits = nil // the rules say nothing in this part
		}
	}
	opt := options()
	opt.Ham = 1 // the first weight will do, in both
	before, after := propose(t, ruleset(), list, opt), propose(t, ruleset(), turned, opt)
	for j, m := range turned {
		if m.Part == 0 && after.HeldOut[j] != 1 {
			t.Fatalf("a message without hits has %v points, expected its base", after.HeldOut[j])
		}
	}
	if reflect.DeepEqual(before.Scores, after.Scores) {
		t.Error("a part of the mail makes no difference to the scores")
	}
}

func TestProposeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		mail []tune.Mail
		want string
	}{
		{name: "no ham", mail: []tune.Mail{{Spam: true}, {Spam: true, Part: 1}}, want: "2 spam and 0 ham, expected both"},
		{name: "one part", mail: []tune.Mail{{Spam: true}, {}}, want: "all mail is in one part, expected at least two to validate one by the other"},
	} {
		if _, err := tune.Propose(t.Context(), ruleset(), tt.mail, options(), nil); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tune.Propose(ctx, ruleset(), mail(100), options(), nil); err == nil {
		t.Error("goes on though it is told to end")
	}
}

func BenchmarkPropose(b *testing.B) {
	rules, list := ruleset(), mail(7000)
	for b.Loop() {
		if _, err := tune.Propose(b.Context(), rules, list, options(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// No score leaves the bound by its own size, however much speaks for it; a score that is smaller than a tenth may stay.
func TestTimes(t *testing.T) {
	rules, opt := ruleset(), options()
	rules = append(rules, tune.Rule{ID: "TINY", Score: 0.05})
	opt.Times = 1.5
	list := mail(1000)
	for j := range list {
		if list[j].Spam {
			list[j].Hits = append(list[j].Hits, present)
		}
	}
	p := propose(t, rules, list, opt)
	moved := 0
	for i, s := range p.Scores {
		was := rules[i].Score
		if by := s / was; by > 1.5+0.1 || by < 1/1.5-0.1 { // a score is in tenths
			t.Errorf("%s: %v from %v is out of bounds", rules[i].ID, s, was)
		}
		if s != was {
			moved++
		}
	}
	if moved < 3 {
		t.Errorf("scores %v: hardly one moves", p.Scores)
	}
}

// Spam that is just above the threshold is not there yet: what it may lose to mail a little different is made up.
func TestRoom(t *testing.T) {
	var list []tune.Mail
	for i := range 200 {
		m := tune.Mail{Spam: i%2 == 0, Part: i / 2 % 5}
		if m.Spam {
			m.Base, m.Hits = 3, []int{0}
		}
		list = append(list, m)
	}
	p := propose(t, []tune.Rule{{ID: "EDGE", Score: 2}}, list, options())
	if p.Scores[0] < 2.3 {
		t.Errorf("spam that has 5 points by a rule of 2: the rule gets %v, expected room above the threshold", p.Scores[0])
	}
}

// Each part is judged by the others, whichever way the mail is divided.
func TestHeldOutByOtherParts(t *testing.T) {
	list := mail(400)
	for j := range list {
		if j < 100 {
			list[j].Hits = append(list[j].Hits, silent) // what only the first part knows
		}
	}
	parts := make([]int, len(list))
	for j := range parts {
		parts[j] = j / 100
	}
	held, err := tune.HeldOut(t.Context(), ruleset(), list, parts, options(), 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := propose(t, ruleset(), list, options())
	same := 0
	for j := range 100 {
		want := list[j].Base
		for _, i := range list[j].Hits {
			if i == silent {
				want += ruleset()[silent].Score // nobody else hit it: it stays
			} else {
				want += p.Scores[i]
			}
		}
		if math.Abs(held[j]-want) < 0.01 {
			same++
		}
	}
	if same == 100 {
		t.Error("the first part is judged by what it proposed itself")
	}
}
