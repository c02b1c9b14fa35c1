package filters

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/rules"
)

// Each example in the manual of the rule language passes its own tests, with messages read as those that come in are.
func TestExamplesOfTheRulesManual(t *testing.T) {
	page, err := os.ReadFile("../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatchIndex(page, -1)
	if len(examples) < 15 {
		t.Fatalf("only %d examples are found", len(examples))
	}
	checks := DefaultConfig()
	checks.DNSBL.Own.Lists = []DNSBLList{{Zone: "bl.example", Score: 3}}
	tester := NewRuleTester(checks, time.Now())
	for _, at := range examples {
		name := fmt.Sprintf("rules.md+%d", strings.Count(string(page[:at[2]]), "\n"))
		t.Run(name, func(t *testing.T) {
			set, err := rules.Load([]rules.Source{{Name: name, Src: page[at[2]:at[3]]}}, rules.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := tester.Test(t.Context(), set); err != nil {
				t.Error(err)
			}
		})
	}
}
