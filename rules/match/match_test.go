package match_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/rules/match"
)

// build compiles expressions both ways.
func build(t testing.TB, exprs ...string) (*match.Set, []*regexp.Regexp) {
	t.Helper()
	var b match.Builder
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

// same fails where the set and the expressions one by one do not agree on a text.
func same(t testing.TB, set *match.Set, plain []*regexp.Regexp, text string) {
	t.Helper()
	scan := set.Scan(text)
	for n, re := range plain {
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
