package filters

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/filters/dns"
)

const dnsblDomainConfig = `lists:
  - {zone: dbl.example, of: [rdns, helo, mail, from, dkim], score: 4, refuse: true}
  - {zone: multi.example, of: [from, dkim], score: 1, masks: {8: 5, 64: 3, 24: 7}}
  - {zone: dwl.example, of: [dkim], score: -2, codes: {127.0.0.2: -3}}
  - {zone: both.example, of: [client, helo], score: 2}
  - {zone: refuses.example, of: [mail], score: 9}
`

// domainListsRun runs the checks of lists with those that they need.
func domainListsRun(t *testing.T, cfg Config, zone *fakeDNS, helo string, from Path, src string) (*Run, Result) {
	t.Helper()
	var list []Stage
	for _, s := range chain(cfg, zone, true, slog.New(slog.DiscardHandler)) {
		if name := s.Check.Name(); name == "iprev" || name == "dkim" || strings.HasPrefix(name, "dnsbl.") {
			list = append(list, s)
		}
	}
	p, err := NewPipeline(list)
	if err != nil {
		t.Fatal(err)
	}
	run := p.Start(context.Background(), &Client{IP: netip.MustParseAddr("192.0.2.7")}, func() time.Time { return time.Unix(2_000_000_000, 0) })
	t.Cleanup(run.Close)
	run.Helo(&Helo{Name: helo})
	run.Mail(&Mail{From: from})
	run.Message(nil, parseMessage(t, src))
	return run, run.Collect(context.Background())
}

// TestDNSBLDomains asks lists about every domain that stands for the sender, and counts a domain once, whatever it
// appears as.
func TestDNSBLDomains(t *testing.T) {
	key := testKeys()["ed25519"]
	src := signAs(t, plainMessage, "v=1; a=ed25519-sha256; d=esp.example.net; s=s1; h=from;", key) // From: joe@example.com
	zone := &fakeDNS{
		txt: map[string][]string{"s1._domainkey.esp.example.net": {keyRecord(t, key, "")}},
		ptr: map[string][]string{"192.0.2.7": {"mail.example.org"}},
		a: map[string][]string{
			"mail.example.org":            {"192.0.2.7"},
			"example.org.dbl.example":     {"127.0.1.2"},
			"example.com.dbl.example":     {"127.0.1.4"},
			"example.com.multi.example":   {"127.0.0.88"}, // 8 + 16 + 64
			"example.net.multi.example":   {"127.0.0.2"},
			"example.net.dwl.example":     {"127.0.0.2"},
			"2.0.0.127.both.example":      {"127.0.0.2"},
			"example.com.refuses.example": {"127.0.0.1"},
		},
	}
	for _, l := range []string{"dbl", "multi", "dwl", "both", "refuses"} {
		zone.a["test."+l+".example"] = []string{"127.0.0.2"}
	}
	cfg := DefaultConfig()
	var err error
	if cfg.DNSBL.Own, err = decodeDNSBL(t, dnsblDomainConfig); err != nil {
		t.Fatal(err)
	}
	_, res := domainListsRun(t, cfg, zone, "mail.example.org", Path{Local: "joe", Domain: "bounce.example.com"}, src)
	var got []Finding
	for _, f := range res.Findings {
		if strings.HasPrefix(f.Symbol, "dnsbl.") {
			got = append(got, f)
		}
	}
	want := []Finding{
		{Symbol: "dnsbl.dbl.example.rdns", Score: 400, Detail: "example.org: 127.0.1.2", Refuse: true},
		{Symbol: "dnsbl.dbl.example.mail", Score: 400, Detail: "example.com: 127.0.1.4", Refuse: true},
		{Symbol: "dnsbl.refuses.example.mail.error", Detail: "it answers 127.0.0.1: it refuses our queries"},
		{Symbol: "dnsbl.multi.example.from", Score: 700, Detail: "example.com: 127.0.0.88"},
		{Symbol: "dnsbl.multi.example.dkim", Score: 100, Detail: "example.net: 127.0.0.2"},
		{Symbol: "dnsbl.dwl.example.dkim", Score: -300, Detail: "example.net: 127.0.0.2"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if len(res.Errors) > 0 {
		t.Errorf("errors: %v", res.Errors)
	}
	asked := slices.DeleteFunc(slices.Clone(zone.queries), func(q string) bool { return !strings.HasSuffix(q, ".dbl.example A") })
	slices.Sort(asked)
	if d := cmp.Diff([]string{
		"bounce.example.com.dbl.example A", "esp.example.net.dbl.example A", "example.com.dbl.example A", "example.net.dbl.example A",
		"example.org.dbl.example A", "invalid.dbl.example A", "mail.example.org.dbl.example A", "test.dbl.example A",
	}, asked); d != "" {
		t.Errorf("each name is to be asked once of each list (-want +got):\n%s", d)
	}
}

// TestDNSBLDomainsDeclared: every symbol that is found was declared, and what is not asked about is off.
func TestDNSBLDomainsDeclared(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DNSBL.Own.Lists = DNSBLLists{{Zone: "dbl.example", Of: []DNSBLIdentity{dnsblHelo}}}
	symbols := Symbols(cfg)
	for _, name := range []string{"dnsbl.dbl.example.helo", "dnsbl.dbl.example.helo.error", "dnsbl.helo.error"} {
		if !slices.Contains(symbols, name) {
			t.Errorf("%s is not declared", name)
		}
	}
	if slices.Contains(symbols, "dnsbl.dbl.example") || slices.Contains(symbols, "dnsbl.dbl.example.mail") {
		t.Error("symbols of what is not asked are declared")
	}
	for _, s := range chain(cfg, &fakeDNS{}, true, slog.New(slog.DiscardHandler)) {
		name := s.Check.Name()
		if domain := strings.HasPrefix(name, "dnsbl.") && name != "dnsbl.client"; domain && s.Off != (name != "dnsbl.helo") {
			t.Errorf("%s: off is %v", name, s.Off)
		}
	}
}

// TestDNSBLManyDomains bounds what a message signed by many domains costs.
func TestDNSBLManyDomains(t *testing.T) {
	zone := &fakeDNS{}
	res := &DKIMResult{}
	for i := range 100 {
		res.Signatures = append(res.Signatures, &DKIMSignature{Result: "pass", Domain: strings.Repeat("a", i%50+1) + ".example"})
	}
	cfg := DNSBLConfig{Lists: DNSBLLists{{Zone: "a.example", Of: []DNSBLIdentity{dnsblDKIM}}, {Zone: "b.example", Of: []DNSBLIdentity{dnsblDKIM}}}}
	c := newDNSBLDomain(newDNSBLLists(cfg, zone, slog.New(slog.DiscardHandler)), dnsblDKIM)
	done := &task{done: make(chan struct{}), report: Report{Fact: res}}
	close(done.done)
	facts := &Facts{owner: c.Name(), needs: map[string]*task{"iprev": nil, "dkim": done}}
	if report := c.Run(context.Background(), Input{Facts: facts, Now: time.Now()}); report.Err != nil {
		t.Error(report.Err)
	}
	if tests := 4; len(zone.queries) != maxDNSBLNames+tests {
		t.Errorf("%d queries, want %d and %d of the self-tests", len(zone.queries), maxDNSBLNames, tests)
	}
}

// TestDNSBLDomainWithoutName: rDNS that is not known for now is an error, and not a name that is not listed.
func TestDNSBLDomainWithoutName(t *testing.T) {
	zone := &fakeDNS{fail: map[string]bool{"192.0.2.7": true}}
	cfg := DefaultConfig()
	cfg.DNSBL.Own.Lists = DNSBLLists{{Zone: "dbl.example", Of: []DNSBLIdentity{dnsblRDNS, dnsblHelo}}}
	_, res := domainListsRun(t, cfg, zone, "localhost", Path{}, plainMessage)
	var failed []string
	for _, e := range res.Errors {
		failed = append(failed, e.Check)
	}
	if !slices.Equal(failed, []string{"iprev", "dnsbl.rdns"}) {
		t.Errorf("errors of %v", failed)
	}
	for _, q := range zone.queries {
		if strings.Contains(q, "localhost") {
			t.Errorf("a single label was asked: %s", q)
		}
	}
}

func TestDNSBLMasks(t *testing.T) {
	l := DNSBLList{Score: 1, Codes: map[netip.Prefix]float64{netip.MustParsePrefix("127.0.0.128/32"): 9},
		Masks: map[int]float64{2: 3, 4: -6, 1 << 8: 5}}
	for code, want := range map[string]Score{
		"127.0.0.16":  100,  // no mask
		"127.0.0.2":   300,  // one
		"127.0.0.6":   -600, // two: the weightiest
		"127.0.1.0":   500,  // a bit of the third octet
		"127.0.0.128": 900,  // a code goes before
	} {
		if got := l.score([]netip.Addr{netip.MustParseAddr(code)}); got != want {
			t.Errorf("%s: %s, want %s", code, got, want)
		}
	}
}

func TestDNSBLDomainConfigErrors(t *testing.T) {
	tests := []struct{ yaml, want, reason string }{
		{yaml: "lists: [{zone: a.example, of: [form]}]", want: `postern.yaml:1:32: unknown identity "form", did you mean "from"? (known: client, dkim, from, helo, mail, rdns, uri)`, reason: "no such identity"},
		{yaml: "lists: [{zone: a.example, of: []}]", want: "postern.yaml:1:31: of is empty, expected one of client, rdns, helo, mail, from, dkim, uri", reason: "none"},
		{yaml: "lists: [{zone: a.example, of: [from, dkim], refuse: true}]", want: "postern.yaml:1:53: refuse: a list of what stands in the message can't refuse before the message, expected false", reason: "too late to refuse"},
		{yaml: "lists: [{zone: a.example, masks: {0: 3}}]", want: "postern.yaml:1:35: 0 is no mask, expected a number from 1 to 16777215 whose bits are looked for in the answer", reason: "no bits"},
		{yaml: "lists: [{zone: a.example, masks: {8: 2000}}]", want: "postern.yaml:1:38: the score 2000, expected one from -1000 to 1000", reason: "no score"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			if _, err := decodeDNSBL(t, tt.yaml); errorText(err) != tt.want {
				t.Errorf("%v, want\n%s", err, tt.want)
			}
		})
	}
}

// TestRefusalNamesWhatIsListed says in a sender's words what of his is listed.
func TestRefusalNamesWhatIsListed(t *testing.T) {
	for symbol, want := range map[string]string{
		"dnsbl.zen.example":      "your server's address is listed at zen.example",
		"dnsbl.dbl.example.from": "the domain in the From field is listed at dbl.example",
		"dnsbl.dbl.example.helo": "the name that your server introduced itself with is listed at dbl.example",
	} {
		if got := reason(Finding{Symbol: symbol}); got != want {
			t.Errorf("%s: %q, want %q", symbol, got, want)
		}
	}
}

func TestMailFrom(t *testing.T) {
	zone := &fakeDNS{
		mx: map[string][]dns.MX{
			"good.example":  {{Pref: 10, Host: "mx.good.example"}},
			"null.example":  {{Host: "."}},
			"mixed.example": {{Host: "."}, {Pref: 10, Host: "mx.good.example"}}, // RFC 7505 section 3: then it is no null MX
		},
		a:    map[string][]string{"host.example": {"192.0.2.1"}},
		aaaa: map[string][]string{"six.example": {"2001:db8::1"}},
		txt:  map[string][]string{"text.example": {"x"}},
		fail: map[string]bool{"down.example": true, "half.example MX": true},
	}
	for _, tt := range []struct {
		domain, want, reason string
		queries              int
	}{
		{domain: "good.example", want: "ok", reason: "an MX", queries: 1},
		{domain: "GOOD.example", want: "ok", reason: "in capitals", queries: 1},
		{domain: "null.example", want: "null_mx", reason: "the null MX", queries: 1},
		{domain: "mixed.example", want: "ok", reason: "a null MX among others", queries: 1},
		{domain: "host.example", want: "ok", reason: "an address", queries: 3},
		{domain: "six.example", want: "ok", reason: "an IPv6 address", queries: 3},
		{domain: "text.example", want: "unresolvable", reason: "neither", queries: 3},
		{domain: "nothing.example", want: "unresolvable", reason: "no such name", queries: 1},
		{domain: "down.example", want: "temperror", reason: "DNS down", queries: 1},
		{domain: "a\x00b.example", want: "unresolvable", reason: "a NUL"},
	} {
		zone.queries = nil
		res, err := CheckMailFrom(context.Background(), zone, tt.domain)
		if res.Result != tt.want || (err != nil) != (tt.want == "temperror") || len(zone.queries) > tt.queries {
			t.Errorf("%s: %s, %v, %v, want %s", tt.reason, res.Result, err, zone.queries, tt.want)
		}
	}
	for _, from := range []Path{{}, {Local: "a", Domain: "[192.0.2.7]"}, {Local: "postmaster"}} {
		if r := newMailFrom(defaultMailFromConfig(), zone).Run(context.Background(), Input{Mail: &Mail{From: from}}); r.Findings != nil {
			t.Errorf("%q is judged: %+v", from, r.Findings)
		}
	}
}
