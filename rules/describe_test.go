package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDescribe(t *testing.T) {
	set := explainSet(t, explainRules)
	d, ok := set.Describe("EVERYTHING")
	if !ok {
		t.Fatal("a rule that is there is not described")
	}
	var got strings.Builder
	fmt.Fprintf(&got, "asks %s\nauth %v symbols %v patterns %d\n", strings.Join(d.Asks, ", "), d.Auth, d.Symbols, d.Patterns)
	for _, l := range d.Lists {
		fmt.Fprintf(&got, "list %s at %s in %q: %d\n", l.Name, l.Pos, l.Path, l.Entries)
	}
	for _, u := range d.Conditions {
		fmt.Fprintf(&got, "condition %s at %s\n", u.Name, u.Pos)
	}
	for _, u := range d.Rules {
		fmt.Fprintf(&got, "rule %s at %s\n", u.Name, u.Pos)
	}
	for _, l := range d.Outline {
		fmt.Fprintf(&got, "%d %s%s\n", l.Pos.Line, strings.Repeat("  ", l.Depth), l.What)
	}
	want := `asks body text, header From name (skeleton), header From org_domain, header Reply-To domain, header Reply-To org_domain, header Subject, uri
auth [dmarc spf] symbols [] patterns 1
list freemail at r.yaml:2:13 in "freemail.txt": 1
condition calls_itself_bank at r.yaml:4:3
rule FIRST at r.yaml:20:9
9 all
10   is calls_itself_bank
11   header Reply-To domain in freemail
12   not
12     header Reply-To org_domain same_as header From org_domain
13   any
14     header Subject starts_with "invoice"
15     body text matches '(?i)\bwire +transfer\b'
16   at_least 1
17     symbol FIRST exists
17     auth spf equals "fail"
18   uri
18     uri host ends_with ".example"
19   auth dmarc is absent
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
	first, _ := set.Describe("FIRST")
	if len(first.UsedBy) != 1 || first.UsedBy[0].Name != "EVERYTHING" {
		t.Errorf("FIRST is used by %v", first.UsedBy)
	}
	if _, ok := set.Describe("NOBODY"); ok {
		t.Error("a rule that is not there is described")
	}
}
