package rules_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"postern/rules"
)

const manual = "../docs/rules.md"

// examples returns the YAML blocks of the manual, with the lines on which they begin.
func examples(t testing.TB) (text string, blocks []rules.Source) {
	t.Helper()
	src, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	line, start := 0, -1
	var block strings.Builder
	for l := range strings.Lines(string(src)) {
		line++
		switch {
		case l == "```yaml\n":
			start = line
			block.Reset()
		case l == "```\n" && start >= 0:
			blocks = append(blocks, rules.Source{Name: fmt.Sprintf("rules.md+%d", start), Src: []byte(block.String())})
			start = -1
		case start >= 0:
			block.WriteString(l)
		}
	}
	return string(src), blocks
}

// Each example in the manual is a rule file that compiles without a warning. That it passes its own tests, with messages read
// as the proxy reads them, is tested where that is done.
func TestExamplesOfTheManual(t *testing.T) {
	_, blocks := examples(t)
	if len(blocks) < 15 {
		t.Fatalf("%d examples", len(blocks))
	}
	for _, b := range blocks {
		t.Run(b.Name, func(t *testing.T) {
			set, err := rules.Load([]rules.Source{b}, rules.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range set.Warnings() {
				t.Errorf("warning: %v", w)
			}
		})
	}
}

// The manual shows every subject, part, view, operator and combinator in an example.
func TestManualShowsEverything(t *testing.T) {
	_, blocks := examples(t)
	var all strings.Builder
	for _, b := range blocks {
		all.Write(b.Src)
	}
	for _, word := range rules.Vocabulary() {
		if !strings.Contains(all.String(), word) {
			t.Errorf("no example for %s", word)
		}
	}
}
