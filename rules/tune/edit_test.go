package tune_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/rules"
	"postern/rules/tune"
)

const ruleFile = `# Ours.
rules:
  - id: FIRST   # the oldest
    score: 2.50 # by hand
    when: {header: Subject, contains: ä}
  - {id: OTHER, score: 1, when: {header: Subject, contains: b}}
  - {id: SECOND, description: "ä ö", score: 1, when: {header: Subject, contains: b}}


  - score:  -0.5
    id: THIRD
    when: {header: Subject, contains: "score: 1"}
  - id: LAST
    when: {header: Subject, contains: d}
    score: 4`

func edit(t *testing.T, src string, scores map[string]float64) (string, error) {
	t.Helper()
	f, err := rules.Parse("local.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	var changes []tune.Change
	for i, r := range f.Rules {
		if s, ok := scores[r.ID]; ok {
			changes = append(changes, tune.Change{Rule: &f.Rules[i], Points: s})
		}
	}
	edited, err := tune.Edit("local.yaml", []byte(src), changes)
	return string(edited), err
}

// Scores change, and nothing else does: comments, order and spaces stay.
func TestEdit(t *testing.T) {
	got, err := edit(t, ruleFile, map[string]float64{"FIRST": 1.3, "SECOND": 0.1, "THIRD": -1.2, "LAST": 4.5})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("score: 2.50", "score: 1.3", `ö", score: 1,`, `ö", score: 0.1,`, "score:  -0.5", "score:  -1.2", "score: 4", "score: 4.5").Replace(ruleFile)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A score that several rules share can't be changed for one of them.
func TestEditSharedScore(t *testing.T) {
	src := "rules:\n  - {id: ONE, score: &s 2, when: {header: Subject, contains: a}}\n  - {id: TWO, score: *s, when: {header: Subject, contains: b}}\n"
	if got, err := edit(t, src, map[string]float64{"TWO": 1}); err == nil {
		t.Errorf("no error, and\n%s", got)
	}
}

func TestDiff(t *testing.T) {
	before := "a\nb\nc\nd\n1\n2\ne\nf\ng\nh\ni\nj\nk\n3"
	after := "a\nb\nc\nd\none\ntwo\ne\nf\ng\nh\ni\nj\nk\nthree"
	want := `--- x.yaml
+++ x.yaml
@@ -2,8 +2,8 @@
 b
 c
 d
-1
-2
+one
+two
 e
 f
 g
@@ -11,4 +11,4 @@
 i
 j
 k
-3
\ No newline at end of file
+three
\ No newline at end of file
`
	if d := cmp.Diff(want, tune.Diff("x.yaml", []byte(before), []byte(after))); d != "" {
		t.Error(d)
	}
	// Changes that are near each other share a hunk.
	near := tune.Diff("x", []byte("1\n2\n3\n4\n5\n6\n7\n8\n"), []byte("one\n2\n3\n4\n5\n6\n7\neight\n"))
	if n := strings.Count(near, "@@ -"); n != 1 {
		t.Errorf("%d hunks, want 1:\n%s", n, near)
	}
	if same := tune.Diff("x", []byte("a\n"), []byte("a\n")); same != "" {
		t.Errorf("a difference of the same: %q", same)
	}
}
