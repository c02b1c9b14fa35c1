package rules_test

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"postern/rules"
	"postern/rules/packs"
	"postern/rules/rulestest"
)

// Memory is used again from message to message, and from large ones to small ones: what the rules say of one is the same as with new
// memory, whatever came before and beside it.
func TestEvalKeepsNothing(t *testing.T) {
	sources, err := packs.Open(packs.Default)
	if err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load(sources, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var subjects []func() *rulestest.Subject
	subjects = append(subjects, subject)
	for i, r := range set.Rules() {
		if i%5 == 0 && len(r.Tests) > 0 {
			mail := []byte(r.Tests[0].Mail)
			subjects = append(subjects, func() *rulestest.Subject { return rulestest.New(mail) })
		}
	}
	want := make([]rules.Result, len(subjects))
	hits := 0
	for i, s := range subjects {
		want[i] = rules.EvalAnew(t.Context(), set, s())
		hits += len(want[i].Hits)
	}
	if hits < len(subjects) {
		t.Fatalf("%d rules hit %d messages: too few to tell anything", hits, len(subjects))
	}
	var work sync.WaitGroup
	for g := range 4 {
		work.Go(func() {
			for i := range subjects {
				n := (i*(2*g+1) + g) % len(subjects)
				if diff := cmp.Diff(want[n], set.Eval(t.Context(), subjects[n]()), cmpopts.EquateErrors(), cmp.Comparer(func(a, b *rules.Rule) bool { return a == b })); diff != "" {
					t.Errorf("message %d after others (-anew +again):\n%s", n, diff)
				}
				set.EvalRefusals(t.Context(), subjects[n]())
			}
		})
	}
	work.Wait()
}
