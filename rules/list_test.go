package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"postern/rules"
	"postern/rules/rulestest"
)

// inList asks whether a value of the envelope is in a list file.
func inList(t testing.TB, file string) func(value string) bool {
	t.Helper()
	set, err := rules.Load([]rules.Source{{Name: "r.yaml", Src: []byte("lists: {l: {file: l.txt}}\nrules: [{id: RULE, score: 1, when: {envelope: helo, in: l}}]")}}, rules.Options{
		ReadFile: func(string) ([]byte, error) { return []byte(file), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(value string) bool {
		s := rulestest.New(nil)
		s.Smtp["helo"] = rules.Answer{Values: []string{value}}
		return len(set.Eval(t.Context(), s).Hits) == 1
	}
}

func TestListLookup(t *testing.T) {
	in := inList(t, "\ufeff# a comment\r\nexact.example\r\n.suffix.example 2\n@at.example\nuser@one.example -1.5 # note # more\n"+
		"Mary Smith\n\"Area 51\"\n\"Room # 7\" 3\n192.0.2.0/24\n192.0.2.128/25\n2001:db8::/32\n198.51.100.9\n日本.example\n")
	tests := []struct {
		value string
		want  bool
		why   string
	}{
		{"exact.example", true, "the first line, behind a byte order mark and a comment"},
		{"EXACT.example", true, "case is folded"},
		{"a.exact.example", false, "no dot, no subdomains"},
		{"suffix.example", true, "the domain itself"},
		{"a.b.suffix.example", true, "all below it"},
		{"x@a.suffix.example", true, "the domain of an address"},
		{"notsuffix.example", false, "whole labels"},
		{"suffix.example.org", false, "the end only"},
		{"anyone@at.example", true, "all addresses of a domain"},
		{"anyone@a.at.example", false, "of exactly that domain"},
		{"at.example", false, "addresses only"},
		{"user@one.example", true, "an address"},
		{"other@one.example", false, ""},
		{"mary smith", true, "a key with a space"},
		{"area 51", true, "a quoted key that ends in a number"},
		{"area", false, ""},
		{"room # 7", true, "a quoted key with a comment sign"},
		{"192.0.2.200", true, "in a network"},
		{"192.0.3.1", false, ""},
		{"::ffff:192.0.2.1", true, "an IPv4 address in IPv6 clothes"},
		{"2001:DB8::1", true, ""},
		{"2001:db9::1", false, ""},
		{"198.51.100.9", true, "an address alone"},
		{"日本.example", true, ""},
		{"", false, "an empty value"},
		{strings.Repeat("a.", 10_000) + "suffix.example", false, "more labels than a name can have: bounded work"},
	}
	for _, tt := range tests {
		if got := in(tt.value); got != tt.want {
			t.Errorf("%.40s: %v, want %v: %s", tt.value, got, tt.want, tt.why)
		}
	}
}

func BenchmarkListLookup(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			var file strings.Builder
			for i := range n {
				fmt.Fprintf(&file, "name%d.example\n.suffix%d.example\n", i, i)
			}
			in := inList(b, file.String())
			b.ResetTimer()
			for b.Loop() {
				in("a.b.c.d.nothing.example")
			}
		})
	}
}
