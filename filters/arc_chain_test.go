package filters

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sealARC adds a set to a message whose chain has instance-1 sets on top. tags go into the message signature.
func sealARC(t testing.TB, src, domain string, instance int, state, results, tags string, key crypto.Signer) string {
	t.Helper()
	m := parseMessage(t, src)
	body := newBodyDigest(true, -1)
	if _, err := io.Copy(body, m.Body()); err != nil {
		t.Fatal(err)
	}
	algorithm := "rsa-sha256"
	var opts crypto.SignerOpts = crypto.SHA256
	if _, ok := key.(ed25519.PrivateKey); ok {
		algorithm, opts = "ed25519-sha256", crypto.Hash(0)
	}
	sign := func(digest []byte) string {
		sig, err := key.Sign(rand.Reader, digest, opts)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(sig)
	}
	sealed := sha256.New()
	for n := 1; n < instance; n++ {
		for _, name := range []string{"ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"} {
			fields := m.Header.All(name)
			sealed.Write(canonicalField(nil, fields[len(fields)-n].Raw, true))
		}
	}
	aar := fmt.Sprintf("ARC-Authentication-Results: i=%d; %s\r\n", instance, results)
	ams := fmt.Sprintf("ARC-Message-Signature: i=%d; a=%s; c=relaxed/relaxed; d=%s; s=s1; h=from:subject; %sbh=%s; b=",
		instance, algorithm, domain, tags, base64.StdEncoding.EncodeToString(body.final()))
	h := sha256.New()
	for _, name := range []string{"From", "Subject"} {
		if f, ok := m.Header.First(name); ok {
			h.Write(canonicalField(nil, f.Raw, true))
		}
	}
	h.Write(bytes.TrimSuffix(canonicalField(nil, []byte(ams), true), crlf))
	ams += sign(h.Sum(nil)) + "\r\n"
	seal := fmt.Sprintf("ARC-Seal: i=%d; a=%s; cv=%s; d=%s; s=s1; b=", instance, algorithm, state, domain)
	sealed.Write(canonicalField(nil, []byte(aar), true))
	sealed.Write(canonicalField(nil, []byte(ams), true))
	sealed.Write(bytes.TrimSuffix(canonicalField(nil, []byte(seal), true), crlf))
	return seal + sign(sealed.Sum(nil)) + "\r\n" + ams + aar + src
}

// sealTimes seals a message several times, by a.example, b.example and so on in turn.
func sealTimes(t testing.TB, src string, times int, key crypto.Signer) string {
	for i := range times {
		state := map[bool]string{true: "none", false: "pass"}[i == 0]
		src = sealARC(t, src, fmt.Sprintf("s%d.example", i+1), i+1, state, "mx.example; spf=none", "", key)
	}
	return src
}

// arcZone holds the keys of s1.example to s60.example and lists.example.
func arcZone(t testing.TB, key crypto.Signer) *fakeDNS {
	zone := &fakeDNS{txt: map[string][]string{}, fail: map[string]bool{}}
	record := []string{keyRecord(t, key, "")}
	for i := range 60 {
		zone.txt[fmt.Sprintf("s1._domainkey.s%d.example", i+1)] = record
	}
	zone.txt["s1._domainkey.lists.example"] = record
	return zone
}

func TestARCChain(t *testing.T) {
	key := testKeys()["ed25519"]
	one := sealARC(t, plainMessage, "s1.example", 1, "none", "mx.example; spf=none", "", key)
	changed := strings.Replace(one, "Subject: dinner", "Subject: [list] dinner", 1)
	resealed := sealARC(t, changed, "s2.example", 2, "pass", "mx.example; spf=none", "", key)
	tests := []struct {
		reason, src, want string
		oldest, queries   int
	}{
		{reason: "no chain", src: plainMessage, want: "none: it was never sealed", oldest: -1},
		{reason: "three sets that all hold", src: sealTimes(t, plainMessage, 3, key), want: "pass: ", oldest: 0, queries: 3},
		{reason: "changed and sealed anew: the first message signature does not hold any more", src: resealed, want: "pass: ", oldest: 2, queries: 2},
		{reason: "changed behind the last seal", src: changed, want: "fail: message signature 1 of s1.example: the header was changed, or the key is another", oldest: -1, queries: 1},
		{reason: "a changed body costs no query", src: strings.Replace(one, "Hi.", "Ho.", 1), want: "fail: message signature 1: the body was changed", oldest: -1},
		{reason: "a set taken out", src: strings.Replace(sealTimes(t, plainMessage, 2, key), "ARC-Seal: i=1", "X-Seal: i=1", 1), want: "fail: set 1 is not whole", oldest: -1},
		{reason: "results changed", src: strings.Replace(one, "spf=none", "spf=pass", 1), want: "fail: seal 1 of s1.example: the chain was changed, or the key is another", oldest: -1, queries: 1},
		{reason: "sealed as failed", src: sealARC(t, one, "s2.example", 2, "fail", "mx.example; spf=none", "", key), want: "fail: it had failed already when s2.example sealed it", oldest: -1},
		{reason: "l= in a message signature", src: sealARC(t, plainMessage, "s1.example", 1, "none", "mx; spf=none", "l=3; ", key), want: "fail: ARC-Message-Signature: l= leaves the rest of the body open to anyone", oldest: -1},
		{reason: "an expired message signature", src: sealARC(t, plainMessage, "s1.example", 1, "none", "mx; spf=none", "x=1000; ", key), want: "fail: message signature 1 of s1.example: it expired on 1970-01-01", oldest: -1, queries: 1},
		{reason: "no key", src: sealARC(t, plainMessage, "keyless.example", 1, "none", "mx; spf=none", "", key), want: "fail: message signature 1 of keyless.example: there is no key", oldest: -1, queries: 1},
		{reason: "its key can't be had for now", src: sealARC(t, plainMessage, "down.example", 1, "none", "mx; spf=none", "", key), want: "temperror: message signature 1 of down.example: the look-up of its key failed", oldest: -1, queries: 1},
		{reason: "a control byte in the domain", src: sealARC(t, plainMessage, "s1.exa\x01mple", 1, "none", "mx; spf=none", "", key), want: "fail: ARC-Seal: tag d has a character that is not allowed", oldest: -1},
		{reason: "fifty sets, the most there may be", src: sealTimes(t, plainMessage, 50, key), want: "pass: ", oldest: 0, queries: 50},
		{reason: "fifty-one sets", src: sealTimes(t, plainMessage, 51, key), want: "fail: ARC-Seal: i= is no number from 1 to 50", oldest: -1},
		{reason: "a hundred and fifty-one seals of nothing", src: strings.Repeat("ARC-Authentication-Results: x\r\n", 151) + plainMessage, want: "fail: ARC-Authentication-Results: it does not begin with i=", oldest: -1},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			zone := arcZone(t, key)
			zone.fail["s1._domainkey.down.example"] = true
			res := checkARC(t, zone, tt.src)
			if got := res.Result + ": " + res.Reason; got != tt.want || res.OldestPass != tt.oldest {
				t.Errorf("%s, oldest pass %d, want %s, %d", got, res.OldestPass, tt.want, tt.oldest)
			}
			if len(zone.queries) != tt.queries {
				t.Errorf("%d queries, want %d: %v", len(zone.queries), tt.queries, zone.queries)
			}
		})
	}
}

// TestARCAuthResult writes the registered property, and no comment of the sealer's.
func TestARCAuthResult(t *testing.T) {
	key := testKeys()["ed25519"]
	res := checkARC(t, arcZone(t, key), sealTimes(t, plainMessage, 2, key))
	field := string(AuthResults{AuthservID: "mx.example.org", Results: []AuthResult{res.authResult()}}.Field().Raw)
	want := "Authentication-Results: mx.example.org;\r\n\tarc=pass reason=\"sealed by s1.example, s2.example\" header.oldest-pass=0\r\n"
	if field != want {
		t.Errorf("%q, want %q", field, want)
	}
}

func TestTestimony(t *testing.T) {
	tests := []struct{ value, want, reason string }{
		{value: "i=1; mx.example; dmarc=pass header.from=example.com", want: "dmarc=pass", reason: "DMARC of the author domain"},
		{value: "i=1; mx.example; dmarc=pass (p=reject dis=none) header.from=EXAMPLE.com", want: "dmarc=pass", reason: "with a comment, in capitals"},
		{value: "i=1; mx.example; dmarc=pass header.from=example.net", reason: "DMARC of another domain"},
		{value: "i=1; mx.example; dmarc=fail header.from=example.com", reason: "a failure"},
		{value: "i=1; mx.example; dmarc=pass", reason: "nobody says of whom"},
		{value: "i=1; mx.example; dkim=pass header.i=@news.example.com", want: "dkim=pass of news.example.com", reason: "DKIM of the same organization"},
		{value: "i=1; mx.example; dkim=pass header.i=@example.com.evil.example", reason: "a domain that only begins like it"},
		{value: "i=1; mx.example; spf=pass smtp.mailfrom=joe@example.com", want: "spf=pass of example.com", reason: "SPF"},
		{value: "i=1; mx.example; spf=pass smtp.helo=example.com", reason: "SPF of HELO says nothing of the author"},
		{value: "i=1; mx.example; spf=fail (x; dmarc=pass header.from=example.com) smtp.mailfrom=a@b.example", reason: "a result within a comment"},
		{value: "i=1; mx.example; spf=fail reason=\"; dmarc=pass header.from=example.com\" smtp.mailfrom=a@b.example", reason: "a result within a string"},
		{value: "i=1; mx.microsoft.com 1; spf=pass smtp.mailfrom=example.com; dmarc=pass action=none header.from=example.com; arc=none", want: "spf=pass of example.com", reason: "as Microsoft writes it"},
		{value: "i=1; mx.example; dmarc=pass action=none header.from=example.com", want: "dmarc=pass", reason: "with a word that is no property"},
		{value: "i=1", reason: "nothing"},
	}
	for _, tt := range tests {
		if got := testimony(tt.value, "example.com"); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.reason, got, tt.want)
		}
	}
}

// overrideRun judges a message of a list by DMARC.
func overrideRun(t *testing.T, zone *fakeDNS, cfg Config, ip string, from Path, src string) Result {
	t.Helper()
	p, err := NewPipeline(stages(
		newIprev(cfg.Iprev.Own, zone), newSPF(cfg.SPF.Own, zone), newDKIM(cfg.DKIM.Own, zone), newARC(cfg.ARC.Own, zone),
		newDMARC(cfg.DMARC.Own, cfg.ARC.Own.Sealers, zone),
	))
	if err != nil {
		t.Fatal(err)
	}
	run := p.Start(context.Background(), &Client{IP: netip.MustParseAddr(ip)}, time.Now)
	defer run.Close()
	run.Mail(&Mail{From: from})
	run.Message(nil, parseMessage(t, src))
	return run.Collect(context.Background())
}

// TestDMARCOverrides lets failures pass for the reasons that the administrator listed, names them, and for nothing else.
func TestDMARCOverrides(t *testing.T) {
	key := testKeys()["ed25519"]
	vouched := "mx.lists.example; dmarc=pass header.from=example.com"
	sealed := func(results string) string {
		return sealARC(t, plainMessage, "lists.example", 1, "none", results, "", key)
	}
	twice := sealARC(t, sealed(vouched), "s2.example", 2, "pass", "mx.s2.example; dmarc=fail header.from=example.com", "", key)
	listed := "List-Id: <talk.lists.example>\r\n" + plainMessage
	signed := func(src, domain string) string {
		return signAs(t, src, "v=1; a=ed25519-sha256; d="+domain+"; s=s1; h=from;", key)
	}
	tests := []struct {
		reason, ip, from, src string
		set                   func(*Config)
		want                  string // kind; "" for none
	}{
		{reason: "nothing is listed", src: sealed(vouched)},
		{reason: "a listed sealer vouches", src: sealed(vouched), set: func(c *Config) { c.ARC.Own.Sealers = DomainNames{"lists.example"} }, want: "arc"},
		{reason: "another sealer is listed", src: sealed(vouched), set: func(c *Config) { c.ARC.Own.Sealers = DomainNames{"s2.example"} }},
		{reason: "a listed sealer found it failing", src: sealed("mx; dmarc=fail header.from=example.com"), set: func(c *Config) { c.ARC.Own.Sealers = DomainNames{"lists.example"} }},
		{reason: "the chain is broken", src: strings.Replace(sealed(vouched), "Hi.", "Ho.", 1), set: func(c *Config) { c.ARC.Own.Sealers = DomainNames{"lists.example"} }},
		{reason: "the latest sealer is not listed, one before is", src: twice, set: func(c *Config) { c.ARC.Own.Sealers = DomainNames{"lists.example"} }},
		{reason: "the latest sealer is listed and knows nothing, the one before is not listed", src: twice, set: func(c *Config) { c.ARC.Own.Sealers = DomainNames{"s2.example"} }},
		{reason: "both are listed, the first one vouches", src: twice, set: func(c *Config) { c.ARC.Own.Sealers = DomainNames{"lists.example", "s2.example"} }, want: "arc"},

		{reason: "a forwarder by network", set: func(c *Config) {
			c.DMARC.Own.Overrides.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		}, want: "forwarder"},
		{reason: "a forwarder by another network", set: func(c *Config) {
			c.DMARC.Own.Overrides.Networks = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		}},
		{reason: "a forwarder by confirmed name", set: func(c *Config) { c.DMARC.Own.Overrides.Hosts = DomainNames{"forwarder.example"} }, want: "forwarder"},
		{reason: "a forwarder by a name that is not confirmed", ip: "192.0.2.8", set: func(c *Config) { c.DMARC.Own.Overrides.Hosts = DomainNames{"forwarder.example"} }},

		{reason: "a list that signs, and gets the bounces", from: "lists.example", src: signed(listed, "lists.example"), set: func(c *Config) { c.DMARC.Own.Overrides.Lists = DomainNames{"lists.example"} }, want: "list"},
		{reason: "a list whose bounces go elsewhere", from: "evil.example", src: signed(listed, "lists.example"), set: func(c *Config) { c.DMARC.Own.Overrides.Lists = DomainNames{"lists.example"} }},
		{reason: "no mail of a list", from: "lists.example", src: signed(plainMessage, "lists.example"), set: func(c *Config) { c.DMARC.Own.Overrides.Lists = DomainNames{"lists.example"} }},
		{reason: "a list that does not sign", from: "lists.example", src: listed, set: func(c *Config) { c.DMARC.Own.Overrides.Lists = DomainNames{"lists.example"} }},
		{reason: "another signs for the list", from: "lists.example", src: signed(listed, "s2.example"), set: func(c *Config) { c.DMARC.Own.Overrides.Lists = DomainNames{"lists.example"} }},

		{reason: "a domain that DKIM authenticated", src: signed(plainMessage, "s2.example"), set: func(c *Config) { c.DMARC.Own.Overrides.Domains = DomainNames{"s2.example"} }, want: "domain"},
		{reason: "a domain that SPF authenticated", from: "news.partner.example", set: func(c *Config) { c.DMARC.Own.Overrides.Domains = DomainNames{"partner.example"} }, want: "domain"},
		{reason: "a domain that nothing authenticated", from: "lists.example", set: func(c *Config) { c.DMARC.Own.Overrides.Domains = DomainNames{"lists.example"} }},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			zone := arcZone(t, key)
			zone.txt["_dmarc.example.com"] = []string{"v=DMARC1; p=reject"}
			zone.txt["news.partner.example"] = []string{"v=spf1 ip4:192.0.2.7 -all"}
			zone.ptr = map[string][]string{"192.0.2.7": {"mx1.forwarder.example"}, "192.0.2.8": {"mx1.forwarder.example"}}
			zone.a = map[string][]string{"mx1.forwarder.example": {"192.0.2.7"}}
			cfg := DefaultConfig()
			if tt.set != nil {
				tt.set(&cfg)
			}
			if tt.ip == "" {
				tt.ip = "192.0.2.7"
			}
			if tt.src == "" {
				tt.src = plainMessage
			}
			from := Path{}
			if tt.from != "" {
				from = Path{Local: "bounces", Domain: tt.from}
			}
			checkOverride(t, overrideRun(t, zone, cfg, tt.ip, from, tt.src), tt.want)
		})
	}
}

// checkOverride wants a failure that forces a refusal and weighs five points, or one that is overridden, forces
// nothing and weighs nothing.
func checkOverride(t *testing.T, res Result, kind string) {
	t.Helper()
	var got []string
	total, force := Score(0), NoAction
	for _, f := range res.Findings {
		if strings.HasPrefix(f.Symbol, "dmarc.") {
			got = append(got, f.Symbol)
			total += f.Score
			force = max(force, f.Force)
		}
	}
	want := []string{"dmarc.fail", "dmarc.policy_reject"}
	wantTotal, wantForce := Score(500), Reject
	if kind != "" {
		want = append(want, "dmarc.override."+kind)
		wantTotal, wantForce = 0, NoAction
	}
	if diff := cmp.Diff(want, got); diff != "" || total != wantTotal || force != wantForce {
		t.Errorf("score %s, force %s, findings (-want +got):\n%s", total, force, diff)
	}
	last := res.Auth[len(res.Auth)-1]
	if last.Result != "fail" || strings.Contains(last.Reason, "let through: "+kind) != (kind != "") {
		t.Errorf("dmarc=%s %q", last.Result, last.Reason)
	}
}

// TestDMARCWaitsForTheKeyOfASealer: where a chain of a listed sealer can't be validated for now, the failure is not certain.
func TestDMARCWaitsForTheKeyOfASealer(t *testing.T) {
	key := testKeys()["ed25519"]
	zone := arcZone(t, key)
	zone.txt["_dmarc.example.com"] = []string{"v=DMARC1; p=reject"}
	zone.fail["s1._domainkey.down.example"] = true
	cfg := DefaultConfig()
	cfg.ARC.Own.Sealers = DomainNames{"down.example"}
	src := sealARC(t, plainMessage, "down.example", 1, "none", "mx; dmarc=pass header.from=example.com", "", key)
	res := overrideRun(t, zone, cfg, "192.0.2.7", Path{}, src)
	last := res.Auth[len(res.Auth)-1]
	if last.Method != "dmarc" || last.Result != "temperror" {
		t.Errorf("%s=%s", last.Method, last.Result)
	}
}

// FuzzARC reads any fields without harm: what does not hold fails, and no more keys are asked for than are allowed.
func FuzzARC(f *testing.F) {
	f.Add("i=1; mx.example; spf=pass", "i=1; a=rsa-sha256; c=relaxed/relaxed; d=a.example; s=s1; h=from; bh=eA==; b=eA==", "i=1; a=rsa-sha256; cv=none; d=a.example; s=s1; b=eA==")
	f.Add("i=01;", "i=50;;", "i=0; cv=; h=x")
	f.Fuzz(func(t *testing.T, results, signature, seal string) {
		strip := strings.NewReplacer("\r", "", "\n", "")
		src := "ARC-Seal: " + strip.Replace(seal) + "\r\nARC-Message-Signature: " + strip.Replace(signature) +
			"\r\nARC-Authentication-Results: " + strip.Replace(results) + "\r\n" + plainMessage
		zone := &fakeDNS{txt: map[string][]string{"s1._domainkey.a.example": {rfc8463RSA}}}
		res := checkARC(t, zone, src)
		if res.Result == "pass" || len(zone.queries) > maxARCQueries {
			t.Errorf("%s with %d queries", res.Result, len(zone.queries))
		}
		testimony(results, "example.com")
	})
}

func BenchmarkARC(b *testing.B) {
	key := testKeys()["rsa"]
	for _, sets := range []int{1, 5, 50} {
		b.Run(fmt.Sprintf("%d sets", sets), func(b *testing.B) {
			zone := arcZone(b, key)
			m := parseMessage(b, sealTimes(b, plainMessage, sets, key))
			b.ReportAllocs()
			for b.Loop() {
				zone.queries = zone.queries[:0]
				res, err := CheckARC(context.Background(), zone, m.Header, m.Body(), time.Now())
				if err != nil || res.Result != "pass" {
					b.Fatal(res, err)
				}
			}
		})
	}
}
