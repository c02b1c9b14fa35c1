package match_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"postern/rules/match"
)

// Each character is among those of which the one that it is folded to was made.
func TestUnfolded(t *testing.T) {
	last := rune(0x1ffff) // no letters beyond these have case
	if os.Getenv("POSTERN_FULL") != "" {
		last = unicode.MaxRune
	}
	for r := rune(0); r <= last; r++ {
		f := match.FoldRune(r)
		set := match.Unfolded(f)
		if !slices.Contains(set, r) {
			t.Errorf("%U is folded to %U, which is made of %U", r, f, set)
		}
		if f != r {
			for _, u := range set {
				if match.FoldRune(u) != f {
					t.Errorf("%U is not folded to %U", u, f)
				}
			}
		}
	}
}

// Words are found as package strings finds them in the folded text.
func TestWords(t *testing.T) {
	lists := [][]string{{"invoice"}, {"straße", "k", "i"}, {"a", "bc", "abcd"}, {""}, {"é"}, {"привет", "мир"}, {"\n"}, {"a b"}, {strings.Repeat("x", match.MaxWord)}}
	values := []string{
		"", "invoice", "My INVOICE", "invoice due", "STRASSE straße STRAẞE", "\u212a", "K", "İ", "ı", "abcd", "xbc", "ABC", "é", "É", "e\u0301", "\xe9", "ПРИВЕТ, мир", "\n", "A B", "a\xffb", "\xffa b\xff", strings.Repeat("X", match.MaxWord), strings.Repeat("X", match.MaxWord-1),
	}
	places := map[match.Place]func(value, word string) bool{
		match.Anywhere: strings.Contains, match.AtStart: strings.HasPrefix, match.AtEnd: strings.HasSuffix,
		match.Whole: func(v, w string) bool { return v == w },
	}
	for place, plain := range places {
		for _, exact := range []bool{false, true} {
			var b match.Builder
			for _, words := range lists {
				var as []string
				for _, w := range words {
					if !match.CanHold(w) {
						t.Fatalf("%q can't be held", w)
					}
					if !exact {
						w = match.FoldCase(w)
					}
					as = append(as, w)
				}
				b.Words(as, place, exact)
			}
			set := b.Build()
			for _, v := range values {
				scan := set.Scan(v)
				in := v
				if !exact {
					in = match.FoldCase(v)
				}
				for n, words := range lists {
					want := slices.ContainsFunc(words, func(w string) bool {
						if !exact {
							w = match.FoldCase(w)
						}
						return plain(in, w)
					})
					if got := scan.Matched(n); got != want {
						t.Errorf("%.20q in %.50q at place %d, exact %v: %v", words, v, place, exact, got)
					}
				}
			}
		}
	}
}

func TestCanHold(t *testing.T) {
	for word, want := range map[string]bool{"": true, "é": true, "\ufffd": false, "\xff": false, strings.Repeat("x", match.MaxWord+1): false} {
		if got := match.CanHold(word); got != want {
			t.Errorf("%.20q: %v", word, got)
		}
	}
}

func TestLiterals(t *testing.T) {
	tests := []struct {
		pattern string
		want    []string
	}{
		{`Wire Transfer`, []string{"wire transfer"}},
		{`\bwire\s+transfer\b`, []string{"transfer"}}, // the longer of two
		{`viagra|cialis`, []string{"viagra", "cialis"}},
		{`(won)|(winner)`, []string{"won", "winner"}},
		{`log ?in`, []string{"log in", "login"}},
		{`(?:big|small) (?:cat|dog)`, []string{"big cat", "big dog", "small cat", "small dog"}},
		{`v[i1]agra`, []string{"v1agra", "viagra"}},
		{`x{2,5}yes`, []string{"yes"}},
		{`(?:abc)+`, []string{"abc"}},
		{`(?:abc)*`, nil}, // may be nothing
		{`abc|\d+`, nil},  // one of the ways holds no literal
		{`\d+`, nil},
		{`a`, nil},            // in every text
		{`\$`, []string{"$"}}, // in few
		{`^$`, nil},
		{`K`, nil},
		{`Kelvin`, []string{"kelvin"}}, // the sign folds to the letter
		{`[^a]bc`, []string{"bc"}},
		{`a.b`, nil},
	}
	for _, tt := range tests {
		got, err := match.Literals(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.pattern, d)
		}
	}
}
