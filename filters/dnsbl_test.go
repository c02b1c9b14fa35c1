package filters

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/rules/strict"
)

// TestDNSBLFacts holds the facts of RFC 5782 and of Spamhaus's codes against the code: names that are asked, and
// answers that never count.
func TestDNSBLFacts(t *testing.T) {
	src, err := os.ReadFile("testdata/dnsbl/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var facts []struct{ Query, Must, Answer, Means, Address string }
	if err := json.Unmarshal(src, &facts); err != nil {
		t.Fatal(err)
	}
	list := &dnsblList{test: dnsblAddressTest}
	names := map[string]string{ // which address each of the suite's test entries is for
		"2.0.0.127": "127.0.0.2", "1.0.0.127": "127.0.0.1",
	}
	for _, f := range facts {
		switch {
		case f.Address != "":
			if got := dnsblEntry(netip.MustParseAddr(f.Address)); got != f.Query {
				t.Errorf("%s: asked as %s, want %s", f.Address, got, f.Query)
			}
		case names[f.Query] != "":
			if got := dnsblEntry(netip.MustParseAddr(names[f.Query])); got != f.Query {
				t.Errorf("%s: asked as %s, want %s", names[f.Query], got, f.Query)
			}
		case strings.HasPrefix(f.Answer, "127."):
			if list.misanswer(netip.MustParseAddr(f.Answer)) == "" {
				t.Errorf("%s (%s) counts", f.Answer, f.Means)
			}
		}
	}
	for _, code := range []string{"192.0.2.1", "128.0.0.1", "126.255.255.255", "0.0.0.0"} {
		if list.misanswer(netip.MustParseAddr(code)) == "" {
			t.Errorf("%s counts", code)
		}
	}
	for _, code := range []string{"127.0.0.2", "127.0.0.11", "127.0.1.2", "127.255.254.1"} {
		if why := list.misanswer(netip.MustParseAddr(code)); why != "" {
			t.Errorf("%s does not count: %s", code, why)
		}
	}
}

// decodeDNSBL reads a configuration as the file has it.
func decodeDNSBL(t *testing.T, yaml string) (DNSBLConfig, error) {
	t.Helper()
	doc, err := strict.Parse("postern.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	cfg := defaultDNSBLConfig()
	return cfg, doc.Decode(&cfg).Err()
}

const dnsblTestConfig = `lists:
  - {zone: bl.example, score: 6, codes: {127.0.0.10: 3, 127.0.0.4/30: 5}, refuse: true}
  - {zone: wl.example, score: -4}
  - {zone: dead.example, score: 9}
  - {zone: refuses.example, score: 9}
  - {zone: parked.example, score: 9}
  - {zone: everything.example, score: 9}
`

func dnsblZone() *fakeDNS {
	return &fakeDNS{
		a: map[string][]string{
			"2.0.0.127.bl.example":         {"127.0.0.2"},
			"2.0.0.127.wl.example":         {"127.0.0.2"},
			"7.2.0.192.bl.example":         {"127.0.0.2"},
			"8.2.0.192.bl.example":         {"127.0.0.10"},
			"9.2.0.192.bl.example":         {"127.0.0.10", "127.0.0.4"},
			"7.2.0.192.wl.example":         {"127.0.0.3"},
			"7.2.0.192.refuses.example":    {"127.255.255.254"},
			"7.2.0.192.parked.example":     {"203.0.113.9", "127.0.0.2"},
			"7.2.0.192.everything.example": {"127.0.0.2"},
			"1.0.0.127.everything.example": {"127.0.0.2"},
			"2.0.0.127.everything.example": {"127.0.0.2"},
			"d.a.b.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example": {"127.0.0.4"},
		},
		fail: map[string]bool{"7.2.0.192.dead.example": true},
	}
}

func TestDNSBLCheck(t *testing.T) {
	cfg, err := decodeDNSBL(t, dnsblTestConfig)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		ip, reason string
		want       []Finding
		failed     bool
	}{
		{ip: "192.0.2.7", reason: "listed, listed as good, and by lists that can't be believed", failed: true, want: []Finding{
			{Symbol: "dnsbl.bl.example", Score: 600, Detail: "192.0.2.7: 127.0.0.2", Refuse: true},
			{Symbol: "dnsbl.wl.example", Score: -400, Detail: "192.0.2.7: 127.0.0.3"},
			{Symbol: "dnsbl.dead.example.error", Detail: "the look-up failed"},
			{Symbol: "dnsbl.refuses.example.error", Detail: "it answers 127.255.255.254: it refuses our queries"},
			{Symbol: "dnsbl.parked.example.error", Detail: "it answers 203.0.113.9, which is outside 127.0.0.0/8: the zone is parked or hijacked"},
			{Symbol: "dnsbl.everything.example.error", Detail: "it lists 127.0.0.1, and so everything"},
		}},
		{ip: "192.0.2.8", reason: "a code with its own score", want: []Finding{
			{Symbol: "dnsbl.bl.example", Score: 300, Detail: "192.0.2.8: 127.0.0.10", Refuse: true},
			{Symbol: "dnsbl.everything.example.error", Detail: "it lists 127.0.0.1, and so everything"},
		}},
		{ip: "192.0.2.9", reason: "of several codes the weightiest counts", want: []Finding{
			{Symbol: "dnsbl.bl.example", Score: 500, Detail: "192.0.2.9: 127.0.0.4 127.0.0.10", Refuse: true},
			{Symbol: "dnsbl.everything.example.error", Detail: "it lists 127.0.0.1, and so everything"},
		}},
		{ip: "2001:db8::bad", reason: "IPv6 nibbles", want: []Finding{
			{Symbol: "dnsbl.bl.example", Score: 500, Detail: "2001:db8::bad: 127.0.0.4", Refuse: true},
			{Symbol: "dnsbl.everything.example.error", Detail: "it lists 127.0.0.1, and so everything"},
		}},
		{ip: "192.0.2.99", reason: "listed nowhere", want: []Finding{
			{Symbol: "dnsbl.everything.example.error", Detail: "it lists 127.0.0.1, and so everything"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			c := newDNSBL(newDNSBLLists(cfg, dnsblZone(), slog.New(slog.DiscardHandler)))
			report := c.Run(context.Background(), Input{Client: &Client{IP: netip.MustParseAddr(tt.ip)}, Now: time.Now()})
			if diff := cmp.Diff(tt.want, report.Findings); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if (report.Err != nil) != tt.failed {
				t.Errorf("error %v", report.Err)
			}
		})
	}
}

// TestDNSBLParking leaves a list alone that refuses, says so once, and asks again later.
func TestDNSBLParking(t *testing.T) {
	zone := dnsblZone()
	var log bytes.Buffer
	c := newDNSBL(newDNSBLLists(DNSBLConfig{Lists: DNSBLLists{{Zone: "refuses.example", Score: 9}}}, zone, slog.New(slog.NewTextHandler(&log, nil))))
	now := time.Unix(2_000_000_000, 0)
	ask := func(ip string, at time.Time) (symbols []string, queries int) {
		before := len(zone.queries)
		report := c.Run(context.Background(), Input{Client: &Client{IP: netip.MustParseAddr(ip)}, Now: at})
		for _, f := range report.Findings {
			symbols = append(symbols, f.Symbol)
		}
		return symbols, len(zone.queries) - before
	}
	if symbols, n := ask("192.0.2.7", now); n != 3 || len(symbols) != 1 || symbols[0] != "dnsbl.refuses.example.error" {
		t.Errorf("first: %v with %d queries, want the error with 3: the look-up and two tests", symbols, n)
	}
	for range 3 {
		if symbols, n := ask("192.0.2.8", now.Add(time.Minute)); n != 0 || len(symbols) != 1 {
			t.Errorf("parked: %v with %d queries", symbols, n)
		}
	}
	if n := strings.Count(log.String(), "dnsbl_parked"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	if symbols, n := ask("192.0.2.8", now.Add(dnsblParking)); n != 3 || len(symbols) != 0 {
		t.Errorf("an hour later: %v with %d queries", symbols, n)
	}
	if symbols, n := ask("192.0.2.8", now.Add(dnsblParking+time.Minute)); n != 1 || len(symbols) != 0 {
		t.Errorf("tested already: %v with %d queries", symbols, n)
	}
}

func TestDNSBLConfigErrors(t *testing.T) {
	tests := []struct{ yaml, want, reason string }{
		{yaml: "lists: [{score: 3}]", want: "postern.yaml:1:9: zone is missing, expected the domain of a DNS list, such as zen.spamhaus.org", reason: "no zone"},
		{yaml: "lists: [{zone: 'a b'}]", want: `postern.yaml:1:16: "a b" is no domain, expected that of a DNS list, such as zen.spamhaus.org`, reason: "no domain"},
		{yaml: "lists:\n- zone: bl.example\n- zone: BL.example.", want: `postern.yaml:3:3: zone "bl.example" stands there twice, expected each list once`, reason: "twice"},
		{yaml: "lists: [{zone: bl.example, timeout: 0s}]", want: "postern.yaml:1:37: timeout: 0s, expected more than 0", reason: "no time"},
		{yaml: "lists: [{zone: bl.example, codes: {10.0.0.1: 3}}]", want: "postern.yaml:1:36: 10.0.0.1 is no answer of a DNS list, expected one within 127.0.0.0/8", reason: "code"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			_, err := decodeDNSBL(t, tt.yaml)
			if err == nil || err.Error() != tt.want {
				t.Errorf("%s:\n%v, want\n%s", tt.yaml, err, tt.want)
			}
		})
	}
}

func BenchmarkDNSBL(b *testing.B) {
	zone := dnsblZone()
	c := newDNSBL(newDNSBLLists(DNSBLConfig{Lists: DNSBLLists{{Zone: "bl.example", Score: 6}, {Zone: "wl.example", Score: -4}, {Zone: "x.example", Score: 1}}},
		zone, slog.New(slog.DiscardHandler)))
	in := Input{Client: &Client{IP: netip.MustParseAddr("192.0.2.7")}, Now: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		zone.queries = zone.queries[:0]
		if report := c.Run(context.Background(), in); len(report.Findings) != 2 {
			b.Fatal(report)
		}
	}
}
