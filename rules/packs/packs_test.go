package packs_test

import (
	"strings"
	"testing"

	"postern/rules"
	"postern/rules/packs"
	"postern/rules/rulestest"
	"postern/rules/strict"
)

// load compiles a pack as the proxy does, without any check's symbols: a pack must work whatever checks are configured.
func load(t testing.TB, name string) *rules.Set {
	t.Helper()
	sources, err := packs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load(sources, rules.Options{
		KnownSymbol: func(string) bool { return false },
		Thresholds:  rules.Thresholds{Tag: 500, Quarantine: 800, Reject: 1200},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestPacksPassTheirOwnTests(t *testing.T) {
	for _, name := range packs.Names() {
		t.Run(name, func(t *testing.T) {
			set := load(t, name)
			for _, w := range set.Warnings() {
				t.Errorf("warning: %v", w)
			}
			for _, f := range set.RunTests(t.Context(), rulestest.Build) {
				t.Error(f)
			}
		})
	}
}

// Each rule that ships says what it is for, and shows what it hits and what it spares.
func TestRulesAreDocumentedAndTested(t *testing.T) {
	for _, name := range packs.Names() {
		for _, r := range load(t, name).Rules() {
			if !strings.HasSuffix(r.Description, ".") {
				t.Errorf("%s: rule %s: the description is no sentence", r.Pos, r.ID)
			}
			has := map[rules.Want]bool{}
			for _, test := range r.Tests {
				has[test.Want] = true
			}
			if !has[rules.Hit] || !has[rules.Miss] {
				t.Errorf("%s: rule %s: expected a test that hits and one that misses", r.Pos, r.ID)
			}
			if r.Score > 450 {
				t.Errorf("%s: rule %s: score %s alone would tag a message", r.Pos, r.ID, rules.FormatScore(r.Score))
			}
		}
	}
}

// The default pack is what the subjects are together, each rule once.
func TestDefaultIsAllSubjects(t *testing.T) {
	sum := 0
	for _, name := range packs.Subjects() {
		sum += len(load(t, name).Rules())
	}
	if got := len(load(t, packs.Default).Rules()); got != sum || sum == 0 {
		t.Errorf("%d rules in the default pack, expected those of all subjects, %d", got, sum)
	}
}

func TestOpenUnknown(t *testing.T) {
	_, err := packs.Open("defualt")
	if err == nil || !strings.Contains(err.Error(), "default") {
		t.Errorf("got %v, expected an error that names the packs there are", err)
	}
}

func TestPositionsNameThePack(t *testing.T) {
	sources, err := packs.Open("phishing")
	if err != nil {
		t.Fatal(err)
	}
	last := sources[len(sources)-1]
	_, err = rules.Parse(last.Name, append(last.Src, "\n  - id: bad\n"...))
	var problems strict.Problems
	if p, ok := err.(strict.Problems); ok {
		problems = p
	}
	if len(problems) == 0 || problems[0].Pos.File != "packs/phishing.yaml" {
		t.Errorf("got %v, expected a problem in packs/phishing.yaml", err)
	}
}

// Mail that people want must stay far below the threshold at which it is tagged.
func TestOrdinaryMailIsLeftAlone(t *testing.T) {
	set := load(t, "default")
	tests := []struct{ name, mail string }{
		{"newsletter", `From: "Shop" <news@shop.example>
To: alice@example.org
Subject: Only this week: 20% off everything!
Date: Fri, 17 May 2024 12:00:00 +0200
Message-ID: <1@shop.example>
List-Unsubscribe: <https://click.esp.example/u/1>
Content-Type: text/html

<div style="display:none">Our best prices of the year are here, order now and get free shipping.</div>
<p>Special offer: get 20% off. <a href="https://click.esp.example/1">www.shop.example</a></p>
<p>Update your account details or <a href="https://click.esp.example/u">unsubscribe</a>. Limited time only.</p>
`},
		{"password reset", `From: "Service" <no-reply@service.example>
To: alice@example.org
Subject: Reset your password
Date: Fri, 17 May 2024 12:00:00 +0200
Message-ID: <1@service.example>
Content-Type: text/html

<p>Please confirm your e-mail address within 24 hours. <a href="https://service.example/r/1">Reset</a></p>
<p>If you did not ask for this, your account may be compromised.</p>
`},
		{"mailing list", `From: "Bob via Gardeners" <gardeners@lists.example>
Reply-To: bob@gmail.com
To: gardeners@lists.example
Subject: [gardeners] URGENT: PRICES OF APPLE TREES
Date: Fri, 17 May 2024 12:00:00 +0200
Message-ID: <1@lists.example>
List-Id: <gardeners.lists.example>
List-Post: <mailto:gardeners@lists.example>

They want $1,200.00 for it! See https://bit.ly/x
_______________________________________________
http://lists.example/mailman/listinfo/gardeners
`},
		{"a program of 2008", `From: "Bob Smith" <bob@example.org>
To: Alice <alice@company.com>
Cc: Fred@example.com
Date: Thurs., 6 Nov. 2008 08:15:43
Subject: meeting

Hello Mary.
Can we meet at noon?
`},
		{"bank", `From: "Bank" <service@bank.example>
To: alice@example.org
Subject: Your statement for May
Date: Fri, 17 May 2024 12:00:00 +0200
Message-ID: <1@bank.example>

Dear Ms Doe, a transfer of 12,000.00 EUR has been received. Keep your password secret: we will never ask you
to confirm your account by e-mail. Your bank manager
`},
		{"parcel", `From: "DHL Paket" <noreply@dhl.de>
To: alice@example.org
Subject: Your parcel arrives tomorrow
Date: Fri, 17 May 2024 12:00:00 +0200
Message-ID: <1@dhl.de>

Your package is on its way. If it could not be delivered, choose another day within 7 days.
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sum := int32(0)
			var hits []string
			for _, m := range set.Eval(t.Context(), rulestest.New([]byte(tt.mail))).Hits {
				sum += m.Score
				hits = append(hits, m.Rule.ID+" "+m.Detail)
			}
			if sum >= 300 {
				t.Errorf("score %s: %s", rules.FormatScore(sum), strings.Join(hits, "\n"))
			}
		})
	}
}
