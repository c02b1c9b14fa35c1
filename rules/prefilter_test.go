package rules_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/rules"
)

func TestLiterals(t *testing.T) {
	tests := []struct {
		pattern string
		want    []string
	}{
		{`Wire Transfer`, []string{"wire transfer"}},
		{`\bwire\s+transfer\b`, []string{"transfer"}}, // the longer of two
		{`viagra|cialis`, []string{"viagra", "cialis"}},
		{`won|winner`, []string{"won", "winner"}},
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
		{`(?-i:ABC)`, []string{"abc"}},
		{`[^a]bc`, []string{"bc"}},
		{`a.b`, nil},
	}
	for _, tt := range tests {
		got, _, err := rules.CompilePattern(tt.pattern, false)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.pattern, d)
		}
	}
}

func TestPrefilter(t *testing.T) {
	can := rules.Prefilter([]string{"he", "she"}, []string{"hers"}, nil, []string{"his", "€"}, []string{"ushe"})
	tests := []struct {
		text string
		want []bool
	}{
		{"", []bool{false, false, true, false, false}},
		{"uSHErs", []bool{true, true, true, false, true}}, // literals within each other, in any case
		{"hi, she", []bool{true, false, true, false, false}},
		{"hhhis", []bool{false, false, true, true, false}},
		{"5 €", []bool{false, false, true, true, false}},
		{"shhe", []bool{true, false, true, false, false}},
	}
	for _, tt := range tests {
		if d := cmp.Diff(tt.want, can(tt.text)); d != "" {
			t.Errorf("%q: %s", tt.text, d)
		}
	}
}

// The prefilter may let an expression run in vain, and must never keep one from a match.
func FuzzPrefilter(f *testing.F) {
	for _, pattern := range []string{
		`wire ?transfer`, `(?:a|bc|d?e)+x`, `v[i1]agra`, `[^a]bc`, `ſtraße`, `\x{212A}elvin`, `(?-i)ABC|d`, `a{0,3}bcd`, `(?s).b.`, `[[:alpha:]]x\d`, `\Qa.b\E`, `^ab$|c\b`, `(ab|cd)(ef|gh)?ij`, `\x{fffd}ab`, `[ab][cd][ef][gh]`,
	} {
		for _, text := range []string{"wire transfer WIRETRANSFER", "dex bcx", "v1AGRA", "xbc", "STRASSE ſtraße", "Kelvin kelvin", "abc ABC", "bcd aabcd", "\xffab", "aceg BDFH", "abefij ABIJ"} {
			f.Add(pattern, text, true)
			f.Add(pattern, text, false)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, text string, exact bool) {
		literals, match, err := rules.CompilePattern(pattern, exact)
		if err != nil {
			return
		}
		if match(text) && !rules.Prefilter(literals)(text)[0] {
			t.Errorf("%q matches %q, which holds none of %q", pattern, text, literals)
		}
	})
}

// What the shipped rules say is the same with and without the prefilter: each hit is found by the plain expressions too.
func TestPackPatternsPassTheFilter(t *testing.T) {
	src, err := os.ReadFile("packs/default.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, pattern := range []string{"testdata/*.eml", "packs/*.yaml", "../docs/rules.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, strings.Split(string(b), "\n\n")...)
		}
	}
	quoted := regexp.MustCompile(`matches: '([^'\n]+)'`)
	n, filtered := 0, 0
	for _, m := range quoted.FindAllStringSubmatch(string(src), -1) {
		literals, match, err := rules.CompilePattern(m[1], false)
		if err != nil {
			t.Fatal(err)
		}
		can := rules.Prefilter(literals)
		for _, text := range texts {
			n++
			if !can(text)[0] {
				filtered++
				if match(text) {
					t.Errorf("%s matches %q, which the filter drops for %q", m[1], text, literals)
				}
			}
		}
	}
	if n == 0 || filtered == 0 {
		t.Errorf("%d tries, %d filtered: nothing was tested", n, filtered)
	}
}
