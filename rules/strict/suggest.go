package strict

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxSuggest bounds the names that are compared: beyond it a near name is no help worth its time.
const maxSuggest = 64

// Suggest returns the known name that is nearest to what was written, or "" when none is near enough to be meant.
func Suggest(got string, known []string) string {
	if utf8.RuneCountInString(got) > maxSuggest {
		return ""
	}
	best, bestDist := "", 1+max(1, utf8.RuneCountInString(got)/3)
	lower := strings.ToLower(got)
	for _, name := range known {
		if utf8.RuneCountInString(name) > maxSuggest {
			continue
		}
		if d := distance(lower, strings.ToLower(name)); d < bestDist {
			best, bestDist = name, d
		}
	}
	if best == "" {
		best = abbreviated(lower, known)
	}
	return best
}

// abbreviated returns the known name that is the beginning of what was written, such as "sat" of "saturday", or the longer form of
// it; "" for none.
func abbreviated(lower string, known []string) string {
	const least = 3
	for _, name := range known {
		if short := min(len(lower), len(name)); short >= least && strings.EqualFold(lower[:short], name[:short]) {
			return name
		}
	}
	return ""
}

// Unknown words the complaint about an unknown name: `unknown list "freemial" (known: freemail, shorteners)`, and, where
// many are known, the near one instead: `unknown key "adress" (did you mean "address"?)`.
func Unknown(what, got string, known []string) string {
	msg := fmt.Sprintf("unknown %s %q", what, got)
	names := slices.Clone(known)
	slices.Sort(names)
	near := Suggest(got, names)
	const few = 20
	switch {
	case near != "" && len(names) > 8:
		msg += fmt.Sprintf(" (did you mean %q?)", near)
	case len(names) > few:
		msg += fmt.Sprintf(" (known: %s, and %d more)", strings.Join(names[:few], ", "), len(names)-few)
	case len(names) > 0:
		if near != "" {
			msg += fmt.Sprintf(", did you mean %q?", near)
		}
		msg += " (known: " + strings.Join(names, ", ") + ")"
	}
	return msg
}

// distance is the number of insertions, deletions, replacements and swaps of neighbours that turn a into b
// (optimal string alignment).
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	before, prev, cur := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(s); i++ {
		cur[0] = i
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(t)]
}
