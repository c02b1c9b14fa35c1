package filters

import (
	"context"
	"strings"
	"testing"
	"time"

	"postern/rules"
	"postern/rules/packs"
)

// TestPacks: every pack that ships compiles with the default checks, and its own tests pass when its mails are read as
// real ones are.
func TestPacks(t *testing.T) {
	names := packs.Names()
	if len(names) == 0 {
		t.Fatal("no packs")
	}
	for _, name := range names {
		set, err := LoadRules(ContentConfig{Packs: []string{name}}, RuleOptions{
			Path:       func(p string) string { return p },
			Symbols:    Symbols(DefaultConfig()),
			Thresholds: Thresholds{Tag: 500, Quarantine: 800, Reject: 1200},
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(set.Tests()) < 2*len(set.Rules()) {
			t.Errorf("%s: %d rules have only %d tests", name, len(set.Rules()), len(set.Tests()))
		}
		if err := NewRuleTester(DefaultConfig(), time.Now()).Test(context.Background(), set); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range set.Warnings() {
			t.Errorf("%s: %v", name, w)
		}
	}
}

// Mail that people want must stay far below the threshold at which it is tagged.
func TestOrdinaryMailIsLeftAlone(t *testing.T) {
	set, err := LoadRules(ContentConfig{Packs: []string{packs.Default}}, RuleOptions{
		Path:       func(p string) string { return p },
		Symbols:    Symbols(DefaultConfig()),
		Thresholds: Thresholds{Tag: 500, Quarantine: 800, Reject: 1200},
	})
	if err != nil {
		t.Fatal(err)
	}
	build := NewRuleTester(DefaultConfig(), time.Now()).Build(t.Context())
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
			read, err := build(rules.Case{Mail: []byte(strings.ReplaceAll(tt.mail, "\n", "\r\n"))})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range set.Eval(t.Context(), read).Hits {
				sum += m.Score
				hits = append(hits, m.Rule.ID+" "+m.Detail)
			}
			if sum >= 300 {
				t.Errorf("score %s: %s", rules.FormatScore(sum), strings.Join(hits, "\n"))
			}
		})
	}
}
