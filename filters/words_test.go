package filters

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/filters/message"
	"postern/rules"
)

// The words of the rule language are those that the reader of messages gives.
func TestWordsOfTheRuleLanguage(t *testing.T) {
	sorted := func(words []string) []string { return slices.Sorted(slices.Values(words)) }
	for _, c := range []struct {
		subject, part string
		want          []string
	}{
		{subject: "message", part: "active", want: slices.Collect(maps.Keys(message.ActiveWords()))},
		{subject: "message", part: "hidden_by", want: message.HidingWords()},
		{subject: "uri", part: "tricks", want: slices.Collect(maps.Keys(message.LinkTricks()))},
		{subject: "attachment", part: "tricks", want: slices.Collect(maps.Keys(message.NameTricks()))},
		{subject: "attachment", part: "kind", want: message.AttachmentKinds()},
		{subject: "attachment", part: "inside_kind", want: message.AttachmentKinds()},
		{subject: "attachment", part: "active", want: slices.Collect(maps.Keys(message.ActiveWords()))},
	} {
		if diff := cmp.Diff(sorted(c.want), sorted(rules.Words(c.subject, c.part))); diff != "" {
			t.Errorf("%s %s (-reader +language):\n%s", c.subject, c.part, diff)
		}
	}
}
