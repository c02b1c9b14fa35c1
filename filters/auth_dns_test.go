package filters

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"postern/filters/dns"
	"postern/filters/dns/zone"
)

// serveZone answers from a zone file over real sockets, through a real resolver.
func serveZone(t *testing.T, file string) *dns.Resolver {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zone.Parse(file, src)
	if err != nil {
		t.Fatal(err)
	}
	server, err := zone.Serve(z)
	if err != nil {
		t.Fatal(err)
	}
	r, err := dns.New(dns.Config{Servers: []string{server.Addr()}, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestAuthOverDNS runs SPF, reverse DNS and DMARC over the wire, where names are encoded and failures look as they do.
func TestAuthOverDNS(t *testing.T) {
	r := serveZone(t, "testdata/auth/sender.zone")
	ctx := context.Background()
	for _, tt := range []struct{ reason, ip, from, result, explains string }{
		{reason: "a", ip: "192.0.2.7", from: "example.com", result: "pass"},
		{reason: "mx", ip: "192.0.2.8", from: "example.com", result: "pass"},
		{reason: "include, record of several strings", ip: "198.51.100.9", from: "example.com", result: "pass"},
		{reason: "IPv6", ip: "2001:db8::7", from: "example.com", result: "pass"},
		{reason: "fail with an explanation", ip: "192.0.2.9", from: "example.com", result: "fail", explains: "192.0.2.9 is no server of example.com"},
		{reason: "truncated, and so over TCP", ip: "192.0.2.9", from: "big.example.com", result: "pass"},
		{reason: "SERVFAIL for the record", ip: "192.0.2.9", from: "broken.example.com", result: "temperror"},
		{reason: "SERVFAIL for a mechanism", ip: "192.0.2.9", from: "slow.example.com", result: "temperror"},
		{reason: "NXDOMAIN", ip: "192.0.2.9", from: "nothing.example.com", result: "none"},
		{reason: "a name without TXT", ip: "192.0.2.9", from: "mail.example.com", result: "none"},
	} {
		res, err := CheckSPF(ctx, r, SPFInput{IP: netip.MustParseAddr(tt.ip), MailFrom: Path{Local: "a", Domain: tt.from}, Now: time.Now()})
		if res.Result != tt.result || res.Explanation != tt.explains || (err != nil) != (tt.result == "temperror") {
			t.Errorf("SPF, %s: %+v, %v", tt.reason, res, err)
		}
	}
	for ip, want := range map[string]string{"192.0.2.7": "pass", "192.0.2.8": "pass", "192.0.2.9": "permerror"} {
		if res, err := CheckIprev(ctx, r, netip.MustParseAddr(ip)); res.Result != want || err != nil {
			t.Errorf("iprev of %s: %+v, %v", ip, res, err)
		}
	}
	for _, tt := range []struct{ from, spf, dkim, result, policy string }{
		{from: "example.com", spf: "mail.example.com", result: "pass", policy: "quarantine"},
		{from: "example.com", dkim: "mail.example.com", result: "fail", policy: "quarantine"},
		{from: "mail.example.com", result: "fail", policy: "reject"},
		{from: "nothing.example", result: "none"},
	} {
		m := parseMessage(t, "From: a@"+tt.from+"\r\n\r\n")
		spfResult, spfDomain := resultAndDomain(tt.spf)
		dkimResult, dkimDomain := resultAndDomain(tt.dkim)
		res, err := CheckDMARC(ctx, r, DMARCInput{
			Header: m.Header, SPF: &SPFResult{Result: spfResult, Domain: spfDomain},
			DKIM: &DKIMResult{Signatures: []*DKIMSignature{{Result: dkimResult, Domain: dkimDomain}}},
		})
		if res.Result != tt.result || string(res.Policy) != tt.policy || err != nil {
			t.Errorf("DMARC of %s: %+v, %v", tt.from, res, err)
		}
	}
}
