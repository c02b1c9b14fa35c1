package filters

import (
	"slices"
	"strings"
	"testing"
	"time"

	"os"
	"path/filepath"
	"postern/rules"
	"postern/rules/packs"
	"postern/rules/strict"
)

// testsOf compiles a rule file for use beside the default checks and a list.
func testsOf(t *testing.T, src string) (*rules.Set, *RuleTester) {
	t.Helper()
	checks := DefaultConfig()
	checks.DNSBL.Own.Lists = []DNSBLList{{Zone: "bl.example", Score: 3, Of: []DNSBLIdentity{dnsblClient, dnsblFrom}}}
	set, err := rules.Load([]rules.Source{{Name: "rules.yaml", Src: []byte(src)}}, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set, NewRuleTester(checks, time.Date(2024, 5, 17, 12, 0, 0, 0, time.UTC))
}

// What DNS answers in a test decides what the checks find, in each of the ways in which a rule can ask for it.
func TestRuleTestsWithDNS(t *testing.T) {
	tests := []struct {
		name string
		when string
		test string
	}{
		{name: "a record that lets the client send", when: `{auth: spf, equals: pass}`,
			test: `hit: {ip: 192.0.2.7, from: a@shop.example, dns: {shop.example: ['v=spf1 a -all', 192.0.2.7]}}`},
		{name: "records by their types", when: `{auth: spf, equals: pass}`,
			test: `hit: {ip: '2001:db8::7', from: a@shop.example, dns: {shop.example: {txt: 'v=spf1 mx -all', mx: mx.shop.example}, mx.shop.example: {aaaa: '2001:db8::7'}}}`},
		{name: "another client", when: `{symbol: spf.fail}`,
			test: `hit: {ip: 192.0.2.8, from: a@shop.example, dns: {shop.example: ['v=spf1 a -all', 192.0.2.7]}}`},
		{name: "a name that is not there", when: `{auth: spf, equals: none}`,
			test: `hit: {ip: 192.0.2.7, from: a@shop.example, dns: {}}`},
		{name: "a name that cannot be looked up is unknown", when: `{any: [{auth: spf, equals: pass}, {not: {auth: spf, equals: pass}}]}`,
			test: `miss: {ip: 192.0.2.7, from: a@shop.example, dns: {shop.example: servfail}}`},
		{name: "the failure itself", when: `{auth: spf, equals: temperror}`,
			test: `hit: {ip: 192.0.2.7, from: a@shop.example, dns: {shop.example: timeout}}`},
		{name: "DMARC by SPF", when: `{auth: dmarc_domain, equals: shop.example}`,
			test: `hit: {ip: 192.0.2.7, from: a@shop.example, mail: 'From: b@shop.example', dns: {shop.example: 'v=spf1 ip4:192.0.2.0/24 -all', _dmarc.shop.example: 'v=DMARC1; p=reject'}}`},
		{name: "DMARC refuses", when: `{symbol: dmarc.*}`,
			test: `hit: {ip: 192.0.2.7, from: a@other.example, mail: 'From: b@shop.example', dns: {_dmarc.shop.example: 'v=DMARC1; p=reject'}}`},
		{name: "a signature whose key is not there", when: `{auth: dkim, equals: permerror}`,
			test: `hit: {mail: "DKIM-Signature: v=1; a=rsa-sha256; d=shop.example; s=s; h=from; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=YQ==\nFrom: b@shop.example\n", dns: {}}`},
		{name: "a confirmed name", when: `{envelope: rdns, equals: mx.shop.example}`,
			test: `hit: {ip: 192.0.2.7, dns: {192.0.2.7: mx.shop.example, mx.shop.example: 192.0.2.7}}`},
		{name: "a name that leads elsewhere", when: `{auth: iprev, equals: fail}`,
			test: `hit: {ip: 192.0.2.7, dns: {192.0.2.7: mx.shop.example, mx.shop.example: 192.0.2.9}}`},
		{name: "a listed address", when: `{symbol: dnsbl.bl.example, part: score, equals: 3}`,
			test: `hit: {ip: 192.0.2.7, dns: {7.2.0.192.bl.example: 127.0.0.2}}`},
		{name: "a listed domain", when: `{symbol: dnsbl.bl.example.from}`,
			test: `hit: {ip: 192.0.2.7, mail: 'From: b@shop.example', dns: {shop.example.bl.example: 127.0.0.2}}`},
		{name: "an address that is not listed", when: `{symbol: dnsbl.*}`,
			test: `miss: {ip: 192.0.2.7, dns: {8.2.0.192.bl.example: 127.0.0.2}}`},
		{name: "a list that lists everything is not believed", when: `{symbol: dnsbl.bl.example}`,
			test: `miss: {ip: 192.0.2.7, dns: {7.2.0.192.bl.example: 127.0.0.2, 1.0.0.127.bl.example: 127.0.0.2}}`},
		{name: "what a test says of a result comes before what a check finds", when: `{all: [{auth: spf, equals: pass}, {symbol: spf.fail, exists: true}]}`,
			test: `hit: {ip: 192.0.2.7, from: a@shop.example, auth: {spf: pass}, dns: {shop.example: 'v=spf1 -all'}}`},
		{name: "a name that is given comes before the one that is found", when: `{envelope: rdns, equals: other.example}`,
			test: `hit: {ip: 192.0.2.7, rdns: other.example, dns: {192.0.2.7: mx.shop.example, mx.shop.example: 192.0.2.7}}`},
		{name: "without dns no check is run", when: `{symbol: spf.none}`,
			test: `miss: {ip: 192.0.2.7, from: a@shop.example}`},
		{name: "TLS", when: `{envelope: tls, equals: '1.3'}`, test: `hit: {tls: '1.3'}`},
		{name: "an older TLS", when: `{envelope: tls, equals: '1.3'}`, test: `miss: {tls: 1.2}`},
		{name: "no TLS", when: `{envelope: tls, exists: true}`, test: `miss: {ip: 192.0.2.7}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			set, tester := testsOf(t, "rules:\n  - id: RULE\n    score: 1\n    when: "+test.when+"\n    tests:\n      - "+test.test+"\n")
			if err := tester.Test(t.Context(), set); err != nil {
				t.Error(err)
			}
			turned := strings.NewReplacer("hit:", "miss:", "miss:", "hit:").Replace(test.test)
			set, tester = testsOf(t, "rules:\n  - id: RULE\n    score: 1\n    when: "+test.when+"\n    tests:\n      - "+turned+"\n")
			if err := tester.Test(t.Context(), set); err == nil {
				t.Error("the contrary passes too")
			}
		})
	}
}

// A check that is switched off is run for a test all the same: the test is about the rule.
func TestRuleTestsRunChecksThatAreOff(t *testing.T) {
	set, _ := testsOf(t, `
rules:
  - id: RULE
    score: 1
    when: {auth: spf, equals: fail}
    tests: [hit: {ip: 192.0.2.7, from: a@shop.example, dns: {shop.example: 'v=spf1 -all'}}]
`)
	checks := DefaultConfig()
	checks.SPF.Enabled = false
	if err := NewRuleTester(checks, time.Now()).Test(t.Context(), set); err != nil {
		t.Error(err)
	}
	if checks.SPF.Enabled {
		t.Error("the configuration was changed")
	}
}

// A test that fails tells which names were asked for in vain, the test entries of lists not among them.
func TestRuleTestTellsOfUnansweredNames(t *testing.T) {
	set, tester := testsOf(t, `
rules:
  - id: RULE
    score: 1
    when: {all: [{auth: spf, equals: pass}, {symbol: dnsbl.bl.example}]}
    tests: [hit: {ip: 192.0.2.7, from: a@shop.example, dns: {shop.exmaple: 'v=spf1 a -all'}}]
`)
	o := set.RunTest(t.Context(), set.Tests()[0], tester.Build(t.Context()))
	if o.Passed || !slices.Contains(o.Unanswered, "TXT shop.example") || !slices.Contains(o.Unanswered, "A 7.2.0.192.bl.example") {
		t.Errorf("passed %v, unanswered %q", o.Passed, o.Unanswered)
	}
	for _, question := range o.Unanswered {
		if strings.Contains(question, "0.0.127.bl.example") {
			t.Errorf("tells of the test entry %s", question)
		}
	}
}

// TestOwnRulesAreTested: a server that starts tests the rules of its site, not those of packs; what fails is told all the same.
func TestOwnRulesAreTested(t *testing.T) {
	own := filepath.Join(t.TempDir(), "own.yaml")
	src := "rules:\n  - {id: OWN, score: 1, when: {header: Subject, contains: x}, tests: [{hit: 'Subject: x'}, {miss: 'Subject: xx'}]}\n"
	if err := os.WriteFile(own, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := LoadRules(ContentConfig{Packs: []string{packs.Default}, Rules: []string{own}}, RuleOptions{
		Path: func(p string) string { return p }, Pos: func(...any) strict.Pos { return strict.Pos{} }, Symbols: Symbols(DefaultConfig()),
		Thresholds: Thresholds{Tag: 500, Quarantine: 800, Reject: 1200},
	})
	if err != nil {
		t.Fatal(err)
	}
	tester := NewRuleTester(DefaultConfig(), time.Now())
	err = tester.TestOwn(t.Context(), set)
	if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), "own.yaml:2:") {
		t.Errorf("got %v, want the one failure of own.yaml", err)
	}
	files := map[string]bool{}
	set.RunTestsOf(t.Context(), tester.Build(t.Context()), func(file string) bool { files[file] = true; return false })
	if len(files) < 5 || !files[own] {
		t.Errorf("the set has tests of %v, expected those of packs too", files)
	}
}
