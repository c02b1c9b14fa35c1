package rules_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/rules"
)

func TestDiff(t *testing.T) {
	load := func(src, list string) *rules.Set {
		t.Helper()
		set, err := rules.Load([]rules.Source{{Name: "r.yaml", Src: []byte(src)}}, rules.Options{
			ReadFile: func(string) ([]byte, error) { return []byte(list), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	before := load(`
lists: {l: {file: l.txt}}
rules:
  - {id: SAME, score: 1, description: One., when: {envelope: helo, in: l}}
  - {id: GONE, score: 1, when: {envelope: helo, equals: a}}
  - {id: HEAVIER, score: 1, when: {envelope: helo, equals: a}}
  - {id: ENFORCED, score: 1, mode: shadow, when: {envelope: helo, equals: a}}
  - {id: REFUSES, score: 1, when: {envelope: helo, equals: a}}
  - {id: OTHERWISE, score: 1, when: {envelope: helo, equals: a}}
`, "a\nb\n")
	after := load(`
lists: {l: {file: l.txt}}
rules:
  - {id: COMES, score: 1, when: {envelope: helo, equals: a}}
  - {id: OTHERWISE, score: 1, when: {envelope: helo, equals: b}}
  - {id: REFUSES, action: reject, when: {envelope: helo, equals: a}}
  - {id: ENFORCED, score: 1, when: {envelope: helo, equals: a}}
  - {id: HEAVIER, score: 1.5, when: {envelope: helo, equals: a}}
  - id: SAME
    score: 1
    description: Two.
    when:
      envelope: helo
      in: l
    tests: [{miss: {helo: x}}]
`, "a\nb\nc\n")
	want := rules.Changes{
		Added:   []string{"COMES"},
		Removed: []string{"GONE"},
		Rescored: []rules.Rescored{
			{ID: "REFUSES", Before: "1", After: "0 reject"},
			{ID: "ENFORCED", Before: "1 shadow", After: "1"},
			{ID: "HEAVIER", Before: "1", After: "1.5"},
		},
		Changed: []string{"OTHERWISE"},
		Lists:   []rules.ListChange{{Name: "l", File: "l.txt", Before: 2, After: 3}},
	}
	if d := cmp.Diff(want, rules.Diff(before, after)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(rules.Changes{}, rules.Diff(after, after)); d != "" {
		t.Errorf("a set differs from itself: %s", d)
	}
	if c := rules.Diff(nil, before); len(c.Added) != 6 || len(c.Lists) != 1 {
		t.Errorf("from nothing: %+v", c)
	}
	if c := rules.Diff(before, nil); len(c.Removed) != 6 || len(c.Lists) != 1 {
		t.Errorf("to nothing: %+v", c)
	}
}
