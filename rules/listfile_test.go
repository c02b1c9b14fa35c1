package rules_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"postern/rules"
	"postern/rules/rulestest"
)

// A listed is a list in a file, and a rule that asks for it.
type listed struct {
	t    *testing.T
	path string
	set  *rules.Set
	time time.Time
}

func newListed(t *testing.T, text string) *listed {
	t.Helper()
	l := &listed{t: t, path: filepath.Join(t.TempDir(), "names.txt"), time: time.Unix(1_700_000_000, 0)}
	l.write(text)
	src := "lists: {names: {file: " + l.path + "}}\nrules:\n" +
		"  - {id: PLAIN, score: 1, when: {envelope: helo, in: names}}\n" +
		"  - {id: LOOK, score: 1, when: {envelope: helo, view: skeleton, in: names}}\n"
	set, err := rules.Load([]rules.Source{{Name: "r.yaml", Src: []byte(src)}}, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.set = set
	return l
}

// write replaces the file; each version has a time of its own, however quickly they follow.
func (l *listed) write(text string) {
	l.t.Helper()
	if err := os.WriteFile(l.path, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.time = l.time.Add(time.Second)
	if err := os.Chtimes(l.path, l.time, l.time); err != nil {
		l.t.Fatal(err)
	}
}

// refresh looks twice: a version is read when it was seen unchanged.
func (l *listed) refresh() []rules.ListChange {
	l.t.Helper()
	if early := l.set.RefreshLists(); len(early) > 0 {
		l.t.Errorf("%v was read though it may still be written", early)
	}
	return l.set.RefreshLists()
}

func (l *listed) hits(helo string) int {
	s := rulestest.New(nil)
	s.Smtp["helo"] = rules.Answer{Values: []string{helo}}
	return len(l.set.Eval(l.t.Context(), s).Hits)
}

// A list file that changes is in force without a reload, for every view of it.
func TestListFileIsReadAgain(t *testing.T) {
	l := newListed(t, "old.example\n")
	if l.hits("old.example") != 2 || l.hits("new.example") != 0 {
		t.Fatal("the first version is not in force")
	}
	if changes := l.refresh(); len(changes) > 0 {
		t.Errorf("an unchanged file: %v", changes)
	}
	l.write("new.example 3 # a note\nother.example\n")
	want := []rules.ListChange{{Name: "names", File: l.path, Before: 1, After: 2}}
	if d := cmp.Diff(want, l.refresh()); d != "" {
		t.Error(d)
	}
	if l.hits("old.example") != 0 || l.hits("new.example") != 2 {
		t.Error("the new version is not in force")
	}
	if d := cmp.Diff([]rules.ListCount{{Name: "names", File: l.path, Entries: 2}}, l.set.ListFiles()); d != "" {
		t.Error(d)
	}
}

// A version with a mistake in it, and a file that is gone, leave what was in force; each is told once.
func TestBrokenListFileKeepsTheOldEntries(t *testing.T) {
	l := newListed(t, "old.example\n")
	l.write("new.example\n192.0.2.1/24\n" + strings.Repeat(".\n", 10))
	changes := l.refresh()
	if len(changes) != 1 || changes[0].Err == nil {
		t.Fatalf("%v", changes)
	}
	got := strings.ReplaceAll(changes[0].Err.Error(), l.path, "names.txt")
	want := `names.txt:2:1: the network 192.0.2.1/24 has bits beyond its prefix, expected 192.0.2.0/24
names.txt:3:1: the list entry ".", expected a domain after it
names.txt:4:1: the list entry ".", expected a domain after it (and 8 more)`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if more := l.refresh(); len(more) > 0 {
		t.Errorf("told again: %v", more)
	}
	if err := os.Remove(l.path); err != nil {
		t.Fatal(err)
	}
	gone := []rules.ListChange{{Name: "names", File: l.path, Before: 1, After: 1, Err: os.ErrNotExist}}
	if d := cmp.Diff(gone, l.refresh(), cmpopts.EquateErrors()); d != "" {
		t.Error(d)
	}
	if l.hits("old.example") != 2 || l.hits("new.example") != 0 {
		t.Error("the old version is not in force any more")
	}
	l.write("back.example\n")
	if changes := l.refresh(); len(changes) != 1 || changes[0].Err != nil || l.hits("back.example") != 2 {
		t.Errorf("%v", changes)
	}
}

// The score of an entry says where it stands.
func TestScoreOfAnEntryHasAPlace(t *testing.T) {
	l := newListed(t, "# a comment\nnew.example 3 # a note\n")
	s := rulestest.New(nil)
	s.Smtp["helo"] = rules.Answer{Values: []string{"new.example"}}
	hit := l.set.Eval(t.Context(), s).Hits[0]
	if want := (rules.Pos{File: l.path, Line: 2, Col: 1}); hit.Score != 300 || hit.ScorePos != want {
		t.Errorf("%d from %v, want 300 from %v", hit.Score, hit.ScorePos, want)
	}
}
