package rules_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/rules"
	"postern/rules/rulestest"
)

const mailText = `Received: from a.example by b.example
Received: from c.example by d.example
From: "Mary  Ѕmith" <boss@Corp.example>
To: alice@example.org, "Bob" <bob@sub.example.com>
Reply-To: mary.smith@gmail.com
Subject: Re: =?utf-8?q?Inv=C3=B6ice?= no. 7
Empty:
Content-Type: multipart/mixed; boundary=B

--B
Content-Type: text/html

<p>Please VERIFY your Vіаgrа account</p><div style="display:none">secret padding</div>
<a href="https://bit.ly/x1">log in</a> <a href="http://evil.example/login">https://www.bank.example/</a>
--B
Content-Type: application/pdf; name="invoice.pdf.exe"
Content-Disposition: attachment

MZ........
--B
Content-Type: text/html; name="form.html"
Content-Disposition: attachment

<form>
--B--
`

// subject is the message above, with all that checks can say.
func subject() *rulestest.Subject {
	s := rulestest.New([]byte(mailText))
	vals := func(v ...string) rules.Answer { return rules.Answer{Values: v} }
	s.Smtp["ip"] = vals("192.0.2.7")
	s.Smtp["rdns"] = vals("mail.corp.example")
	s.Smtp["helo"] = vals("HELO.corp.example")
	s.Smtp["from"] = vals("boss@corp.example")
	s.Smtp["from_domain"] = vals("corp.example")
	s.Smtp["rcpt"] = vals("info@example.org", "sales@example.org", "alice@example.org")
	s.Results["spf"] = vals("pass")
	s.Results["dkim"] = vals("fail", "pass")
	s.Results["dkim_domain"] = vals("corp.example")
	s.Results["dmarc"] = rules.Answer{Values: []string{"temperror"}, Unknown: true}
	s.Results["dmarc_domain"] = rules.Answer{Unknown: true}
	s.Found["spf.pass"] = rulestest.Count{N: 1, Score: -50}
	s.Found["rate.from_domain"] = rulestest.Count{N: 60}
	s.Found["dnsbl.zen"] = rulestest.Count{Unknown: true}
	s.Found["dnsbl.some"] = rulestest.Count{N: 2, Score: 400, Unknown: true}
	s.Facts["defects"] = vals("no_date", "bad_qp")
	s.Facts["parts"] = vals("4")
	s.Time = time.Date(2024, time.May, 18, 23, 30, 0, 0, time.FixedZone("CEST", 2*3600)) // a Saturday
	return s
}

const lists = `
lists:
  freemail: [gmail.com, outlook.com]
  people: [Mary Smith, John Doe]
  domains: [.corp.example, exact.example, "@sub.example.com", 10.0.0.0/8, 192.0.2.0/24, 192.0.2.128/25]
  shorteners: [bit.ly]
  roles: [info@example.org, sales@example.org]
conditions:
  free_reply: {header: Reply-To, part: domain, in: freemail}
  unknown_one: {symbol: dnsbl.zen}
`

func compile(t testing.TB, src string) *rules.Set {
	t.Helper()
	set, err := rules.Load([]rules.Source{{Name: "test.yaml", Src: []byte(src)}}, rules.Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	return set
}

func truthOf(res rules.Result) rules.Truth {
	switch {
	case len(res.Unknown) > 0:
		return rules.Unknown
	case len(res.Hits) > 0:
		return rules.True
	}
	return rules.False
}

func TestConditions(t *testing.T) {
	const (
		no  = rules.False
		yes = rules.True
		unk = rules.Unknown
	)
	tests := []struct {
		when string
		want rules.Truth
	}{
		// Header fields and their parts.
		{"{header: Subject, contains: invöice}", yes},                             // RFC 2047 words are decoded, case is folded
		{"{header: subject, contains: INVÖICE}", yes},                             // beyond ASCII too
		{"{header: Subject, contains: INVÖICE, case: exact}", no},                 // unless asked not to
		{"{header: Subject, part: raw, contains: '=?utf-8?q?'}", yes},             // as it came
		{"{header: Subject, matches: '^re: .* no\\. \\d$'}", yes},                 // RE2, case folded
		{"{header: Subject, matches: '^re:', case: exact}", no},                   // or not
		{"{header: Subject, matches: ['nothing', 'no\\.']}", yes},                 // one of several
		{"{header: Subject, equals: 'RE: invöice NO. 7'}", yes},                   //
		{"{header: Subject, starts_with: [fwd, 're:']}", yes},                     //
		{"{header: Subject, ends_with: no. 8}", no},                               //
		{"{header: Subject, starts_with: 're:', ends_with: '7'}", yes},            // all operators, on the same value
		{"{header: Subject, starts_with: 're:', ends_with: '8'}", no},             //
		{"{header: From, part: name, equals: mary  ѕmith}", yes},                  // the Cyrillic letter as it is
		{"{header: From, part: address, equals: boss@corp.example}", yes},         //
		{"{header: From, part: local, equals: boss}", yes},                        //
		{"{header: To, part: domain, equals: sub.example.com}", yes},              // any of two addresses
		{"{header: To, part: domain, equals: sub.example.com, which: every}", no}, //
		{"{header: To, part: domain, equals: example.org, which: first}", yes},    //
		{"{header: To, part: domain, equals: example.org, which: last}", no},      //
		{"{header: To, part: org_domain, contains: example, which: every}", yes},  //
		{"{header: Nothing, contains: x, which: every}", no},                      // every of none is no reason to act
		{"{header: Nothing, contains: x, which: first}", no},                      //
		{"not: {header: Nothing, contains: x}", yes},                              // `not` of an absent field is true
		{"{header: Nothing, exists: true}", no},                                   //
		{"{header: Nothing, exists: false}", yes},                                 //
		{"{header: Empty, exists: true}", yes},                                    // an empty field is there
		{"{header: Received, count: 2}", yes},                                     //
		{"{header: Received, count: {over: 2}}", no},                              //
		{"{header: Received, part: count, between: [1, 2]}", yes},                 // the same question
		{"{header: To, part: address, count: {under: 3}}", yes},                   // addresses, not fields
		{"{header: [Sender, Reply-To], part: domain, equals: gmail.com}", yes},    // either field
		// Views.
		{"{header: From, part: name, view: skeleton, in: people}", yes}, // the list is seen through the view as well
		{"{header: From, part: name, in: people}", no},
		{"{header: From, part: name, view: folded, contains: 'y ѕ'}", yes}, // white space is made one space
		{"{header: From, part: name, view: skeleton, matches: '^mary smith$'}", yes},
		{"{body: text, view: skeleton, contains: viagra}", yes},
		{"{body: text, view: skeleton, matches: '\\bv[i1]agra\\b'}", yes}, // the expression's letters are seen so too
		{"{body: text, contains: viagra}", no},
		// Body.
		{"{body: text, matches: 'verify your \\S+ account'}", yes},
		{"{body: text, contains: secret padding}", no},
		{"{body: hidden, contains: secret padding}", yes},
		{"{body: hidden, exists: true}", yes},
		{"{body: html, contains: '<div'}", yes},
		{"{body: raw, contains: '--B'}", yes},
		{"{body: text, length: {over: 20}}", yes},
		{"{header: From, part: name, length: 11}", yes}, // characters, not bytes
		{"{header: To, part: domain, length: {between: [12, 20]}, which: every}", no},
		// Links: conditions within hold for the same link.
		{"{uri: {host: {in: shorteners}, shown: {matches: 'log ?in|verify'}}}", yes},
		{"{uri: {host: {in: shorteners}, shown: {contains: bank}}}", no}, // each holds, for different links
		{"{uri: {shown_domain: {exists: true}, not: {org_domain: {same_as: {part: shown_domain}}}}}", yes},
		{"{uri: {scheme: {equals: https}}, which: every}", no},
		{"{uri: {scheme: {equals: https}}, which: first}", yes},
		{"{uri: {scheme: {equals: https}}, which: last}", no},
		{"{uri: {any: [{host: {equals: nope}}, {path: {equals: /x1}}]}}", yes},
		{"{uri: {at_least: 2, of: [{host: {equals: bit.ly}}, {path: {equals: /x1}}, {path: {equals: /y}}]}}", yes},
		{"{uri: {}, count: 2}", yes},
		{"{uri: {scheme: {equals: https}}, count: {over: 1}}", no},
		{"{uri: {}}", yes},
		{"{uri: {host: {same_as: {header: From, part: domain}}}}", no},
		// Attachments.
		{"{attachment: {name: {matches: '\\.pdf\\.exe$'}}}", yes},
		{"{attachment: {type: {equals: text/html}, size: {under: 100KiB}}}", yes},
		{"{attachment: {type: {equals: text/html}, size: {over: 100KiB}}}", no},
		{"{attachment: {}, count: {between: [2, 3]}}", yes},
		{"{attachment: {inside: {ends_with: .exe}}}", no},
		// Envelope.
		{"{envelope: ip, in_net: [198.51.100.0/24, 192.0.2.0/24]}", yes},
		{"{envelope: ip, in_net: domains}", yes}, // a list by name
		{"{envelope: ip, in: domains}", yes},
		{"{envelope: ip, equals: 192.0.2.7}", yes},
		{"{envelope: ip, in: [192.0.2.128/25]}", no},
		{"{envelope: from_domain, in: domains}", yes}, // .corp.example holds corp.example too
		{"{envelope: helo, in: domains}", yes},        // and all below it, in any case
		{"{header: To, part: address, in: domains}", yes},
		{"{header: From, part: domain, in: [xcorp.example]}", no},
		{"{header: From, part: domain, in: [.corp.example]}", yes},
		{"{header: From, part: domain, in: [.orp.example]}", no}, // labels are whole
		{"{envelope: rcpt, which: every, in: roles}", no},
		{"{envelope: rcpt, which: any, in: roles}", yes},
		{"{envelope: rcpt, count: 3}", yes},
		{"{envelope: tls, exists: false}", yes},
		{"{envelope: from, same_as: {header: From, part: address}}", yes},
		{"{header: Reply-To, part: org_domain, same_as: {header: From, part: org_domain}}", no},
		{"{header: Nothing, same_as: {header: Nothing}}", no}, // what isn't there is the same as nothing
		// Authentication: temperror is unknown, and known to be temperror.
		{"{auth: spf, equals: pass}", yes},
		{"{auth: dkim, equals: pass}", yes},
		{"{auth: dkim, equals: pass, which: every}", no},
		{"{auth: dmarc, equals: pass}", unk},
		{"not: {auth: dmarc, equals: pass}", unk}, // and so is its negation
		{"{auth: dmarc, equals: temperror}", yes},
		{"{auth: dmarc_domain, in: domains}", unk},
		{"{auth: dkim_domain, same_as: {header: From, part: domain}}", yes},
		{"{header: From, part: address, holds: {header: From, part: domain}}", yes},
		{"{header: From, part: domain, holds: {header: From, part: address}}", no},
		{"{header: From, part: address, holds: {header: Nothing}}", no},
		{"{header: From, part: domain, same_as: {auth: dmarc_domain}}", unk},
		// Message.
		{"{message: size, under: 2KiB}", yes},
		{"{message: size, over: 1MiB}", no},
		{"{message: parts, equals: 4}", yes},
		{"{message: defects, in: [no_date, no_from]}", yes},
		{"{message: defects, equals: bad_qp, which: first}", no},
		{"{message: defects, count: {over: 1}}", yes},
		// Time: 23:30 local, 21:30 UTC.
		{"{time: local, between: ['22:00', '06:00']}", yes}, // past midnight
		{"{time: utc, between: ['22:00', '06:00']}", no},
		{"{time: utc, between: ['21:00', '22:00']}", yes},
		{"{time: weekday, in: [sat, sun]}", yes},
		{"{time: weekday, equals: mon}", no},
		// Symbols of checks.
		{"{symbol: spf.pass}", yes},
		{"{symbol: spf.pass, exists: false}", no},
		{"{symbol: spf.fail}", no},
		{"{symbol: spf.fail, under: 1}", yes},
		{"{symbol: rate.from_domain, over: 50}", yes},
		{"{symbol: rate.from_domain, between: [1, 59]}", no},
		{"{symbol: spf.pass, part: score, under: -0.25}", yes},
		{"{symbol: dnsbl.zen}", unk},
		{"not: {symbol: dnsbl.zen}", unk},
		{"{symbol: dnsbl.some}", yes},                       // found already: more can't undo it
		{"{symbol: dnsbl.some, over: 1}", yes},              //
		{"{symbol: dnsbl.some, over: 2}", unk},              // more might come
		{"{symbol: dnsbl.some, under: 5}", unk},             // and might undo this
		{"{symbol: dnsbl.some, part: score, over: 1}", unk}, // scores go both ways
		// Combinators, by Kleene.
		{"all: [{symbol: spf.pass}, {symbol: dnsbl.zen}]", unk},
		{"all: [{symbol: dnsbl.zen}, {symbol: spf.fail}]", no},
		{"any: [{symbol: dnsbl.zen}, {symbol: spf.pass}]", yes},
		{"any: [{symbol: dnsbl.zen}, {symbol: spf.fail}]", unk},
		{"{at_least: 2, of: [{symbol: spf.pass}, {symbol: spf.fail}, {body: html, exists: true}]}", yes},
		{"{at_least: 2, of: [{symbol: spf.pass}, {symbol: spf.fail}, {symbol: dnsbl.zen}]}", unk},
		{"{at_least: 2, of: [{symbol: spf.fail}, {symbol: spf.fail}, {symbol: dnsbl.zen}]}", no},
		{"{at_least: 3, of: [{symbol: spf.pass}, {symbol: dnsbl.zen}, {symbol: dnsbl.zen}]}", unk},
		{"not: {any: [{symbol: spf.fail}, {symbol: dnsbl.zen}]}", unk},
		{"{is: free_reply}", yes},
		{"not: {is: free_reply}", no},
		{"{is: unknown_one}", unk},
		{"all: [{is: free_reply}, {is: free_reply}]", yes},
	}
	for _, tt := range tests {
		t.Run(tt.when, func(t *testing.T) {
			set := compile(t, lists+"rules:\n  - id: RULE\n    score: 1\n    when:\n      "+tt.when+"\n")
			res := set.Eval(t.Context(), subject())
			if got := truthOf(res); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestEvidence(t *testing.T) {
	tests := []struct {
		when, want string
		score      int32
	}{
		{"{header: Subject, matches: 'inv.ice'}", `header Subject "Invöice"`, 100},
		{"{any: [{symbol: spf.fail}, {header: To, part: domain, ends_with: .com}]}", `header To domain ".com"`, 100},
		{"{all: [{body: text, matches: 'verify'}, {uri: {host: {in: shorteners}}}]}", `body text "VERIFY"; uri host "bit.ly"`, 100},
		{"{all: [{symbol: spf.pass}, {not: {symbol: spf.fail}}]}", `symbol spf.pass "1"`, 100},
		{"{header: From, part: domain, in: weighted}", `header From domain "Corp.example" (a partner of old)`, -250}, // the entry's score stands in for the rule's
		{"{header: Nothing, exists: false}", `header Nothing`, 100},
		{"{uri: {}, count: 2}", `uri`, 100},
		{"{is: free_reply}", `header Reply-To domain "gmail.com"`, 100},
	}
	files := map[string]string{"dir/weighted.txt": "# partners\nother.example 3\n\ncorp.example -2.5 # a partner of old\n"}
	for _, tt := range tests {
		t.Run(tt.when, func(t *testing.T) {
			src := strings.Replace(lists, "lists:", "lists:\n  weighted: {file: weighted.txt}", 1) + "rules: [{id: RULE, score: 1, when: " + tt.when + "}]\n"
			set, err := rules.Load([]rules.Source{{Name: "dir/test.yaml", Src: []byte(src)}}, rules.Options{ReadFile: func(name string) ([]byte, error) {
				return []byte(files[name]), nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			res := set.Eval(t.Context(), subject())
			if len(res.Hits) != 1 {
				t.Fatalf("%d hits", len(res.Hits))
			}
			if d := cmp.Diff(tt.want, res.Hits[0].Detail); d != "" {
				t.Error(d)
			}
			if res.Hits[0].Score != tt.score {
				t.Errorf("score %d, want %d", res.Hits[0].Score, tt.score)
			}
			sameButDetail(t, res, set.EvalBrief(t.Context(), subject()))
		})
	}
}

// sameButDetail holds a brief evaluation against a whole one.
func sameButDetail(t *testing.T, whole, brief rules.Result) {
	t.Helper()
	want := rules.Result{Hits: slices.Clone(whole.Hits), Unknown: whole.Unknown, Err: whole.Err}
	for i := range want.Hits {
		want.Hits[i].Detail = ""
	}
	if !reflect.DeepEqual(want, brief) {
		t.Errorf("without details %+v, want %+v", brief, want)
	}
}

func TestRulesAskRules(t *testing.T) {
	set := compile(t, `
rules:
  - {id: LATE, score: 1, when: {all: [{symbol: EARLY}, {symbol: MIDDLE}]}}
  - {id: MIDDLE, score: 1, when: {symbol: EARLY}}
  - {id: EARLY, score: 1, when: {header: From, exists: true}}
  - {id: GONE, score: 1, mode: off, when: {header: From, exists: true}}
  - {id: TRIAL, score: 1, mode: shadow, when: {header: From, exists: true}}
  - {id: TRIAL2, score: 1, mode: shadow, when: {symbol: TRIAL}}
  - {id: BLIND, score: 1, when: {symbol: TRIAL}}
  - {id: BLIND2, score: 1, when: {symbol: TRIAL, exists: false}}
  - {id: AFTER_OFF, score: 1, when: {symbol: GONE}}
  - {id: OPEN, score: 1, when: {symbol: dnsbl.zen}}
  - {id: OPEN2, score: 1, when: {not: {symbol: OPEN}}}
`)
	res := set.Eval(t.Context(), subject())
	var hits, unknown []string
	for _, m := range res.Hits {
		hits = append(hits, m.Rule.ID)
	}
	for _, r := range res.Unknown {
		unknown = append(unknown, r.ID)
	}
	if d := cmp.Diff([]string{"LATE", "MIDDLE", "EARLY", "TRIAL", "TRIAL2", "BLIND2"}, hits); d != "" {
		t.Errorf("hits: %s", d)
	}
	if d := cmp.Diff([]string{"OPEN", "OPEN2"}, unknown); d != "" {
		t.Errorf("unknown: %s", d)
	}
	want := []string{
		"test.yaml:9:34: the rule TRIAL is in shadow mode, so its symbol is never found here: only shadow rules see it",
		"test.yaml:10:35: the rule TRIAL is in shadow mode, so its symbol is never found here: only shadow rules see it",
		"test.yaml:11:38: the rule GONE is off, so its symbol is never found",
	}
	var got []string
	for _, w := range set.Warnings() {
		got = append(got, w.Error())
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("warnings: %s", d)
	}
}

// A named condition that asks for a shadow rule's symbol says different things to shadow rules and to others.
func TestConditionAsksShadowRule(t *testing.T) {
	set := compile(t, `
conditions:
  on_trial: {symbol: TRIAL}
rules:
  - {id: TRIAL, score: 1, mode: shadow, when: {header: From, exists: true}}
  - {id: SEES, score: 1, mode: shadow, when: {is: on_trial}}
  - {id: BLIND, score: 1, when: {is: on_trial}}
`)
	var hits []string
	for _, m := range set.Eval(t.Context(), subject()).Hits {
		hits = append(hits, m.Rule.ID)
	}
	if d := cmp.Diff([]string{"TRIAL", "SEES"}, hits); d != "" {
		t.Error(d)
	}
}

// Names are looked for in the rule's own file first.
func TestNamesAcrossFiles(t *testing.T) {
	a := rules.Source{Name: "a.yaml", Src: []byte("lists: {l: [gmail.com]}\nconditions: {c: {header: Reply-To, part: domain, in: l}}\nrules: [{id: IN_A, score: 1, when: {is: c}}]")}
	b := rules.Source{Name: "b.yaml", Src: []byte("lists: {l: [nothing.example]}\nrules: [{id: IN_B, score: 1, when: {is: c}}, {id: OWN_LIST, score: 1, when: {header: Reply-To, part: domain, in: l}}]")}
	set, err := rules.Load([]rules.Source{b, a}, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var hits []string
	for _, m := range set.Eval(t.Context(), subject()).Hits {
		hits = append(hits, m.Rule.ID)
	}
	// The condition's list is the one of the file in which the condition stands, also when another file's rule asks.
	if d := cmp.Diff([]string{"IN_B", "IN_A"}, hits); d != "" {
		t.Error(d)
	}
}

func TestNothingIsAskedTwiceOrInVain(t *testing.T) {
	set := compile(t, lists+`
rules:
  - {id: FALSE_FIRST, score: 1, when: {all: [{body: html, contains: x}, {body: raw, contains: x}, {envelope: helo, equals: nobody}]}}
  - {id: TRUE_FIRST, score: 1, when: {any: [{body: html, contains: x}, {attachment: {inside: {contains: x}}}, {envelope: helo, contains: helo}]}}
  - {id: TWICE, score: 1, when: {all: [{header: Subject, contains: no}, {header: Subject, matches: 'no'}, {header: Subject, view: folded, contains: no}]}}
  - {id: NAMED, score: 1, when: {all: [{is: free_reply}, {is: free_reply}]}}
`)
	s := subject()
	set.Eval(t.Context(), s)
	want := map[string]int{"envelope helo": 1, "header Subject decoded": 1, "header Reply-To domain": 1}
	if d := cmp.Diff(want, s.Asked); d != "" {
		t.Error(d)
	}
}

func TestRefusals(t *testing.T) {
	set := compile(t, `
rules:
  - {id: LATER, action: reject, when: {header: From, exists: true}}
  - {id: LISTED, action: reject, refuse: true, reply: Your host is listed, when: {all: [{envelope: ip, in_net: 192.0.2.0/24}, {not: {auth: spf, equals: fail}}]}}
  - {id: RATED, action: defer, refuse: true, when: {symbol: rate.from_domain, over: 50}}
  - {id: IDLE, action: reject, refuse: true, mode: off, when: {symbol: rate.from_domain, over: 50}}
`)
	var ids []string
	for _, r := range set.Refusals() {
		ids = append(ids, r.ID)
	}
	if d := cmp.Diff([]string{"LISTED", "RATED"}, ids); d != "" {
		t.Error(d)
	}
	s := subject()
	res := set.EvalRefusals(t.Context(), s)
	ids = nil
	for _, m := range res.Hits {
		ids = append(ids, m.Rule.ID+" "+m.Rule.Action+" "+m.Rule.Reply)
	}
	if d := cmp.Diff([]string{"LISTED reject Your host is listed", "RATED defer "}, ids); d != "" {
		t.Error(d)
	}
	if s.Asked["header From decoded"] != 0 {
		t.Error("the rule that does not refuse was asked")
	}
	if d := cmp.Diff([]string{"rate.from_domain"}, set.NeedsSymbols()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"spf"}, set.NeedsAuth()); d != "" {
		t.Error(d)
	}
}

func TestEndedContextIsUnknown(t *testing.T) {
	set := compile(t, "rules: [{id: RULE, score: 1, when: {header: From, exists: true}}]")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	res := set.Eval(ctx, subject())
	if len(res.Hits) != 0 || len(res.Unknown) != 1 || res.Err == nil {
		t.Errorf("got %+v, want one unknown rule and the context's error", res)
	}
}

func TestRunTests(t *testing.T) {
	files := map[string]string{"rules/mail.eml": "From: a@gmail.com\n\nbody"}
	read := func(name string) ([]byte, error) {
		if src, ok := files[name]; ok {
			return []byte(src), nil
		}
		return nil, fmt.Errorf("open %s: no such file", name)
	}
	set, err := rules.Load([]rules.Source{{Name: "rules/local.yaml", Src: []byte(`
rules:
  - id: FREE
    score: 1
    when:
      all:
        - {header: From, part: domain, in: [gmail.com]}
        - not: {auth: dmarc, equals: pass}
        - not: {symbol: OTHER}
    tests:
      - hit: |
          From: a@gmail.com

      - miss: |
          From: a@corp.example

      - hit: {file: mail.eml}
      - miss: {file: mail.eml, auth: {dmarc: pass}}
      - miss: {file: mail.eml, symbols: [OTHER]}
      - miss: {file: mail.eml}
      - hit: "From: b@corp.example"
      - hit: {file: mail.eml, auth: {dmarc: temperror}}
      - hit: {file: gone.eml}
  - id: OTHER
    score: 1
    when: {all: [{symbol: rate.client, over: 5}, {envelope: rcpt, which: every, in: [a@b]}, {time: utc, between: ['22:00', '23:00']}]}
    tests:
      - hit: {symbols: {rate.client: 6}, rcpt: a@b, time: '2024-05-17T23:30:00+01:00', ip: 192.0.2.1, helo: h, rdns: r, from: x@y}
      - hit: {symbols: {rate.client: 5}, rcpt: [a@b], time: '2024-05-17T23:30:00+01:00'}
      - hit: {symbols: {rate.client: 6}, rcpt: [a@b, c@d], time: '2024-05-17T23:30:00+01:00'}
`)}}, rules.Options{ReadFile: read})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range set.RunTests(t.Context(), rulestest.Build) {
		got = append(got, f.Error())
	}
	want := []string{
		`rules/local.yaml:20:9: rule FREE: test expected miss, got hit: header From domain in its list [saw "gmail.com"] was true (line 7)`,
		`rules/local.yaml:21:9: rule FREE: test expected hit, got miss: header From domain in its list [saw "corp.example"] was false (line 7)`,
		`rules/local.yaml:22:9: rule FREE: test expected hit, got unknown: auth dmarc equals "pass" [saw "temperror"] was unknown (line 8)`,
		`rules/local.yaml:23:9: rule FREE: test expected hit, got error: the mail of the test cannot be read: open rules/gone.eml: no such file`,
		`rules/local.yaml:29:9: rule OTHER: test expected hit, got miss: symbol rate.client over 5 [saw "5"] was false (line 26)`,
		`rules/local.yaml:30:9: rule OTHER: test expected hit, got miss: envelope rcpt every in its list [saw "a@b", "c@d"] was false (line 26)`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	c := set.Tests()[0]
	if string(c.Mail) != "From: a@gmail.com\r\n" {
		t.Errorf("mail %q: expected CRLF line ends", c.Mail)
	}
}
