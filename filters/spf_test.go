package filters

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/filters/dns"
)

func TestCheckSPF(t *testing.T) {
	zone := &fakeDNS{
		txt: map[string][]string{
			"example.com":       {"v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all exp=why.example.com"},
			"why.example.com":   {"%{i} is not a server of %{d}\x07\xff"},
			"mail.example.com":  {"v=spf1 a -all"},
			"odd.example.com":   {"v=spf1 exists:%{l}.users.example.com -all"},
			"slow.example.com":  {"v=spf1 a:down.example.com -all"},
			"bad.example.com":   {"v=spf1 ip4:192.0.2.0/24 foo"},
			"inc.example.com":   {"v=spf1 include:bad.example.com -all"},
			"mapped.example":    {"v=spf1 ip6:::ffff:192.0.2.7 -all"},
			"plain.example":     {"v=spf1 -all exp=plain-why.example"},
			"plain-why.example": {"See http://plain.example/why?s=%{S}&i=%{C}&r=%{R}&t=%{T}"},
		},
		a:    map[string][]string{"mail.example.com": {"192.0.2.9"}, "b/c+d.users.example.com": {"127.0.0.2"}},
		fail: map[string]bool{"down.example.com": true, "_down.example.com": true, "dead.example.com": true},
	}
	tests := []struct {
		reason, ip, from, helo             string
		result, identity, domain, explains string
	}{
		{reason: "network", ip: "192.0.2.7", from: "a@example.com", result: "pass", identity: "mailfrom", domain: "example.com"},
		{reason: "IPv6 network", ip: "2001:db8::7", from: "a@EXAMPLE.com", result: "pass", identity: "mailfrom", domain: "example.com"},
		{reason: "an explanation with octets that are not printable is none", ip: "198.51.100.1", from: "a@example.com", result: "fail", identity: "mailfrom", domain: "example.com"},
		{reason: "an explanation with macros", ip: "198.51.100.1", from: "a b@plain.example", result: "fail", identity: "mailfrom", domain: "plain.example",
			explains: "See http://plain.example/why?s=a%20b%40plain.example&i=198.51.100.1&r=mx.postern.example&t=2000000000"},
		{reason: "null reverse-path: HELO", ip: "192.0.2.9", helo: "mail.example.com", result: "pass", identity: "helo", domain: "mail.example.com"},
		{reason: "null reverse-path, HELO forged", ip: "192.0.2.10", helo: "mail.example.com", result: "fail", identity: "helo", domain: "mail.example.com"},
		{reason: "null reverse-path, HELO no name", ip: "192.0.2.10", helo: "[192.0.2.10]", result: "none", identity: "helo"},
		{reason: "HELO is not asked where there is a reverse-path", ip: "192.0.2.9", helo: "mail.example.com", from: "a@nothing.example", result: "none", identity: "mailfrom", domain: "nothing.example"},
		{reason: "local part with octets that macros must not misread", ip: "192.0.2.7", from: "b/c+d@odd.example.com", result: "pass", identity: "mailfrom", domain: "odd.example.com"},
		{reason: "local part with an at sign", ip: "192.0.2.7", from: "x@y@odd.example.com", result: "fail", identity: "mailfrom", domain: "odd.example.com"},
		{reason: "DNS down for the record", ip: "192.0.2.7", from: "a@dead.example.com", result: "temperror", identity: "mailfrom", domain: "dead.example.com"},
		{reason: "DNS down for a mechanism", ip: "192.0.2.7", from: "a@slow.example.com", result: "temperror", identity: "mailfrom", domain: "slow.example.com"},
		{reason: "an error behind the match", ip: "192.0.2.7", from: "a@bad.example.com", result: "permerror", identity: "mailfrom", domain: "bad.example.com"},
		{reason: "an error in an included record", ip: "192.0.2.7", from: "a@inc.example.com", result: "permerror", identity: "mailfrom", domain: "inc.example.com"},
		{reason: "an IPv4-mapped network is not for IPv4 clients", ip: "192.0.2.7", from: "a@mapped.example", result: "fail", identity: "mailfrom", domain: "mapped.example"},
		{reason: "NUL in the domain", ip: "192.0.2.7", from: "a@example.com\x00.evil.example", result: "none", identity: "mailfrom"},
		{reason: "a stand-in of ours as a domain", ip: "192.0.2.7", from: "a@\x010", result: "none", identity: "mailfrom"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			in := SPFInput{IP: netip.MustParseAddr(tt.ip), Helo: tt.helo, Receiver: "mx.postern.example", Now: time.Unix(2_000_000_000, 0)}
			if at := strings.LastIndexByte(tt.from, '@'); at >= 0 {
				in.MailFrom = Path{Local: tt.from[:at], Domain: tt.from[at+1:]}
			}
			res, err := CheckSPF(context.Background(), zone, in)
			if res.Result != tt.result || res.Identity != tt.identity || res.Domain != tt.domain || res.Explanation != tt.explains {
				t.Errorf("got %+v", res)
			}
			if (err != nil) != (tt.result == "temperror") {
				t.Errorf("%s with error %v", res.Result, err)
			}
		})
	}
}

// TestSPFBoundsQueries meets records that fan out.
func TestSPFBoundsQueries(t *testing.T) {
	fanout := &fakeDNS{txt: map[string][]string{}, mx: map[string][]dns.MX{}, a: map[string][]string{}}
	var terms []string
	for i := range 9 { // within ten mechanisms, but with ten hosts behind each
		domain := fmt.Sprintf("d%d.example", i)
		terms = append(terms, "mx:"+domain)
		for j := range 10 {
			host := fmt.Sprintf("h%d.%s", j, domain)
			fanout.mx[domain] = append(fanout.mx[domain], dns.MX{Host: host})
			fanout.a[host] = []string{"198.51.100.1"}
		}
	}
	fanout.txt["fan.example"] = []string{"v=spf1 " + strings.Join(terms, " ") + " -all"}
	fanout.txt["deep.example"] = []string{"v=spf1 include:deep.example -all"}
	fanout.txt["wide.example"] = []string{"v=spf1" + strings.Repeat(" a:h0.d0.example", 30) + " -all"}
	fanout.txt["void.example"] = []string{"v=spf1 a:n1.example a:n2.example a:n3.example a:n4.example ip4:192.0.2.7 -all"}
	fanout.txt["long.example"] = []string{"v=spf1" + strings.Repeat(" ip4:198.51.100.1", 5000) + " -all"}
	tests := []struct {
		from, reason string
		queries      int
	}{
		{from: "fan.example", queries: 61, reason: "nine mx with ten hosts each"}, // the one over the bound is not made
		{from: "deep.example", queries: 11, reason: "a record that includes itself"},
		{from: "wide.example", queries: 11, reason: "thirty mechanisms where ten are allowed"},
		{from: "void.example", queries: 4, reason: "more than two look-ups without answer"},
		{from: "long.example", queries: 1, reason: "more terms than any record needs"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			fanout.queries = nil
			in := SPFInput{IP: netip.MustParseAddr("192.0.2.7"), MailFrom: Path{Local: "a", Domain: tt.from}, Now: time.Now()}
			res, err := CheckSPF(context.Background(), fanout, in)
			if err != nil || res.Result != "permerror" {
				t.Errorf("%s (%s), %v", res.Result, res.Reason, err)
			}
			if len(fanout.queries) > tt.queries || len(fanout.queries) > 60 {
				t.Errorf("%d queries, want at most %d", len(fanout.queries), tt.queries)
			}
		})
	}
}

// TestSPFEndsWithItsContext gives temperror, never fail, when time is up.
func TestSPFEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	zone := &fakeDNS{txt: map[string][]string{"example.com": {"v=spf1 -all"}}}
	res, err := CheckSPF(ctx, zone, SPFInput{IP: netip.MustParseAddr("192.0.2.7"), MailFrom: Path{Local: "a", Domain: "example.com"}})
	if res.Result != "temperror" || err == nil {
		t.Errorf("%s, %v", res.Result, err)
	}
}

// FuzzSPF evaluates any record, whose domain-specs and explanation are any too, within its bounds.
func FuzzSPF(f *testing.F) {
	f.Add("v=spf1 a:%{d1r-}.x mx/24//64 ptr:%{p} exists:%{ir}.%{v} include:b.example redirect=c.example exp=%{h}.example", "why %{s} %{c}", "l.o-c+al")
	f.Add("v=spf1 ip4:1.2.3.4/33 ip6:::1/129 -all", "%", "\x01\xff")
	f.Add("v=spf1 a:\x010 mx:\x01\x01 include:%{l} ?all", "%{t}", "\x010")
	f.Fuzz(func(t *testing.T, record, explanation, local string) {
		zone := &fakeDNS{
			txt: map[string][]string{"a.example": {record}, "b.example": {record}, "c.example": {record}, "helo.example": {explanation}},
			ptr: map[string][]string{"192.0.2.7": {"x.a.example"}},
			a:   map[string][]string{"x.a.example": {"192.0.2.7"}},
		}
		res, err := CheckSPF(context.Background(), zone, SPFInput{
			IP: netip.MustParseAddr("192.0.2.7"), Helo: "helo", MailFrom: Path{Local: local, Domain: "a.example"}, Now: time.Now(),
		})
		if err != nil || len(zone.queries) > 61 {
			t.Errorf("%q: %v, %d queries", record, err, len(zone.queries))
		}
		if !isPrintableASCII(res.Explanation) || len(res.Explanation) > maxSPFExplanation {
			t.Errorf("explanation %q", res.Explanation)
		}
		if _, known := defaultSPFConfig().Scores[res.Result]; !known {
			t.Errorf("result %q", res.Result)
		}
	})
}

func isPrintableASCII(s string) bool { return printableASCII(s, len(s)) == s }

func BenchmarkSPF(b *testing.B) {
	zone := &fakeDNS{txt: map[string][]string{
		"example.com":      {"v=spf1 include:_spf.example.net include:_spf.example.org -all"},
		"_spf.example.net": {"v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.0/24 ip6:2001:db8::/32 ~all"},
		"_spf.example.org": {"v=spf1 ip4:192.0.2.0/28 ip4:192.0.2.16/28 ~all"},
	}}
	in := SPFInput{IP: netip.MustParseAddr("192.0.2.17"), MailFrom: Path{Local: "a", Domain: "example.com"}}
	b.ReportAllocs()
	for b.Loop() {
		zone.queries = zone.queries[:0]
		if res, err := CheckSPF(context.Background(), zone, in); err != nil || res.Result != "pass" {
			b.Fatal(res, err)
		}
	}
}
