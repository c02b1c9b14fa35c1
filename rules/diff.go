package rules

import (
	"hash/fnv"
	"io"
	"slices"
	"strings"

	"postern/rules/strict"
)

// Changes is what differs between two sets.
type Changes struct {
	Added    []string   // ids of rules
	Removed  []string   // likewise
	Rescored []Rescored // rules with another score, mode or action
	Changed  []string   // ids of rules whose condition, reply or marks are others; what conditions and lists they name is not looked at
	Lists    []ListChange
}

// A Rescored is a rule with another score, mode or action.
type Rescored struct {
	ID     string
	Before string // "2.5", "2.5 shadow", "reject"
	After  string
}

// Diff says what changed from one set to another; either may be nil, for no rules.
func Diff(before, after *Set) Changes {
	var c Changes
	old := map[string]*Rule{}
	if before != nil {
		for _, r := range before.Rules() {
			old[r.ID] = r
		}
	}
	if after != nil {
		for _, r := range after.Rules() {
			was := old[r.ID]
			delete(old, r.ID)
			if was == nil {
				c.Added = append(c.Added, r.ID)
				continue
			}
			if a, b := was.weight(), r.weight(); a != b {
				c.Rescored = append(c.Rescored, Rescored{ID: r.ID, Before: a, After: b})
			}
			if was.print != r.print {
				c.Changed = append(c.Changed, r.ID)
			}
		}
	}
	c.Removed = names(old)
	c.Lists = diffLists(before, after)
	return c
}

// weight is what a hit of the rule means.
func (r *Rule) weight() string {
	words := []string{FormatScore(r.Score)}
	if r.Action != "" {
		words = append(words, r.Action)
	}
	if r.Mode != Enforce {
		words = append(words, r.Mode.String())
	}
	return strings.Join(words, " ")
}

// diffLists gives the files of lists of which there are more or fewer entries, or which are new or gone.
func diffLists(before, after *Set) []ListChange {
	count := func(s *Set) map[[2]string]int {
		counts := map[[2]string]int{}
		if s != nil {
			for _, l := range s.ListFiles() {
				counts[[2]string{l.Name, l.File}] = l.Entries
			}
		}
		return counts
	}
	old, now := count(before), count(after)
	var changes []ListChange
	for key, n := range now {
		if was, ok := old[key]; !ok || was != n {
			changes = append(changes, ListChange{Name: key[0], File: key[1], Before: was, After: n})
		}
	}
	for key, was := range old {
		if _, ok := now[key]; !ok {
			changes = append(changes, ListChange{Name: key[0], File: key[1], Before: was})
		}
	}
	slices.SortFunc(changes, func(a, b ListChange) int { return strings.Compare(a.Name+"\x00"+a.File, b.Name+"\x00"+b.File) })
	return changes
}

// fingerprint is a hash of a rule's text but for what does not change what it finds: score, mode, action, description, tests.
func fingerprint(n *strict.Node) uint64 {
	h := fnv.New64a()
	for _, pair := range n.Pairs() {
		if key := pair.Key.Text(); !slices.Contains([]string{"score", "mode", "action", "description", "tests"}, key) {
			writeNode(h, pair.Key)
			writeNode(h, pair.Value)
		}
	}
	return h.Sum64()
}

// writeNode writes a value so that two that differ are written differently, wherever in the file they stand.
func writeNode(w io.Writer, n *strict.Node) {
	switch n.Kind() {
	case strict.Mapping:
		io.WriteString(w, "{")
		for _, pair := range n.Pairs() {
			writeNode(w, pair.Key)
			writeNode(w, pair.Value)
		}
		io.WriteString(w, "}")
	case strict.Sequence:
		io.WriteString(w, "[")
		for _, item := range n.Items() {
			writeNode(w, item)
		}
		io.WriteString(w, "]")
	default:
		io.WriteString(w, n.Text()+"\x00")
	}
}
