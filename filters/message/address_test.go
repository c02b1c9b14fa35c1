package message

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseAddresses(t *testing.T) {
	for _, c := range []struct {
		reason, value string
		want          []string // name <address>, with "group" after those in one
		bad           bool
	}{
		{reason: "alone", value: "bob@example.org", want: []string{" <bob@example.org>"}},
		{reason: "with name", value: `"Bob, Smith" <bob@example.org>`, want: []string{"Bob, Smith <bob@example.org>"}},
		{reason: "a name of atoms", value: "Bob  J. Smith <bob@example.org>", want: []string{"Bob J. Smith <bob@example.org>"}},
		{reason: "several", value: "a@b.c, D <d@e.f>,,g@h.i", want: []string{" <a@b.c>", "D <d@e.f>", " <g@h.i>"}},
		{reason: "RFC 5322 appendix A.5", value: `Pete(A nice \) chap) <pete(his account)@silly.test(his host)>`, want: []string{"Pete <pete@silly.test>"}},
		{reason: "the name in a comment", value: "bob@example.org (Bob (the builder) Smith)", want: []string{"Bob (the builder) Smith <bob@example.org>"}},
		{reason: "a group, RFC 5322 appendix A.1.3", value: "A Group:Ed Jones <joe@where.test>,john@jdoe.test; x@y.z", want: []string{"Ed Jones <joe@where.test> group", " <john@jdoe.test> group", " <x@y.z>"}},
		{reason: "an empty group", value: "Undisclosed recipients:(Nobody(that I know))  ;"},
		{reason: "an obsolete route", value: "Mary <@a.test,@b.test:mary@x.test>", want: []string{"Mary <mary@x.test>"}},
		{reason: "white space around dots, RFC 5322 appendix A.6.3", value: "Joe <john . public@example . com>", want: []string{"Joe <john.public@example.com>"}},
		{reason: "a quoted local part", value: `"a b\"c"@example.org`, want: []string{` <"a b\"c"@example.org>`}},
		{reason: "an address literal", value: "a@[192.0.2.1]", want: []string{" <a@[192.0.2.1]>"}},
		{reason: "an encoded name", value: "=?utf-8?q?J=C3=BCrgen?= <j@example.org>", want: []string{"Jürgen <j@example.org>"}},
		{reason: "an encoded name with an address in it is a name", value: "=?utf-8?q?boss=40corp.example?= <x@evil.example>", want: []string{"boss@corp.example <x@evil.example>"}},
		{reason: "raw UTF-8, RFC 6532", value: "Jürgen <jürgen@bücher.example>", want: []string{"Jürgen <jürgen@bücher.example>"}},
		{reason: "nothing", value: ""},
		{reason: "an address as name, without quotes", value: "boss@corp.example <x@evil.example>", want: []string{"boss@corp.example <x@evil.example>"}, bad: true},
		{reason: "two in a row", value: "<a@b.c> <d@e.f>", want: []string{" <a@b.c>", " <d@e.f>"}, bad: true},
		{reason: "a comma in a name", value: "Smith, Bob <bob@example.org>", want: []string{" <Smith>", "Bob <bob@example.org>"}, bad: true},
		{reason: "no angle brackets", value: "Bob Smith bob@example.org", want: []string{"Bob Smith <bob@example.org>"}, bad: true},
		{reason: "no closing bracket", value: "Bob <bob@example.org", want: []string{"Bob <bob@example.org>"}, bad: true},
		{reason: "no closing quote", value: `"Bob <bob@example.org>`, want: []string{"Bob <bob@example.org>"}, bad: true},
		{reason: "no closing parenthesis", value: "a@b.c (Bob, d@e.f", want: []string{"Bob, d@e.f <a@b.c>"}, bad: true},
		{reason: "no address", value: "Mail Delivery <>", want: []string{"Mail Delivery <>"}, bad: true},
		{reason: "no domain", value: "MAILER-DAEMON", want: []string{" <MAILER-DAEMON>"}, bad: true},
		{reason: "a parenthesis that closes nothing", value: ") <a@b.c>", want: []string{") <a@b.c>"}, bad: true},
		{reason: "two signs", value: "a@b@c.d", want: []string{` <"a@b"@c.d>`}, bad: true},
		{reason: "two dots", value: "a..b@c.d", want: []string{` <"a..b"@c.d>`}, bad: true},
		{reason: "no end of the group", value: "g: a@b.c", want: []string{" <a@b.c> group"}, bad: true},
		{reason: "a group in a group", value: "g: h: a@b.c;", want: []string{" <a@b.c> group"}, bad: true},
	} {
		addrs, ok := ParseAddresses(c.value)
		var got []string
		for _, a := range addrs {
			s := a.Name + " <" + a.String() + ">"
			if a.Group {
				s += " group"
			}
			got = append(got, s)
		}
		if d := cmp.Diff(c.want, got); d != "" || ok == c.bad {
			t.Errorf("%s: well formed %t, want %t\n%s", c.reason, ok, !c.bad, d)
		}
	}
}

func TestParseAddressesBounds(t *testing.T) {
	addrs, ok := ParseAddresses(strings.Repeat("a@b.c,", 10_000))
	if len(addrs) != maxAddresses || ok {
		t.Errorf("%d addresses, read whole: %t; want %d and false", len(addrs), ok, maxAddresses)
	}
	if addrs, ok = ParseAddresses(strings.TrimSuffix(strings.Repeat("a@b.c,", maxAddresses), ",")); len(addrs) != maxAddresses || !ok {
		t.Errorf("%d addresses, read whole: %t; want %d and true", len(addrs), ok, maxAddresses)
	}
	addrs, ok = ParseAddresses(strings.Repeat("word ", 10_000) + "<a@b.c>")
	if len(addrs) != 1 || ok || len(addrs[0].Name) > 5*maxWords {
		t.Errorf("%d addresses, read whole: %t", len(addrs), ok)
	}
}

func FuzzParseAddresses(f *testing.F) {
	for _, s := range []string{`"Bob" <bob@example.org>`, "g: a@b, <c@d>;", "<@a,@b:c@d>", "a(b(c)d)@[1.2.3.4]", `"\`, "((((", "<<>>[[\\", ")a@b>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		addrs, ok := ParseAddresses(value)
		for _, a := range addrs {
			if !ok || a.Local == "" || a.Domain == "" {
				continue
			}
			// A well-formed address is read again as what it is.
			again, ok := ParseAddresses(a.String())
			if !ok || len(again) != 1 || again[0].Local != a.Local || again[0].Domain != a.Domain {
				t.Fatalf("%q holds %q, which is read as %s", value, a.String(), fmt.Sprintf("%q %t", again, ok))
			}
		}
	})
}
