package rules_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"postern/rules"
)

func TestViews(t *testing.T) {
	tests := []struct{ why, in, folded, skeleton string }{
		{"nothing to do", "plain text", "plain text", "pla1n text"},
		{"case", "PayPal ÄÖ", "paypal äö", "paypal ao"},
		{"white space is one space, none at the ends", "  a \t b\r\n\u00a0c ", "a b c", "a b c"},
		{"fullwidth", "Ｐａｙ", "pay", "pay"},
		{"mathematical letters", "𝐏𝐚𝐲", "pay", "pay"},
		{"ligature", "oﬃce", "office", "off1ce"},
		{"zero-width and soft hyphen", "v\u200bi\u00ada\u2060gra\ufeff", "viagra", "v1agra"},
		{"bidirectional marks", "\u202eexe\u202c", "exe", "exe"},
		{"Cyrillic and Greek", "раураl αβ", "раураl αβ", "paypal ab"},
		{"accents", "Ñétflïx", "ñétflïx", "netfl1x"},
		{"digits and signs", "p4y 0ff1c3 c@$h", "p4y 0ff1c3 c@$h", "pay off1ce cash"},
		{"letters that are two", "Encyclopædia Straße", "encyclopædia straße", "encyclopaed1a strasse"},
		{"dashes and quotes", "a–b ‘c’", "a–b ‘c’", "a-b 'c'"},
		{"invalid UTF-8 does no harm", "a\xffb", "a\ufffdb", "a\ufffdb"},
		{"nothing", "", "", ""},
		{"only invisible", "\u200b \u200d", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			if got := rules.FoldedView(tt.in); got != tt.folded {
				t.Errorf("folded %q, want %q", got, tt.folded)
			}
			// i, 1 and l are one letter in a skeleton, which the table writes as it is written elsewhere.
			want := strings.NewReplacer("1", "l", "i", "l").Replace(tt.skeleton)
			if got := rules.SkeletonView(tt.in); got != want {
				t.Errorf("skeleton %q, want %q", got, want)
			}
		})
	}
}

// A view seen through itself is the same, else lists (seen once) and texts would drift apart.
func TestViewsAreStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		for name, view := range map[string]func(string) string{"folded": rules.FoldedView, "skeleton": rules.SkeletonView, "case": rules.FoldCase} {
			once := view(s)
			if twice := view(once); twice != once {
				t.Errorf("%s: %q, then %q", name, once, twice)
			}
		}
	})
}

// Comparisons and expressions must agree on what a difference in case is.
func TestFoldCaseIsThatOfExpressions(t *testing.T) {
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		if unicode.SimpleFold(r) == r {
			continue
		}
		f := rules.FoldCase(string(r))
		for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
			if rules.FoldCase(string(o)) != f {
				t.Errorf("%q and %q differ in more than case, expressions say they don't", r, o)
			}
		}
	}
	if !regexp.MustCompile(`(?i)^ſ$`).MatchString("S") || rules.FoldCase("ſ") != rules.FoldCase("S") {
		t.Error("long s")
	}
}
