package filters

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const uriblConfig = `lists:
  - {zone: dbl.example, of: [from, uri], score: 4}
  - {zone: multi.example, of: [uri], score: 1, masks: {8: 5, 64: 3}, uri_addresses: true}
  - {zone: refuses.example, of: [uri], score: 9}
skip: [good.example]
`

// uriblRun runs the checks of lists over a message.
func uriblRun(t *testing.T, zone *fakeDNS, client Client, src string) Result {
	t.Helper()
	cfg := DefaultConfig()
	var err error
	if cfg.DNSBL.Own, err = decodeDNSBL(t, uriblConfig); err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"dbl", "multi", "refuses"} {
		zone.a["test."+l+".example"] = []string{"127.0.0.2"}
	}
	var list []Stage
	for _, s := range chain(cfg, zone, true, slog.New(slog.DiscardHandler)) {
		if name := s.Check.Name(); name == "iprev" || name == "dkim" || name == "uribl" || strings.HasPrefix(name, "dnsbl.") {
			list = append(list, s)
		}
	}
	p, err := NewPipeline(list)
	if err != nil {
		t.Fatal(err)
	}
	run := p.Start(context.Background(), &client, func() time.Time { return time.Unix(2_000_000_000, 0) })
	t.Cleanup(run.Close)
	run.Helo(&Helo{Name: "mail.example.org"})
	run.Mail(&Mail{From: Path{Local: "joe", Domain: "example.com"}})
	run.Message(nil, parseMessage(t, src))
	return run.Collect(context.Background())
}

func ofLists(found []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(found), func(f Finding) bool { return !strings.HasPrefix(f.Symbol, "dnsbl.") })
}

const linkedMessage = "From: Joe <joe@shop.example>\r\nTo: s@example.org\r\nSubject: offer\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700\r\n" +
	"MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n" +
	"<p><a href='https://login.bad.example/x?y=1'>here</a> <a href='http://bad.example/'>there</a>\r\n" +
	"<a href='http://www.shop.example/'>shop</a> <a href='http://203.0.113.9/x'>more</a>\r\n" +
	"<a href='https://www.good.example/'>skipped</a> <a href='mailto:x@mail.example'>mail</a>\r\n" +
	"<img src='http://pictures.example/p.png'></p>\r\n"

// TestURIBL asks lists about what a message links to, about each domain once, whatever it appears as.
func TestURIBL(t *testing.T) {
	zone := &fakeDNS{a: map[string][]string{
		"bad.example.dbl.example":         {"127.0.1.4"},
		"shop.example.dbl.example":        {"127.0.1.2"},
		"bad.example.multi.example":       {"127.0.0.72"},
		"9.113.0.203.multi.example":       {"127.0.0.64"},
		"9.113.0.203.dbl.example":         {"127.0.1.255"},
		"pictures.example.multi.example":  {"127.0.0.8"},
		"bad.example.refuses.example":     {"127.0.0.1"},
		"good.example.multi.example":      {"127.0.0.8"},
		"mail.example.multi.example":      {"127.0.0.8"},
		"login.bad.example.multi.example": {"127.0.0.8"},
	}}
	for _, trusted := range []bool{false, true} {
		zone.queries = nil
		res := uriblRun(t, zone, Client{IP: netip.MustParseAddr("192.0.2.7"), Trusted: trusted}, linkedMessage)
		want := []Finding{
			{Symbol: "dnsbl.dbl.example.from", Score: 400, Detail: "shop.example: 127.0.1.2"},
			{Symbol: "dnsbl.dbl.example.uri", Score: 400, Detail: "bad.example: 127.0.1.4"},
			{Symbol: "dnsbl.multi.example.uri", Score: 500, Detail: "bad.example: 127.0.0.72; 203.0.113.9: 127.0.0.64; pictures.example: 127.0.0.8"},
			{Symbol: "dnsbl.refuses.example.uri.error", Detail: "it answers 127.0.0.1: it refuses our queries"},
		}
		if trusted {
			want = want[1:] // whose sender is not judged; what the message links to is
		}
		if diff := cmp.Diff(want, ofLists(res.Findings)); diff != "" {
			t.Errorf("trusted %v: findings (-want +got):\n%s", trusted, diff)
		}
		if len(res.Errors) > 0 {
			t.Errorf("errors: %v", res.Errors)
		}
		asked := slices.DeleteFunc(slices.Clone(zone.queries), func(q string) bool { return !strings.HasSuffix(q, ".multi.example A") })
		slices.Sort(asked)
		if d := cmp.Diff([]string{
			"9.113.0.203.multi.example A", "bad.example.multi.example A", "invalid.multi.example A", "pictures.example.multi.example A",
			"shop.example.multi.example A", "test.multi.example A",
		}, asked); d != "" {
			t.Errorf("each domain is to be asked once of each list (-want +got):\n%s", d)
		}
	}
	reply := reason(Finding{Symbol: "dnsbl.dbl.example.uri"})
	if want := "a domain that the message links to is listed at dbl.example"; reply != want {
		t.Errorf("the sender is told %q, want %q", reply, want)
	}
}

// TestURIBLManyLinks bounds what a message full of links costs, and finds the one behind many good ones.
func TestURIBLManyLinks(t *testing.T) {
	var b strings.Builder
	b.WriteString("From: Joe <joe@example.com>\r\nSubject: x\r\nContent-Type: text/html\r\n\r\n")
	for i := range 500 {
		fmt.Fprintf(&b, "<img src='http://picture%d.example/'><a href='http://link%d.example/'>x</a>\r\n", i, i)
	}
	b.WriteString("<a href='http://worst.example/'>x</a> and text\r\n")
	zone := &fakeDNS{a: map[string][]string{"link0.example.dbl.example": {"127.0.1.2"}, "picture499.example.multi.example": {"127.0.0.8"}}}
	res := uriblRun(t, zone, Client{IP: netip.MustParseAddr("192.0.2.7")}, b.String())
	want := []Finding{
		{Symbol: "dnsbl.dbl.example.uri", Score: 400, Detail: "link0.example: 127.0.1.2"},
		{Symbol: "dnsbl.multi.example.uri", Score: 500, Detail: "picture499.example: 127.0.0.8"},
	}
	if diff := cmp.Diff(want, ofLists(res.Findings)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	count := 0
	for _, q := range zone.queries {
		if strings.HasSuffix(q, ".multi.example A") {
			count++
		}
	}
	if tests := 2; count != maxURIDomains+tests {
		t.Errorf("%d queries, want %d", count, maxURIDomains+tests)
	}
}

// TestURIBLFails: a list that fails is an error of the check, and the others are heard.
func TestURIBLFails(t *testing.T) {
	zone := &fakeDNS{a: map[string][]string{"bad.example.dbl.example": {"127.0.1.4"}}, fail: map[string]bool{"bad.example.multi.example": true}}
	res := uriblRun(t, zone, Client{IP: netip.MustParseAddr("192.0.2.7")}, linkedMessage)
	want := []Finding{
		{Symbol: "dnsbl.dbl.example.uri", Score: 400, Detail: "bad.example: 127.0.1.4"},
		{Symbol: "dnsbl.multi.example.uri.error", Detail: "the look-up failed"},
	}
	if diff := cmp.Diff(want, ofLists(res.Findings)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if len(res.Errors) != 1 {
		t.Errorf("errors: %v, want the one of multi.example", res.Errors)
	}
}

// TestURIBLDeclared: what is not asked about is off, and every symbol was declared.
func TestURIBLDeclared(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DNSBL.Own.Lists = DNSBLLists{{Zone: "dbl.example", Of: []DNSBLIdentity{dnsblURI}}}
	symbols := Symbols(cfg)
	for _, name := range []string{"dnsbl.dbl.example.uri", "dnsbl.dbl.example.uri.error", "uribl.error"} {
		if !slices.Contains(symbols, name) {
			t.Errorf("%s is not declared", name)
		}
	}
	for _, s := range chain(DefaultConfig(), &fakeDNS{}, true, slog.New(slog.DiscardHandler)) {
		if s.Check.Name() == "uribl" && !s.Off {
			t.Error("it is on without a list")
		}
	}
	for config, wrong := range map[string]string{
		"lists: [{zone: a.example, of: [uri], refuse: true}]":               "refuse: a list of what stands in the message",
		"lists: [{zone: a.example, of: [from], uri_addresses: true}]":       "uri_addresses: this list is not asked about links",
		"lists: [{zone: a.example, of: [urii]}]":                            "uri",
		"lists: [{zone: a.example, of: [uri]}]\nskip: ['a b']":              `"a b" is no domain`,
		"lists: [{zone: a.example, of: [uri]}]\nskip: [x.example]\nskp: []": "skp",
	} {
		if _, err := decodeDNSBL(t, config); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v, want %q", config, err, wrong)
		}
	}
}
