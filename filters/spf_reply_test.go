package filters

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestSPFMechanism names what decided as the record has it.
func TestSPFMechanism(t *testing.T) {
	zone := &fakeDNS{
		txt: map[string][]string{
			"example.com":      {"v=spf1 IP4:192.0.2.0/28 A:%{d}/30 include:inc.example ~ALL"},
			"inc.example":      {"v=spf1 ip4:198.51.100.1 ?ip4:198.51.100.2 -all"},
			"redirect.example": {"v=spf1 redirect=inc.example"},
			"open.example":     {"v=spf1 ip4:192.0.2.1"},
			"ptr.example":      {"v=spf1 ptr -all"},
		},
		a:   map[string][]string{"example.com": {"203.0.113.1"}, "h.ptr.example": {"192.0.2.1"}},
		ptr: map[string][]string{"192.0.2.1": {"h.ptr.example"}},
	}
	for _, tt := range []struct{ ip, domain, result, mechanism, reason string }{
		{ip: "192.0.2.1", domain: "example.com", result: "pass", mechanism: "IP4:192.0.2.0/28", reason: "a network"},
		{ip: "203.0.113.2", domain: "example.com", result: "pass", mechanism: "A:%{d}/30", reason: "an address, with a macro"},
		{ip: "198.51.100.1", domain: "example.com", result: "pass", mechanism: "include:inc.example", reason: "an included record: the include decides"},
		{ip: "198.51.100.2", domain: "example.com", result: "softfail", mechanism: "~ALL", reason: "an included record that gives neutral does not decide"},
		{ip: "198.51.100.9", domain: "example.com", result: "softfail", mechanism: "~ALL", reason: "nothing but all"},
		{ip: "198.51.100.9", domain: "redirect.example", result: "fail", mechanism: "-all", reason: "the record that it is redirected to"},
		{ip: "192.0.2.9", domain: "open.example", result: "neutral", reason: "nothing"},
		{ip: "192.0.2.1", domain: "ptr.example", result: "pass", mechanism: "ptr", reason: "the client's name"},
	} {
		res, err := CheckSPF(context.Background(), zone, SPFInput{IP: netip.MustParseAddr(tt.ip), MailFrom: Path{Local: "a", Domain: tt.domain}, Now: time.Now()})
		if err != nil || res.Result != tt.result || res.Mechanism != tt.mechanism {
			t.Errorf("%s: %s by %q (%v), want %s by %q", tt.reason, res.Result, res.Mechanism, err, tt.result, tt.mechanism)
		}
		if want := "matched " + tt.mechanism; tt.mechanism != "" && res.Reason != want {
			t.Errorf("%s: %q, want %q", tt.reason, res.Reason, want)
		}
	}
}

// TestSPFHonor refuses what the domain forbids only where it is asked to, with the domain's explanation named as such.
func TestSPFHonor(t *testing.T) {
	zone := &fakeDNS{txt: map[string][]string{
		"example.com":       {"v=spf1 -all exp=why.example.com"},
		"why.example.com":   {"See http://example.com/?ip=%{i}&s=%{S}" + strings.Repeat(" blah", 60)},
		"quiet.example.com": {"v=spf1 -all"},
		"soft.example.com":  {"v=spf1 ~all"},
	}}
	for _, tt := range []struct {
		domain string
		honor  SPFHonor
		force  Action
		reply  string
	}{
		{domain: "example.com"},
		{domain: "soft.example.com", honor: SPFHonor{"fail"}},
		{domain: "quiet.example.com", honor: SPFHonor{"fail"}, force: Reject, reply: "quiet.example.com does not allow your server to send for it (SPF)"},
		{domain: "example.com", honor: SPFHonor{"fail"}, force: Reject,
			reply: "example.com does not allow your server to send for it (SPF); example.com explains: See http://example.com/?ip=192.0.2.7&s=x%0D%0A250%20ok%40example.com blah"},
	} {
		cfg := defaultSPFConfig()
		cfg.Honor = tt.honor
		report := newSPF(cfg, zone).Run(context.Background(), Input{
			Client: &Client{IP: netip.MustParseAddr("192.0.2.7"), OwnName: "mx.postern.example"},
			Mail:   &Mail{From: Path{Local: "x\r\n250 ok", Domain: tt.domain}}, Now: time.Now(),
		})
		f := report.Findings[0]
		if f.Force != tt.force || !strings.HasPrefix(f.Reply, tt.reply) || (f.Reply == "") != (tt.reply == "") {
			t.Errorf("%s, honor %v: force %s, reply %q", tt.domain, tt.honor, f.Force, f.Reply)
		}
		if len(f.Reply) > 320 || !isPrintableASCII(f.Reply) {
			t.Errorf("%s: the reply has %d octets: %q", tt.domain, len(f.Reply), f.Reply)
		}
		if report.Fields != nil {
			t.Errorf("a field was not asked for: %q", report.Fields)
		}
	}
	cfg := defaultSPFConfig()
	if got := errorText(decodeAuth(t, "honor: [softfail]", &cfg)); got != `postern.yaml:1:9: unknown result "softfail" (known: fail)` {
		t.Error(got)
	}
}

// TestReceivedSPF writes the field on request; what the client chose can end neither a line nor a string.
func TestReceivedSPF(t *testing.T) {
	zone := &fakeDNS{txt: map[string][]string{"example.com": {"v=spf1 ip4:192.0.2.0/24 -all"}}}
	cfg := defaultSPFConfig()
	cfg.ReceivedSPF = true
	run := func(helo, local string) string {
		report := newSPF(cfg, zone).Run(context.Background(), Input{
			Client: &Client{IP: netip.MustParseAddr("192.0.2.7"), OwnName: "mx.postern.example"},
			Helo:   &Helo{Name: helo}, Mail: &Mail{From: Path{Local: local, Domain: "example.com"}}, Now: time.Now(),
		})
		if len(report.Fields) != 1 {
			t.Fatalf("%d fields", len(report.Fields))
		}
		return string(report.Fields[0].Raw)
	}
	want := "Received-SPF: pass client-ip=\"192.0.2.7\"; envelope-from=\"joe@example.com\";\r\n" +
		"\thelo=\"mail.example.com\"; receiver=\"mx.postern.example\"; identity=\"mailfrom\";\r\n" +
		"\tmechanism=\"ip4:192.0.2.0/24\"\r\n"
	if got := run("mail.example.com", "joe"); got != want {
		t.Errorf("%q, want\n%q", got, want)
	}
	hostile := run("x\"; result=pass\r\nX-Spam: no\x00", "a\"\\\xff\r\n")
	m := parseMessage(t, hostile+"\r\n")
	if len(m.Header) != 1 || strings.Count(hostile, "\n") != strings.Count(hostile, "\r\n\t")+1 || !isPrintableASCII(strings.NewReplacer("\r\n", "", "\t", "").Replace(hostile)) {
		t.Errorf("%q", hostile)
	}
}
