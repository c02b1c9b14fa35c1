package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/rules"
	"postern/rules/rulestest"
)

const brandFile = `
brands:
  PayPal: {names: [PayPal], domains: [paypal.com, paypal.de]}
  PayPay: {domains: [paypay.ne.jp]}
  Microsoft: {names: [Microsoft, Office 365], domains: [microsoft.com]}
  Chase: {names: [Chase Bank], labels: [chase], domains: [chase.com]}
  Crédit Agricole: {domains: [credit-agricole.fr]}
  支付宝: {domains: [alipay.com]}
  DHL: {domains: [dhl.com, dhl.de]}
`

// brandsOf reports whether a condition on the brands of brandFile holds for a message.
func brandsOf(t *testing.T, condition, mail string) bool {
	t.Helper()
	set, err := rules.Load([]rules.Source{{Name: "b.yaml", Src: []byte(brandFile + "rules: [{id: RULE, score: 1, when: " + condition + "}]")}}, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return len(set.Eval(t.Context(), rulestest.New([]byte(mail))).Hits) > 0
}

func TestBrandsInAddresses(t *testing.T) {
	tests := []struct {
		why, from, part, want string // want: "brand how", or empty for none
	}{
		{"a name", `"PayPal Service" <x@evil.example>`, "name", "paypal word"},
		{"its owner", `"PayPal Service" <x@mail.paypal.com>`, "name", ""},
		{"a domain that only ends in the same letters", `"PayPal" <x@notpaypal.com>`, "name", "paypal word"},
		{"one and capital i for l", `"PayPa1" <x@evil.example>`, "name", "paypal letters"},
		{"Cyrillic letters", `=?utf-8?q?P=D0=B0yP=D0=B0l?= <x@evil.example>`, "name", "paypal letters"},
		{"points between", `"P.a.y.P.a.l" <x@evil.example>`, "name", "paypal split"},
		{"two words for one", `"Pay Pal" <x@evil.example>`, "name", "paypal split"},
		{"inside a word", `"MyPayPalService" <x@evil.example>`, "name", "paypal inside"},
		{"rn for m", `"rnicrosoft" <x@evil.example>`, "name", "microsoft letters"},
		{"a name of two words", `"Office 365 Team" <x@evil.example>`, "name", "microsoft word"},
		{"the same as one word", `"Office365" <x@evil.example>`, "name", "microsoft word"},
		{"a person's name that is a label only", `"Mary Chase" <x@evil.example>`, "name", ""},
		{"a short name is no piece of a word", `"Ladhla" <x@evil.example>`, "name", ""},
		{"a short name is not spelled over words", `"D H.L" <x@evil.example>`, "name", "dhl split"},
		{"nor by the ends of words", `"Bad HL" <x@evil.example>`, "name", ""},
		{"without its accents", `"Credit Agricole" <x@evil.example>`, "name", "crédit agricole word"},
		{"a script without spaces", `=?utf-8?b?5oKo55qE5pSv5LuY5a6d6LSm5oi3?= <x@evil.example>`, "name", "支付宝 word"},
		{"nothing", `"Mary Smith" <x@evil.example>`, "name", ""},

		{"the brand's own", "x@paypal.com", "domain", ""},
		{"below it", "x@service.paypal.de", "domain", ""},
		{"another brand's own, one edit away", "x@paypay.ne.jp", "domain", ""},
		{"under another suffix", "x@paypal.top", "domain", "paypal suffix"},
		{"as a label of another's", "x@paypal.com.evil.example", "domain", "paypal label"},
		{"with a word beside it", "x@paypal-secure.example", "domain", "paypal inside"},
		{"in one word", "x@securepaypallogin.example", "domain", "paypal inside"},
		{"a digit for a letter", "x@paypa1.com", "domain", "paypal letters"},
		{"letters of another alphabet", "x@xn--pypl-53dc.com", "domain", "paypal letters"},
		{"a hyphen within", "x@pay-pal.com", "domain", "paypal split"},
		{"a letter too many", "x@paypall.com", "domain", "paypal edit"},
		{"a letter missing", "x@microsft.com", "domain", "microsoft edit"},
		{"another letter", "x@micrasoft.com", "domain", "microsoft edit"},
		{"two letters changed places", "x@mircosoft.com", "domain", "microsoft edit"},
		{"a brand and a number", "x@dhl24.example", "domain", "dhl inside"},
		{"a label that is in other words", "x@purchase.example", "domain", ""},
		{"a label by itself", "x@chase.evil.example", "domain", "chase label"},
		{"a label with a hyphen beside it", "x@chase-secure.example", "domain", "chase inside"},
		{"a label within a word", "x@mychaseonline.example", "domain", ""},
		{"a short name within a word, by letters that look alike", "x@xpaypa1x.example", "domain", ""},
		{"a long one", "x@xmlcros0ftx.example", "domain", "microsoft letters"},
		{"one edit away, below another's domain", "x@micrasoft.evil.example", "domain", ""},
		{"nothing like it", "x@pineapple.example", "domain", ""},
	}
	for _, tt := range tests {
		t.Run(tt.part+" "+tt.why, func(t *testing.T) {
			mail := "From: " + tt.from + "\n\nx"
			brand, how, _ := cutLast(tt.want)
			ask := "{header: From, part: " + tt.part + "_brand"
			if tt.want == "" {
				if brandsOf(t, ask+", exists: true}", mail) {
					t.Fatal("it names a brand")
				}
				return
			}
			if !brandsOf(t, "{all: ["+ask+", which: every, equals: "+brand+"}, "+ask+"_by, which: every, equals: "+how+"}]}", mail) {
				t.Errorf("it does not name %s alone, by %s alone", brand, how)
			}
		})
	}
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// Files add to each other's brands, and a site's own file to those of a pack.
func TestBrandsAreJoined(t *testing.T) {
	load := func(local string) *rules.Set {
		set, err := rules.Load([]rules.Source{
			{Name: "pack.yaml", Src: []byte("brands: {PayPal: {names: [PayPal, Pay Pal Inc], domains: [paypal.com]}}\nrules: [{id: CLAIM, score: 1, when: {header: From, part: name_brand, exists: true}}]")},
			{Name: "local.yaml", Src: []byte(local)},
		}, rules.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	mail := []byte("From: PayPal <x@paypal.example>\n\nx")
	if got := len(load("rules: []").Eval(t.Context(), rulestest.New(mail)).Hits); got != 1 {
		t.Errorf("%d hits by the pack alone", got)
	}
	if got := len(load("brands: {paypal: {domains: [paypal.example]}}").Eval(t.Context(), rulestest.New(mail)).Hits); got != 0 {
		t.Errorf("%d hits where the domain was added", got)
	}
}

func TestBadBrands(t *testing.T) {
	for src, want := range map[string]string{
		"brands: {PayPal: [paypal.com]}":                     "b.yaml:1:18: expected a brand like {names: [PayPal], domains: [paypal.com]}, got a list",
		"brands: {PayPal: {}}":                               "b.yaml:1:18: a brand without names and domains, expected {domains: [...]}",
		"brands: {PayPal: {names: [xy]}}":                    `b.yaml:1:27: the brand name "xy", expected one of 3 to 60 letters`,
		"brands: {PayPal: {domains: ['*.paypal.com']}}":      `b.yaml:1:29: expected a domain such as paypal.com, which stands for all below it too, got "*.paypal.com"`,
		"brands: {PayPal: {domains: [paypal]}}":              `b.yaml:1:29: expected a domain such as paypal.com, which stands for all below it too, got "paypal"`,
		"brands: {PayPal: {domain: [paypal.com]}}":           `b.yaml:1:19: unknown key "domain", did you mean "domains"? (known: domains, labels, names)`,
		"brands: {HP: {domains: [hp.com]}}":                  `b.yaml:1:14: the brand name "HP", expected one of 3 to 60 letters`,
		"brands: {HP: {names: [HP Inc], domains: [hp.com]}}": "",
	} {
		_, err := rules.Parse("b.yaml", []byte(src))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s:\n%s", src, d)
		}
	}
}

// A rule that asks for brands where nothing names any is a mistake that check tells.
func TestNoBrandsIsWarnedAbout(t *testing.T) {
	set, err := rules.Load([]rules.Source{{Name: "b.yaml", Src: []byte("rules: [{id: RULE, score: 1, when: {uri: {brand: {exists: true}}}}]")}}, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Warnings(); len(got) != 1 || !strings.Contains(got[0].Error(), "no file has brands") {
		t.Errorf("warnings: %v", got)
	}
}

// Whatever is in the message, brands are found without a panic, and each once.
func FuzzBrands(f *testing.F) {
	f.Add("PayPa1 Service", "paypal.com.evil.example", "Office 365")
	f.Add("P.a.y", "xn--pypl-53dc.com", "rnvvrnvv")
	f.Add("\u200b\ufeff支付宝\xff", "paypall.top", strings.Repeat("paypal", 50))
	set, err := rules.Load([]rules.Source{{Name: "b.yaml", Src: []byte(brandFile + `
rules:
  - {id: NAMED, score: 1, when: {any: [{header: From, part: name_brand, exists: true}, {header: From, part: domain_brand_by, equals: edit}]}}
  - {id: TEXT, score: 1, when: {brand: text, exists: true}}
  - {id: TOO_MANY, score: 1, when: {any: [{brand: text, count: {over: 7}}, {header: From, part: name_brand, count: {over: 7}}]}}
  - {id: LINK, score: 1, when: {uri: {brand: {exists: true}}}}
`)}}, rules.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, host, text string) {
		s := rulestest.New(nil)
		s.Fields = []rulestest.Field{{Name: "From", Value: name + " <x@" + host + ">"}}
		s.Bodies["text"] = text
		s.LinkItems = []rules.Item{rulestest.Item{"host": {host}, "org_domain": {host}, "shown": {text}}}
		for _, hit := range set.Eval(t.Context(), s).Hits {
			if hit.Rule.ID == "TOO_MANY" {
				t.Error("more brands than there are")
			}
		}
	})
}

// The cost of brands goes with the text, however many there are.
func BenchmarkBrands(b *testing.B) {
	for _, brands := range []int{10, 1000} {
		var src strings.Builder
		src.WriteString("brands:\n")
		for i := range brands {
			name := "brand" + strings.Map(func(r rune) rune { return 'a' + (r-'0')*2 }, fmt.Sprintf("%04d", i))
			fmt.Fprintf(&src, "  %s: {domains: [%s.com]}\n", name, name)
		}
		src.WriteString("rules: [{id: RULE, score: 1, when: {any: [{brand: text, exists: true}, {uri: {brand: {exists: true}}}, {header: From, part: domain_brand, exists: true}]}}]")
		set, err := rules.Load([]rules.Source{{Name: "b.yaml", Src: []byte(src.String())}}, rules.Options{})
		if err != nil {
			b.Fatal(err)
		}
		text := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 90)
		for _, host := range []string{"www.some-host.example"} {
			b.Run(fmt.Sprintf("%d brands", brands), func(b *testing.B) {
				for b.Loop() {
					s := &rulestest.Subject{Bodies: map[string]string{"text": text}, Asked: map[string]int{}, Fields: []rulestest.Field{{Name: "From", Value: "x@" + host}}}
					s.LinkItems = []rules.Item{rulestest.Item{"host": {host}, "org_domain": {"some-host.example"}}}
					set.Eval(b.Context(), s)
				}
			})
		}
	}
}
