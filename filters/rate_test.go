package filters

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/filters/dns"
	"postern/filters/message"
	"postern/filters/store"
	"postern/rules"
)

// rateNow is within the first half of its hour.
var rateNow = time.Date(2026, time.May, 4, 10, 15, 0, 0, time.UTC)

// The window slides: of the hour before, that part counts which still overlaps.
func TestRateWindowSlides(t *testing.T) {
	r := newClientRate(RateConfig{Client: time.Hour})
	now := rateNow
	r.CountIn(store.NewMemory(store.Options{Now: func() time.Time { return now }}))
	count := func(ip string) int {
		t.Helper()
		report := r.Run(t.Context(), Input{Client: &Client{IP: netip.MustParseAddr(ip)}, Now: now})
		if report.Err != nil || len(report.Findings) != 1 || report.Findings[0].Symbol != "rate.client" {
			t.Fatalf("%+v", report)
		}
		return report.Findings[0].Count
	}
	for i := range 40 {
		if n := count("192.0.2.7"); n != i+1 {
			t.Fatalf("message %d: %d", i+1, n)
		}
	}
	if n := count("192.0.2.8"); n != 1 {
		t.Errorf("another client: %d", n)
	}
	now = rateNow.Add(time.Hour) // a quarter of its hour is over, three quarters of the last one overlap
	if n := count("192.0.2.7"); n != 1+30 {
		t.Errorf("an hour later: %d, want 31", n)
	}
	now = rateNow.Add(3 * time.Hour)
	if n := count("192.0.2.7"); n != 1 {
		t.Errorf("long after: %d", n)
	}
	count("2001:db8::1")
	if n := count("2001:db8::ffff:2"); n != 2 {
		t.Errorf("the same /64: %d", n)
	}
	if n := count("2001:db8:0:1::1"); n != 1 {
		t.Errorf("another /64: %d", n)
	}
}

// Without a store, and for a client without an address, nothing is counted.
func TestRateOfNobody(t *testing.T) {
	r := newClientRate(defaultRateConfig())
	if report := r.Run(t.Context(), Input{Client: &Client{IP: netip.MustParseAddr("192.0.2.7")}, Now: rateNow}); len(report.Findings) > 0 || report.Err != nil {
		t.Errorf("without a store: %+v", report)
	}
	r.CountIn(store.NewMemory(store.Options{}))
	if report := r.Run(t.Context(), Input{Client: &Client{}, Now: rateNow}); len(report.Findings) > 0 || report.Err != nil {
		t.Errorf("without an address: %+v", report)
	}
}

// A domain is charged only with what it can be held to account for.
func TestRateOfDomain(t *testing.T) {
	tests := []struct {
		why, from, mailFrom string
		want                int    // at the third message; 0: not counted
		signer              string // whose key signed the message as example.com; none: it is not signed
	}{
		{why: "SPF passed for the organizational domain", from: "a@news.corp.example", mailFrom: "bounce@mail.corp.example", want: 3},
		{why: "SPF passed for another domain", from: "a@other.example", mailFrom: "bounce@mail.corp.example"},
		{why: "SPF failed", from: "a@fails.example", mailFrom: "bounce@fails.example"},
		{why: "no From", mailFrom: "bounce@mail.corp.example"},
		{why: "DKIM passed for the organizational domain", from: "a@news.example.com", mailFrom: "bounce@fails.example", signer: "owner", want: 3},
		{why: "DKIM passed for the organizational domain, and the reverse-path is null", from: "a@example.com", mailFrom: "<>", signer: "owner", want: 3},
		{why: "DKIM passed for another domain", from: "a@fails.example", mailFrom: "bounce@fails.example", signer: "owner"},
		{why: "DKIM failed", from: "a@example.com", mailFrom: "bounce@fails.example", signer: "stranger"},
		{why: "DKIM failed, and SPF passed for another domain", from: "a@example.com", mailFrom: "bounce@mail.corp.example", signer: "stranger"},
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{"owner": testKeys()["ed25519"], "stranger": stranger}
	zone := &fakeDNS{txt: map[string][]string{
		"s1._domainkey.example.com": {keyRecord(t, keys["owner"], "")},
		"mail.corp.example":         {"v=spf1 ip4:192.0.2.7 -all"},
		"fails.example":             {"v=spf1 -all"},
	}}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			set, err := rules.Load([]rules.Source{{Name: "r.yaml", Src: []byte(
				"rules: [{id: BURST, score: 1, when: {symbol: rate.from_domain, over: 2}}]")}}, rules.Options{})
			if err != nil {
				t.Fatal(err)
			}
			p, err := Build(DefaultConfig(), zone, set, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			p.CountIn(store.NewMemory(store.Options{}))
			mailFrom, err := ParsePath(tt.mailFrom)
			if err != nil {
				t.Fatal(err)
			}
			src := "Subject: x\r\n\r\ntext\r\n"
			if tt.from != "" {
				src = "From: " + tt.from + "\r\n" + src
			}
			if tt.signer != "" {
				src = signAs(t, src, "v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.com; s=s1; h=from;", keys[tt.signer])
			}
			n, burst := 0, false
			for range 3 {
				run := p.Start(t.Context(), &Client{IP: netip.MustParseAddr("192.0.2.7")}, func() time.Time { return rateNow })
				run.Helo(&Helo{Name: "mail.corp.example"})
				run.Mail(&Mail{From: mailFrom})
				msg, err := message.Read(strings.NewReader(src), int64(len(src)))
				if err != nil {
					t.Fatal(err)
				}
				run.Message(nil, msg)
				n, burst = 0, false
				for _, f := range run.Collect(t.Context()).Findings {
					switch f.Symbol {
					case "rate.from_domain":
						n = f.Count
					case "BURST":
						burst = true
					case "rate.client":
						t.Error("counted though no rule asks for it")
					}
				}
				run.Close()
			}
			if n != tt.want || burst != (tt.want == 3) {
				t.Errorf("%d, and the rule hit: %v; want %d", n, burst, tt.want)
			}
		})
	}
}

// A look-up that fails is not a sender without authentication: the count is unknown then.
func TestRateOfDomainUnknown(t *testing.T) {
	r := newFromRate(defaultRateConfig())
	r.CountIn(store.NewMemory(store.Options{}))
	broken := fakeCheck{SPFKey.Check, PerMail, nil, func(context.Context, Input) Report { return Report{Err: dns.ErrClosed} }}
	p, err := NewPipeline([]Stage{
		{Check: broken, Limit: time.Minute},
		{Check: fakeCheck{DKIMKey.Check, PerMessage, nil, found("x")}, Limit: time.Minute, Off: true},
		{Check: r, Limit: time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	run := p.Start(t.Context(), &Client{IP: netip.MustParseAddr("192.0.2.7")}, func() time.Time { return rateNow })
	defer run.Close()
	run.Mail(&Mail{})
	src := "From: a@corp.example\r\n\r\n"
	msg, err := message.Read(strings.NewReader(src), int64(len(src)))
	if err != nil {
		t.Fatal(err)
	}
	run.Message(nil, msg)
	if report, ok := run.Wait(t.Context(), "rate.from_domain"); !ok || report.Err == nil || len(report.Findings) > 0 {
		t.Errorf("%+v %v", report, ok)
	}
}
