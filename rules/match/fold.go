package match

import (
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// FoldCase makes texts that differ in case only equal, by Unicode's simple folding, as (?i) does.
func FoldCase(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return strings.Map(FoldRune, s)
		}
	}
	return s
}

// FoldRune is what [FoldCase] makes of a character.
func FoldRune(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return unicode.ToLower(least)
}

// unfolded returns the characters of which FoldRune makes r.
func unfolded(r rune) ranges {
	// Lower case is taken of the least of each orbit, which can lead to another orbit: İ is alone in its own, and i in lower case.
	candidates := []rune{'İ'}
	for f := unicode.SimpleFold(r); ; f = unicode.SimpleFold(f) {
		candidates = append(candidates, f)
		if f == r {
			break
		}
	}
	slices.Sort(candidates)
	var set ranges
	for _, c := range slices.Compact(candidates) {
		if FoldRune(c) == r {
			set = append(set, c, c)
		}
	}
	return set
}

// A Place says where in a text a word has to stand.
type Place uint8

// The places.
const (
	Anywhere Place = iota
	AtStart
	AtEnd
	Whole
)

// MaxWord is how long a word may be, in bytes.
const MaxWord = 1000

// Words adds a pattern that matches a text in which one of several words stands at a place, and returns its number. Exact words stand
// there as they are; others, which have to be folded by [FoldCase], in the text as folded.
func (b *Builder) Words(words []string, place Place, exact bool) int {
	var ways []*syntax.Regexp
	for _, w := range words {
		ways = append(ways, wordTree(w, place, exact))
	}
	return b.add("", ways...)
}

// CanHold reports whether a word can be given to [Builder.Words]: it is valid, without the character that stands for
// what is not, and not too long.
func CanHold(word string) bool {
	return len(word) <= MaxWord && utf8.ValidString(word) && !strings.ContainsRune(word, utf8.RuneError)
}

func wordTree(word string, place Place, exact bool) *syntax.Regexp {
	var subs []*syntax.Regexp
	if place == AtStart || place == Whole {
		subs = append(subs, &syntax.Regexp{Op: syntax.OpBeginText})
	}
	for _, r := range word {
		set := ranges{r, r}
		if !exact {
			set = unfolded(r)
		}
		subs = append(subs, &syntax.Regexp{Op: syntax.OpCharClass, Rune: set})
	}
	if place == AtEnd || place == Whole {
		subs = append(subs, &syntax.Regexp{Op: syntax.OpEndText})
	}
	return concat(subs)
}

// anyOf is an expression for folded texts.
func anyOf(texts []string) *syntax.Regexp {
	out := &syntax.Regexp{Op: syntax.OpAlternate}
	for _, t := range texts {
		out.Sub = append(out.Sub, wordTree(t, Anywhere, false))
	}
	if len(out.Sub) == 1 {
		return out.Sub[0]
	}
	return out
}
