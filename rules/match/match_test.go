package match_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/rules/match"
	"postern/rules/match/matchtest"
)

// build compiles expressions both ways.
func build(t testing.TB, exprs ...string) (*match.Set, []*regexp.Regexp) {
	t.Helper()
	return buildWith(t, new(match.Builder), exprs)
}

func buildWith(t testing.TB, b *match.Builder, exprs []string) (*match.Set, []*regexp.Regexp) {
	t.Helper()
	var plain []*regexp.Regexp
	for _, e := range exprs {
		re, err := regexp.Compile(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Regexp(e); err != nil {
			t.Fatal(err)
		}
		plain = append(plain, re)
	}
	return b.Build(), plain
}

// same fails where the set and the expressions one by one do not agree on a text. The first has number first in the set.
func same(t testing.TB, set *match.Set, plain []*regexp.Regexp, text string, first ...int) {
	t.Helper()
	scan := set.Scan(text)
	for n, re := range plain {
		if len(first) > 0 {
			n += first[0]
		}
		if got, want := scan.Matched(n), re.MatchString(text); got != want {
			t.Errorf("%q on %.200q: %v, regexp says %v", re, text, got, want)
		}
		if d := cmp.Diff(re.FindStringIndex(text), scan.Find(n, re)); d != "" {
			t.Errorf("%q on %.200q: found elsewhere than by regexp: %s", re, text, d)
		}
	}
}

// Expressions of each kind, and texts on which some of them match and others do not.
var (
	exprs = []string{
		`abc`, `(?i)abc`, `a.c`, `(?s)a.c`, `^abc`, `(?m)^abc`, `abc$`, `(?m)abc$`, `\Aabc\z`, `\babc\b`, `\Babc\B`, `\bb`, `b\b`, `^$`, `(?m)^$`, ``, `\b`, `\B`, `x*`, `a|`, `(?:)`,
		`(?i)straße`, `(?i)ſ`, `(?i)k`, `(?i)\x{212a}`, `[^a]`, `\x{fffd}`, `[^\x00-\x{10ffff}]`, `\pL+`, `\PL`, `\p{Greek}{2}`, `[[:alpha:]]\d`, `\w+@\w+\.com`, `a{3,5}b`, `(?:ab){2,}c`, `.{3}`, `(?s).{3}$`,
		`invoice.{0,80}password`, `(?i)invoice.{0,20}password\b`, `^invoice[^.]*password$`, `(?s)invoice.*password`, `(?m)^invoice.*password$`, `\binvoice\b.{3,12}\b(?:pass|word)\b`, `(?:invoice|bill).{0,30}(?:pay|due).{0,30}now`,
		`[^>]{0,30}href`, `<a[^>]+href=[^>]*>`, `\w{5,12}tion`, `\b\w{0,30}foo`, `.*abc`, `abc.*`, `(?:.{0,9}a)?b`, `(?:foo.{0,40}bar|baz)`, `(?:\w+ ){0,3}money`, `(?:\pL{3,}\PL+){4}`, `x.{0,9}y`, `\d{4,20}`, `(?i)(?:https?://[^\s/]{1,60}\.(?:ru|cn)/)`,
		`(a+)+b`, `(?:a?){20}a{20}`, `(?:\b)*x`, `(?:^|\s)x(?:$|\s)`, `(?:^a|b$|\bc)+`, `\n`, `\r?\n\r?\n`, `(?:x.{0,9}\n){2}`, `(?i)É`, `é.{0,20}é`, `.{0,20}ü.{0,20}ü.{0,20}`, `\Qa.b\E`, `[ab][cd]{0,30}[ef]`, `a(?:.{0,20}b)+c`, `a(?:.{0,20}b)*c`,
	}
	texts = []string{
		"", "a", "abc", "ABC", "xabcx", " abc ", "\nabc\n", "abc\n", "\nabc", "a\nc", "aXc", "aéc", "a\xffc", "\xff", "\xff\xfe", "é", "\xc3", "ab\xe2\x82", "\u212a", "ſtraSSe STRAßE straſſe", "İi", "\n", "\n\n", "a\n\nb", " ", "_", "a_b", "αβ γδ",
		"invoice for you: your password", "invoice. password", "INVOICE of the PASSWORDs and password", "invoice\npassword", "invoice " + strings.Repeat("x", 80) + " password", "invoice pass wordinvoice 12345 pass.", "bill is due now", "bill " + strings.Repeat("-", 40) + " due pay it now",
		`<a class=x href="y">`, `<a>href=>`, "information", "abcdefghijkl" + "tion", "foofoo", "x1234567890y", "xy", "x\xff\xff\xffy", "xéééy", "https://a.b.ru/", "http://" + strings.Repeat("a", 70) + ".cn/x", "aaab ababc abababc", strings.Repeat("a", 40), "aaaa\nbaaaaaaaaaab",
		"word other words here now", "give me the money", "12 12345", "me@x.com", "ééé", "é" + strings.Repeat("ü", 19) + "é", "ü" + strings.Repeat("\xff", 20) + "ü", "c a b", "a.b", "acdcdcdcdcf", "a" + strings.Repeat("cd", 15) + "f", "a12b34b5c", "axbc a\nbc", "x1\nx22\n",
	}
)

func TestSameAsRegexp(t *testing.T) {
	set, plain := build(t, exprs...)
	for _, text := range texts {
		same(t, set, plain, text)
	}
	// Beside others and alone: an expression is trimmed, divided and assertions are merged by what is there.
	for _, e := range exprs {
		set, plain := build(t, e)
		for _, text := range texts {
			same(t, set, plain, text)
			same(t, set, plain, "x "+text)
			same(t, set, plain, text+"\n"+text)
		}
	}
}

// small builds with limits that are met all the time.
func small(t testing.TB, exprs []string) (*match.Set, []*regexp.Regexp) {
	t.Helper()
	var b match.Builder
	match.Small(&b, 4<<10, 3, 50)
	return buildWith(t, &b, exprs)
}

// What is found does not depend on how much of it fits into the tables.
func TestTablesThatAreTooSmall(t *testing.T) {
	set, plain := small(t, exprs)
	for range 2 {
		for _, text := range texts {
			same(t, set, plain, text)
		}
	}
	groups, _, _ := match.Shape(set)
	if n := match.Generations(set); n < 2*uint64(groups) {
		t.Errorf("%d tables for %d automata: none was thrown away", n, groups)
	}
}

// Many that share a set find what one alone finds, while tables grow and are thrown away.
func TestShared(t *testing.T) {
	patterns := matchtest.Patterns(60)
	mails := matchtest.Texts(12, 1500, 7)
	for _, set := range []*match.Set{first(build(t, patterns...)), first(small(t, patterns))} {
		var want [][]bool
		_, plain := build(t, patterns...)
		for _, text := range mails {
			var row []bool
			for _, re := range plain {
				row = append(row, re.MatchString(text))
			}
			want = append(want, row)
		}
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range mails {
					at := (i + 3*g) % len(mails)
					scan := set.Scan(mails[at])
					for n := range plain {
						if got := scan.Matched(n); got != want[at][n] {
							t.Errorf("%s on text %d: %v", patterns[n], at, got)
						}
					}
				}
			})
		}
		wg.Wait()
	}
}

func first(set *match.Set, _ []*regexp.Regexp) *match.Set { return set }

// The expressions of the packs that ship, and ones in the style of SpamAssassin's, on texts made from themselves.
func TestSameOnSamples(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	rounds := 1
	if os.Getenv("POSTERN_FULL") != "" {
		rounds = 60
	}
	patterns := append(packPatterns(t), matchtest.Patterns(80)...)
	set, plain := build(t, patterns...)
	tiny, _ := small(t, patterns)
	hits := 0
	for range rounds {
		for i, p := range patterns {
			text := matchtest.Spoil(r, "so "+matchtest.Sample(r, p)+" "+matchtest.Sample(r, patterns[r.IntN(len(patterns))]))
			if plain[i].MatchString(text) {
				hits++
			}
			same(t, set, plain[i:i+1], text, i)
			same(t, tiny, plain[i:i+1], text, i)
			if i%10 == 0 {
				same(t, set, plain, text)
			}
		}
	}
	if hits < rounds*len(patterns)/3 {
		t.Errorf("only %d of %d texts match what they were made from", hits, rounds*len(patterns))
	}
}

// packPatterns returns the expressions of the packs that ship, as rules compile them.
func packPatterns(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("../packs/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var patterns []string
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`matches: '((?:[^'\n]|'')+)'`).FindAllStringSubmatch(string(src), -1) {
			patterns = append(patterns, "(?i)"+strings.ReplaceAll(m[1], "''", "'"))
		}
	}
	if len(patterns) < 20 {
		t.Fatalf("only %d expressions found in the packs", len(patterns))
	}
	return patterns
}

// How expressions are divided: what is in the automaton of all, what is looked for by its segments, what is tried on each text.
func TestShape(t *testing.T) {
	tests := []struct {
		expr           string
		chains, always int
	}{
		{expr: `\binvoice\b`},
		{expr: `a{20}`, chains: 0},
		{expr: `.*invoice.*`},                   // the same as invoice
		{expr: `invoice.{0,4}paid`},             // a small gap
		{expr: `invoice.{0,80}paid`, chains: 1}, // a wide one
		{expr: `invoice.*paid|bill.*due|money`, chains: 2},
		{expr: `(?:invoice.{0,80})?paid`}, // what may be absent in front need not be there
		{expr: `paid (?:invoice.{0,80})?twice`, chains: 1},
		{expr: `[^.]{9}invoice`, chains: 1},
		{expr: `^[A-Z ]{9,}$`}, // loose, and small enough to share an automaton with others of its kind
		{expr: `(?:\pL{3,}\PL+){150}`, chains: 1, always: 1},
	}
	for _, tt := range tests {
		set, _ := build(t, tt.expr)
		_, chains, always := match.Shape(set)
		if chains != tt.chains || always != tt.always {
			t.Errorf("%s: %d chains, %d of them always, want %d and %d", tt.expr, chains, always, tt.chains, tt.always)
		}
	}
}

// An expression that no automaton of ours can hold is left to Go's regexp.
func TestTooLarge(t *testing.T) {
	for _, e := range []string{`(?:a?){1000}b`, `x(?:[a-f]{0,30}[g-m]{0,30}){30}y.{0,99}z`} {
		set, plain := build(t, e, "abc")
		for _, text := range []string{"b", "abc", strings.Repeat("a", 300) + "b", strings.Repeat("abc.", 10) + "x", "xaaagggy-z", "xy z", "z"} {
			same(t, set, plain, text)
		}
	}
}

// FuzzMatch looks for a pair of expressions and a text about which this package and Go's regexp do not agree.
func FuzzMatch(f *testing.F) {
	for i, e := range exprs {
		for k := range 3 {
			f.Add(e, exprs[(i+k*7+1)%len(exprs)], texts[(i*3+k)%len(texts)], uint64(i), k == 1)
		}
	}
	for i, p := range append(packPatterns(f), matchtest.Patterns(60)...) {
		f.Add(p, exprs[i%len(exprs)], texts[i%len(texts)], uint64(i), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, one, two, text string, seed uint64, tiny bool) {
		if len(one) > 300 || len(two) > 300 || len(text) > 3000 {
			return
		}
		var use []string
		for _, e := range []string{one, two} {
			if re, err := regexp.Compile(e); err == nil && re.NumSubexp() < 50 {
				use = append(use, e)
			}
		}
		make := build
		if tiny {
			make = func(t testing.TB, e ...string) (*match.Set, []*regexp.Regexp) { return small(t, e) }
		}
		set, plain := make(t, use...)
		r := rand.New(rand.NewPCG(seed, 1))
		same(t, set, plain, text)
		for _, e := range use {
			same(t, set, plain, matchtest.Spoil(r, text+matchtest.Sample(r, e)))
			same(t, set, plain, matchtest.Spoil(r, matchtest.Sample(r, e)))
		}
	})
}
