package packs_test

import (
	"strings"
	"testing"

	"postern/rules"
	"postern/rules/packs"
	"postern/rules/strict"
)

// load compiles a pack as the proxy does, without any check's symbols: a pack must work whatever checks are configured.
func load(t testing.TB, name string) *rules.Set {
	t.Helper()
	sources, err := packs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load(sources, rules.Options{
		KnownSymbol: func(string) bool { return false },
		Thresholds:  rules.Thresholds{Tag: 500, Quarantine: 800, Reject: 1200},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Their own tests are run by the package filters, whose reader of messages gives all that rules can ask for.
func TestPacksCompileWithoutWarnings(t *testing.T) {
	for _, name := range packs.Names() {
		t.Run(name, func(t *testing.T) {
			for _, w := range load(t, name).Warnings() {
				t.Errorf("warning: %v", w)
			}
		})
	}
}

// Each rule that ships says what it is for, and shows what it hits and what it spares.
func TestRulesAreDocumentedAndTested(t *testing.T) {
	for _, name := range packs.Names() {
		for _, r := range load(t, name).Rules() {
			if !strings.HasSuffix(r.Description, ".") {
				t.Errorf("%s: rule %s: the description is no sentence", r.Pos, r.ID)
			}
			has := map[rules.Want]bool{}
			for _, test := range r.Tests {
				has[test.Want] = true
			}
			if !has[rules.Hit] || !has[rules.Miss] {
				t.Errorf("%s: rule %s: expected a test that hits and one that misses", r.Pos, r.ID)
			}
			if r.Score > 450 {
				t.Errorf("%s: rule %s: score %s alone would tag a message", r.Pos, r.ID, rules.FormatScore(r.Score))
			}
		}
	}
}

// The default pack is what the subjects are together, each rule once.
func TestDefaultIsAllSubjects(t *testing.T) {
	sum := 0
	for _, name := range packs.Subjects() {
		sum += len(load(t, name).Rules())
	}
	if got := len(load(t, packs.Default).Rules()); got != sum || sum == 0 {
		t.Errorf("%d rules in the default pack, expected those of all subjects, %d", got, sum)
	}
}

func TestOpenUnknown(t *testing.T) {
	_, err := packs.Open("defualt")
	if err == nil || !strings.Contains(err.Error(), "default") {
		t.Errorf("got %v, expected an error that names the packs there are", err)
	}
}

func TestPositionsNameThePack(t *testing.T) {
	sources, err := packs.Open("phishing")
	if err != nil {
		t.Fatal(err)
	}
	last := sources[len(sources)-1]
	_, err = rules.Parse(last.Name, append(last.Src, "\n  - id: bad\n"...))
	var problems strict.Problems
	if p, ok := err.(strict.Problems); ok {
		problems = p
	}
	if len(problems) == 0 || problems[0].Pos.File != "packs/phishing.yaml" {
		t.Errorf("got %v, expected a problem in packs/phishing.yaml", err)
	}
}
