package rules_test

import (
	"strings"
	"testing"

	"postern/rules"
)

// Only what is tried on all of a long text is told, with its place.
func TestCostly(t *testing.T) {
	const file = `rules:
  - id: DEAR
    score: 1
    when:
      any:
        - {body: text, matches: '[a-z ]{30,}'}
        - {body: text, view: folded, matches: ['invoice.{0,80}paid', '.{10,40}\d{2}.{10,40}']}
        - {header: Subject, matches: '[a-z ]{30,}'}
        - {body: text, matches: '\w+@example'}
`
	set, err := rules.Load([]rules.Source{{Name: "own.yaml", Src: []byte(file)}}, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range set.Costly() {
		if c.PerKB <= 0 {
			t.Errorf("%s: nothing was measured", c.Source)
		}
		place, _, _ := strings.Cut(c.Problem().Error(), ", which costs")
		got = append(got, place)
	}
	want := []string{
		`own.yaml:6:33: the expression "[a-z ]{30,}" holds no text to look for (a few letters outside of what may be anything): it is tried on all of each text`,
		`own.yaml:7:70: the expression '.{10,40}\d{2}.{10,40}' holds no text to look for (a few letters outside of what may be anything): it is tried on all of each text`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
