package filters

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/filters/message"
	"postern/rules"
)

// What rules can ask for is what can be answered.
func TestLanguageWordsOfTheRules(t *testing.T) {
	if d := cmp.Diff(message.Languages(), rules.Words("message", "language")); d != "" {
		t.Errorf("languages: %s", d)
	}
	known := rules.Words("message", "script")
	if d := cmp.Diff(slices.Sorted(slices.Values(message.Scripts())), slices.Sorted(slices.Values(known))); d != "" {
		t.Errorf("scripts: %s", d)
	}
}
