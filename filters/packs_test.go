package filters

import (
	"context"
	"testing"
	"time"

	"postern/rules/packs"
)

// TestPacks: every pack that ships compiles with the default checks, and its own tests pass when its mails are read as
// real ones are.
func TestPacks(t *testing.T) {
	names := packs.Names()
	if len(names) == 0 {
		t.Fatal("no packs")
	}
	for _, name := range names {
		set, err := LoadRules(ContentConfig{Packs: []string{name}}, RuleOptions{
			Path:       func(p string) string { return p },
			Symbols:    Symbols(DefaultConfig()),
			Thresholds: Thresholds{Tag: 500, Quarantine: 800, Reject: 1200},
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(set.Tests()) < 2*len(set.Rules()) {
			t.Errorf("%s: %d rules have only %d tests", name, len(set.Rules()), len(set.Tests()))
		}
		if err := NewRuleTester(DefaultConfig(), time.Now()).Test(context.Background(), set); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range set.Warnings() {
			t.Errorf("%s: %v", name, w)
		}
	}
}
