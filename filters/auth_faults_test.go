package filters

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/filters/dns"
)

// Each test here is named after a fault that was measured in a program of this field, and shows it absent.

func dkimResults(t *testing.T, zone *fakeDNS, src string) []string {
	t.Helper()
	got, err := verifyMessage(zone, parseMessage(t, src), DKIMOptions{Now: time.Now()})
	if err != nil {
		t.Error(err)
	}
	return got
}

// A NUL or another control byte in a selector or domain must not make it the name of another's key.
func TestFaultControlByteInDKIMNamesPasses(t *testing.T) {
	key := testKeys()["rsa"]
	record := []string{keyRecord(t, key, "")}
	zone := &fakeDNS{txt: map[string][]string{
		"s1._domainkey.evil.example": record, "s1._domainkey.bank.example": record, "s1": record, "s1._domainkey.bank.example\x00.evil.example": record,
	}}
	for _, c := range []byte{0, 1, '\t', '\r', '\n', 0x1f, 0x7f} {
		for _, names := range []string{
			"d=bank.example" + string(c) + ".evil.example; s=s1;", "d=evil.example; s=s1" + string(c) + "._domainkey.bank.example;",
			"d=bank" + string(c) + ".example; s=s1;",
		} {
			for _, r := range dkimResults(t, zone, signAs(t, plainMessage, "v=1; a=rsa-sha256; "+names+" h=from;", key)) {
				if r == "pass" {
					t.Errorf("%q passes", names)
				}
			}
		}
	}
	for _, q := range zone.queries {
		t.Errorf("asked for %q", q)
	}
}

func TestFaultRSASHA1Accepted(t *testing.T) {
	zone := &fakeDNS{txt: map[string][]string{"s1._domainkey.example.com": {keyRecord(t, testKeys()["rsa"], "")}}}
	got := dkimResults(t, zone, signAs(t, plainMessage, "v=1; a=rsa-sha1; d=example.com; s=s1; h=from;", testKeys()["rsa"]))
	if len(got) != 1 || !strings.HasPrefix(got[0], "permerror") {
		t.Errorf("%s", got)
	}
}

// Keys are measured to the bit: one of 1023 bits is a short one.
func TestFaultShortKeysAccepted(t *testing.T) {
	for _, bits := range []int{512, 768, 1023} {
		t.Setenv("GODEBUG", "rsa1024min=0") // which only the making of the key needs
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		zone := &fakeDNS{txt: map[string][]string{"s1._domainkey.example.com": {keyRecord(t, key, "")}}}
		got := dkimResults(t, zone, signAs(t, plainMessage, "v=1; a=rsa-sha256; d=example.com; s=s1; h=from;", key))
		if len(got) != 1 || got[0] != fmt.Sprintf("permerror: the key has only %d bits", bits) {
			t.Errorf("%d bits: %s", bits, got)
		}
	}
}

// A tag whose name ends in b, or whose value has b=, must not be taken for the signature.
func TestFaultTagEndingInBBreaksSignature(t *testing.T) {
	key := testKeys()["rsa"]
	zone := &fakeDNS{txt: map[string][]string{"s1._domainkey.example.com": {keyRecord(t, key, "")}}}
	for _, tag := range []string{"xb=1;", "zb = abc;", "z=Subject:b=1|To:bb=2;", "B=x;"} {
		got := dkimResults(t, zone, signAs(t, plainMessage, "v=1; a=rsa-sha256; d=example.com; s=s1; h=from; "+tag, key))
		if len(got) != 1 || got[0] != "pass" {
			t.Errorf("%s %s", tag, got)
		}
	}
}

func TestFaultStrictAlignmentIgnored(t *testing.T) {
	zone := &fakeDNS{txt: map[string][]string{"_dmarc.example.com": {"v=DMARC1; p=reject; adkim=s; aspf=s"}}}
	res, err := CheckDMARC(context.Background(), zone, DMARCInput{
		Header: parseMessage(t, plainMessage).Header,
		SPF:    &SPFResult{Result: "pass", Domain: "bounce.example.com"},
		DKIM:   &DKIMResult{Signatures: []*DKIMSignature{{Result: "pass", Domain: "mail.example.com"}}},
	})
	if res.Result != "fail" || err != nil {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestFaultHeloIdentityNeverUsed(t *testing.T) {
	zone := &fakeDNS{txt: map[string][]string{"mail.example.com": {"v=spf1 -all"}}}
	res, err := CheckSPF(context.Background(), zone, SPFInput{IP: netip.MustParseAddr("192.0.2.7"), Helo: "mail.example.com", Now: time.Now()})
	if res.Result != "fail" || res.Identity != "helo" || err != nil {
		t.Errorf("%+v, %v", res, err)
	}
}

// A DNS that fails says nothing about what is there: every method has temperror, and not none, fail or permerror.
func TestFaultServfailTakenForNoRecord(t *testing.T) {
	key := testKeys()["rsa"]
	zone := &fakeDNS{fail: map[string]bool{
		"example.com": true, "s1._domainkey.example.com": true, "_dmarc.example.com": true, "192.0.2.7": true, "mail.example.com": true,
	}}
	res := authRun{ip: "192.0.2.7", helo: "mail.example.com", from: Path{Local: "joe", Domain: "example.com"},
		src: signAs(t, plainMessage, "v=1; a=rsa-sha256; d=example.com; s=s1; h=from;", key)}.result(t, zone)
	for _, a := range res.Auth {
		if a.Result != "temperror" && a.Method != "arc" {
			t.Errorf("%s=%s", a.Method, a.Result)
		}
	}
}

// allocated gives the octets that a function allocates: what it costs, without a clock.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A field folded into many lines costs what a field of its size costs; that it takes no more time is shown by BenchmarkDKIM.
func TestFaultFoldedHeaderHangs(t *testing.T) {
	key := testKeys()["rsa"]
	zone := &fakeDNS{txt: map[string][]string{"s1._domainkey.example.com": {keyRecord(t, key, "")}}}
	cost := func(field string) uint64 {
		m := parseMessage(t, signAs(t, field+"\r\n"+plainMessage, "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=s1; h=from:x;", key))
		return allocated(func() {
			res, err := CheckDKIM(context.Background(), zone, m.Header, m.Body(), DKIMOptions{Now: time.Now()})
			if err != nil || len(res.Passed()) != 1 {
				t.Errorf("%v, %+v", err, res.Signatures)
			}
		})
	}
	plain := cost("X: " + strings.Repeat("abcd ", 100_000))
	if folded := cost("X: " + strings.Repeat("a\r\n ", 125_000)); folded > 10*plain {
		t.Errorf("folded it allocates %d octets, plain %d", folded, plain)
	}
}

func listRun(t *testing.T, zone *fakeDNS, ip string) Report {
	t.Helper()
	cfg := DNSBLConfig{Lists: DNSBLLists{{Zone: "bl.example", Score: 6}}}
	c := newDNSBL(newDNSBLLists(cfg, zone, slog.New(slog.DiscardHandler)))
	return c.Run(context.Background(), Input{Client: &Client{IP: netip.MustParseAddr(ip)}, Now: time.Now()})
}

func TestFaultErrorCodesOfListsCounted(t *testing.T) {
	for _, code := range []string{"127.255.255.252", "127.255.255.254", "127.255.255.255", "127.0.1.255", "192.0.2.1"} {
		report := listRun(t, &fakeDNS{a: map[string][]string{"7.2.0.192.bl.example": {code, "127.0.0.2"}}}, "192.0.2.7")
		for _, f := range report.Findings {
			if f.Score != 0 || f.Symbol != "dnsbl.bl.example.error" {
				t.Errorf("%s: %+v", code, f)
			}
		}
	}
}

func TestFaultListThatListsEverythingBelieved(t *testing.T) {
	zone := &fakeDNS{a: map[string][]string{"7.2.0.192.bl.example": {"127.0.0.2"}, "1.0.0.127.bl.example": {"127.0.0.2"}}}
	if report := listRun(t, zone, "192.0.2.7"); len(report.Findings) != 1 || report.Findings[0].Score != 0 {
		t.Errorf("%+v", report.Findings)
	}
}

func TestFaultListedIPv6AddressLetThrough(t *testing.T) {
	zone := &fakeDNS{a: map[string][]string{"d.a.b.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example": {"127.0.0.2"}}}
	if report := listRun(t, zone, "2001:db8::bad"); len(report.Findings) != 1 || report.Findings[0].Score != 600 {
		t.Errorf("%+v", report.Findings)
	}
}

func TestFaultThirtyLookupsWhereTenAreAllowed(t *testing.T) {
	zone := &fakeDNS{txt: map[string][]string{"example.com": {"v=spf1" + strings.Repeat(" a:h.example", 30) + " -all"}},
		a: map[string][]string{"h.example": {"198.51.100.1"}}}
	res, err := CheckSPF(context.Background(), zone, SPFInput{IP: netip.MustParseAddr("192.0.2.7"), MailFrom: Path{Local: "a", Domain: "example.com"}})
	if res.Result != "permerror" || err != nil || len(zone.queries) > 11 { // the record, and ten
		t.Errorf("%s, %v, %d queries", res.Result, err, len(zone.queries))
	}
}

// TestBadInput bounds the queries and the memory that hostile mail costs, beside those of a plain message of its size,
// through all checks of sender authentication.
func TestBadInput(t *testing.T) {
	key := testKeys()["rsa"]
	plain := func(size int) string { return plainMessage + strings.Repeat("all work and no play\r\n", size/22) }
	forged := "DKIM-Signature: v=1; a=rsa-sha256; d=d%d.example; s=s1; h=from; bh=eA==; b=eA==\r\n"
	var signatures, addresses strings.Builder
	for i := range 300 {
		fmt.Fprintf(&signatures, forged, i)
	}
	for i := range 10_000 {
		fmt.Fprintf(&addresses, "a%d@d%d.example,\r\n ", i, i)
	}
	control := strings.NewReplacer("example.com", "exam\x01ple.c\x7fom").Replace(signAs(t, plainMessage, "v=1; a=rsa-sha256; d=example.com; s=s1; h=from;", key))
	for name, tt := range map[string]struct {
		src     string
		from    string
		queries int
	}{
		"300 signatures":                 {src: signatures.String() + plainMessage, queries: 25},
		"a 1 MB field":                   {src: "X: " + strings.Repeat("x", 1<<20-500) + "\r\n" + plainMessage, queries: 20},
		"20,000 fields":                  {src: strings.Repeat("X: y\r\n", 20_000) + plainMessage, queries: 20},
		"4 MB of empty lines":            {src: signAs(t, plainMessage+strings.Repeat("\r\n", 2<<20)+"x\r\n", "v=1; a=rsa-sha256; c=simple/simple; d=example.com; s=s1; h=from;", key), queries: 20},
		"From with 10,000 addresses":     {src: "From: " + addresses.String() + "b@example.org\r\n\r\nx\r\n", queries: 20},
		"control bytes in every domain":  {src: control, from: "exam\x00ple.com", queries: 20},
		"an SPF record that fans out":    {src: plainMessage, from: "fan.example", queries: 61 + 20},
		"a hundred and fifty ARC fields": {src: strings.Repeat("ARC-Seal: i=1; a=rsa-sha256; cv=none; d=a.example; s=s1; b=eA==\r\n", 150) + plainMessage, queries: 20},
	} {
		t.Run(name, func(t *testing.T) {
			zone := fanOut()
			zone.txt["s1._domainkey.example.com"] = []string{keyRecord(t, key, "")}
			run := authRun{ip: "192.0.2.7", helo: "mail.example.com", from: Path{Local: "joe", Domain: "example.com"}, src: plain(len(tt.src))}
			base := allocated(func() { run.result(t, fanOut()) })
			run.src = tt.src
			if tt.from != "" {
				run.from.Domain = tt.from
			}
			cost := allocated(func() { run.result(t, zone) })
			if limit := 10*base + 8<<20; cost > limit {
				t.Errorf("it allocates %d octets, a plain message of its size %d", cost, base)
			}
			if len(zone.queries) > tt.queries {
				t.Errorf("%d queries, want at most %d", len(zone.queries), tt.queries)
			}
			// Beside it, in the same run, an honest message of that size with a signature that has to be verified.
			honest := run
			honest.from.Domain = "example.com"
			honest.src = signAs(t, plain(len(tt.src)), "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=s1; h=from;", key)
			cheapEnough(t, func() { run.result(t, zone) }, func() { honest.result(t, zone) })
		})
	}
}

// cheapEnough wants f to cost at most ten times the processor time of usual. Of each the least of three counts, measured in
// turn: work of others on the machine can only add to a measurement.
func cheapEnough(t *testing.T, f, usual func()) {
	t.Helper()
	spent, allowed := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for range 3 {
		allowed = min(allowed, 10*max(processorTimeOf(usual), time.Millisecond)) // less can't be measured well
		spent = min(spent, processorTimeOf(f))
	}
	if spent > allowed {
		t.Errorf("it costs %v of CPU, more than ten times as much as an honest message of its size: %v", spent, allowed)
	}
}

// processorTimeOf is the processor time that f takes, of all its goroutines. The collector, which might be at work for
// something else, rests meanwhile.
func processorTimeOf(f func()) time.Duration {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	before := processorTime()
	f()
	return processorTime() - before
}

func processorTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		panic(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// fanOut holds the SPF record of fan.example, whose nine MX have ten hosts each.
func fanOut() *fakeDNS {
	zone := &fakeDNS{txt: map[string][]string{}, mx: map[string][]dns.MX{}, a: map[string][]string{}}
	record := "v=spf1"
	for i := range 9 {
		domain := fmt.Sprintf("d%d.example", i)
		record += " mx:" + domain
		for j := range 10 {
			host := fmt.Sprintf("h%d.%s", j, domain)
			zone.mx[domain] = append(zone.mx[domain], dns.MX{Host: host})
			zone.a[host] = []string{"198.51.100.1"}
		}
	}
	zone.txt["fan.example"] = []string{record + " -all"}
	return zone
}
