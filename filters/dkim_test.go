package filters

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/google/go-cmp/cmp"

	"postern/filters/message"
)

// The keys of RFC 6376 appendix C and RFC 8463 appendix A.2.
const (
	rfc6376Key = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt" +
		"IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhi" +
		"tdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
	rfc8463Ed25519 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	rfc8463RSA     = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/b" +
		"yYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
)

func TestDKIMRFCExamples(t *testing.T) {
	zone := &fakeDNS{txt: map[string][]string{
		"brisbane._domainkey.example.com":          {rfc6376Key},
		"brisbane._domainkey.football.example.com": {rfc8463Ed25519},
		"test._domainkey.football.example.com":     {rfc8463RSA},
	}}
	tests := []struct {
		file string
		want []string
	}{
		{file: "rfc6376-A.2", want: []string{"pass"}},
		{file: "rfc6376-A.2-body_modified", want: []string{"fail: the body was changed"}},
		{file: "rfc6376-A.2-header_subject_modified", want: []string{"fail: the header was changed, or the key is another"}},
		{file: "rfc6376-A.2-ill_formed-missing_v", want: []string{"neutral: tag v is missing"}},
		{file: "rfc8463-A.3", want: []string{"pass", "pass"}},
		{file: "rfc8463-A.3-key_algo_mismatch", want: []string{"permerror: the key is for rsa", "permerror: the key is for ed25519"}},
		{file: "ill_formed-from", want: nil},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			m := readMessage(t, "testdata/dkim/"+tt.file+".eml")
			got, err := verifyMessage(zone, m, DKIMOptions{Now: time.Now()})
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
		})
	}
}

// verifyMessage gives the results as "result: reason".
func verifyMessage(zone *fakeDNS, m *message.Message, opts DKIMOptions) ([]string, error) {
	res, err := CheckDKIM(context.Background(), zone, m.Header, m.Body(), opts)
	var got []string
	for _, s := range res.Signatures {
		got = append(got, strings.TrimSuffix(s.Result+": "+s.Reason, ": "))
	}
	return got, err
}

// testKeys are made once: RSA keys take long.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	keys := map[string]crypto.Signer{}
	for name, bits := range map[string]int{"rsa": 2048, "rsa1024": 1024} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		keys[name] = key
	}
	_, keys["ed25519"], _ = ed25519.GenerateKey(rand.Reader)
	return keys
})

// keyRecord writes the record of a key, with more tags before p=.
func keyRecord(t testing.TB, key crypto.Signer, tags string) string {
	t.Helper()
	switch pub := key.Public().(type) {
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; " + tags + "p=" + base64.StdEncoding.EncodeToString(pub)
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		return "v=DKIM1; k=rsa; " + tags + "p=" + base64.StdEncoding.EncodeToString(der)
	}
	t.Fatal("unknown key")
	return ""
}

const plainMessage = "From: Joe <joe@example.com>\r\nTo: Suzie <suzie@example.org>\r\nSubject: dinner\r\n" +
	"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\n\r\nHi.\r\n\r\nWe lost  the game. \r\n\r\n\r\n"

// TestDKIMPeer verifies what another implementation signed, over every kind of body end and white space, and wants
// the same judgement as that implementation gives.
func TestDKIMPeer(t *testing.T) {
	bodies := []string{
		"", "\r\n", "\r\n\r\n\r\n", "x", "x\r\n", "x\r\n\r\n", " \r\n", "\t \r\n\r\n", "x \t y  \r\n  z\r\n \r\n",
		"Hi.\r\n\r\nWe lost  the game. \r\n\r\n\r\n", "a\rb\r\n",
		strings.Repeat("0123456789 ", 20000) + "\r\n", strings.Repeat("\r\n", 5000) + "x",
	}
	for _, keyName := range []string{"rsa", "ed25519"} {
		key := testKeys()[keyName]
		zone := &fakeDNS{txt: map[string][]string{"s1._domainkey.example.com": {keyRecord(t, key, "")}}}
		for _, canon := range []dkim.Canonicalization{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed} {
			for i, body := range bodies {
				t.Run(fmt.Sprintf("%s/%s/%d", keyName, canon, i), func(t *testing.T) {
					src := "From: Joe\r\n\t <joe@example.com>\r\nSUBJECT :  a   b\t\r\nX-Empty:\r\nX-Empty:  \r\n\r\n" + body
					signed := signWithPeer(t, src, key, canon)
					m := parseMessage(t, signed)
					got, err := verifyMessage(zone, m, DKIMOptions{Now: time.Now()})
					if diff := cmp.Diff([]string{"pass"}, got); diff != "" || err != nil {
						t.Errorf("results (-want +got), error %v:\n%s", err, diff)
					}
					if len(body) > 0 && strings.TrimSpace(body) != "" {
						m = parseMessage(t, strings.TrimRight(signed, " \r\n")+"!\r\n")
						got, _ = verifyMessage(zone, m, DKIMOptions{Now: time.Now()})
						if diff := cmp.Diff([]string{"fail: the body was changed"}, got); diff != "" {
							t.Errorf("changed body (-want +got):\n%s", diff)
						}
					}
				})
			}
		}
	}
}

func signWithPeer(t testing.TB, src string, key crypto.Signer, canon dkim.Canonicalization) string {
	t.Helper()
	var out bytes.Buffer
	err := dkim.Sign(&out, strings.NewReader(src), &dkim.SignOptions{
		Domain: "example.com", Selector: "s1", Signer: key,
		HeaderCanonicalization: canon, BodyCanonicalization: canon,
		HeaderKeys: []string{"From", "Subject", "X-Empty", "X-Empty", "X-Absent"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// signAs signs a message with tags of the caller's. The signature stands last, so that nothing has to be cut out of it.
func signAs(t testing.TB, src, tags string, key crypto.Signer) string {
	t.Helper()
	m := parseMessage(t, src)
	relaxed := strings.Contains(tags, "c=relaxed")
	body := newBodyDigest(relaxed, -1)
	if i := strings.Index(tags, " l="); i >= 0 {
		fmt.Sscanf(tags[i:], " l=%d;", &body.limit)
	}
	if _, err := io.Copy(body, m.Body()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(tags, "bh=") {
		tags += " bh=" + base64.StdEncoding.EncodeToString(body.final()) + ";"
	}
	field := "DKIM-Signature: " + tags + " b="
	h := sha256.New()
	list, _ := parseTagList(tags) // some cases are no tags at all
	used, byName := map[string]int{}, map[string][]message.Field{}
	for name := range strings.SplitSeq(list.dense("h"), ":") {
		if _, known := byName[name]; !known {
			byName[name] = m.Header.All(name)
		}
		fields := byName[name]
		used[name]++
		if i := len(fields) - used[name]; i >= 0 {
			h.Write(canonicalField(nil, fields[i].Raw, relaxed))
		}
	}
	h.Write(bytes.TrimSuffix(canonicalField(nil, []byte(field), relaxed), []byte("\r\n")))
	var opts crypto.SignerOpts = crypto.SHA256
	if _, ok := key.(ed25519.PrivateKey); ok {
		opts = crypto.Hash(0)
	}
	sig, err := key.Sign(rand.Reader, h.Sum(nil), opts)
	if err != nil {
		t.Fatal(err)
	}
	return field + base64.StdEncoding.EncodeToString(sig) + "\r\n" + src
}

func TestDKIMJudgement(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	const at = "s1._domainkey.example.com"
	rsaKey, weak, ed := testKeys()["rsa"], weakKey(t), testKeys()["ed25519"]
	good := []string{keyRecord(t, rsaKey, "")}
	tests := []struct {
		name string // the reason for the case
		tags string // "" for those of a plain good signature
		key  crypto.Signer
		txt  []string // nil for the plain good record
		opts DKIMOptions
		want string
	}{
		{name: "plain", want: "pass"},
		{name: "ed25519", tags: "v=1; a=ed25519-sha256; d=example.com; s=s1; h=from;", key: ed, txt: []string{keyRecord(t, ed, "")}, want: "pass"},
		{name: "a 1024-bit key is enough", key: testKeys()["rsa1024"], txt: []string{keyRecord(t, testKeys()["rsa1024"], "")}, want: "pass"},
		{name: "a 1020-bit key is not", key: weak, txt: []string{keyRecord(t, weak, "")}, want: "permerror: the key has only 1020 bits"},
		{name: "rsa-sha1", tags: "v=1; a=rsa-sha1; d=example.com; s=s1; h=from;", want: "permerror: rsa-sha1 is not accepted any more"},
		{name: "b= within another tag", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; z=From:b=xyz; h=from; fb=1;", want: "pass"},
		{name: "i= in other case", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; i=joe@Sub.EXAMPLE.com; h=from;", want: "pass"},
		{name: "d= in other case", tags: "v=1; a=rsa-sha256; d=EXAMPLE.com; s=S1; h=from;", want: "pass"},
		{name: "i= of another domain", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; i=joe@notexample.com; h=from;", want: "neutral: i= is no address in the domain of d="},
		{name: "tags in any order, spaces everywhere", tags: "h = from :\r\n subject; s = s1; d = example.com;\r\n\t a = rsa-sha256; v = 1;", want: "pass"},
		{name: "relaxed", tags: "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=s1; h=from:subject;", want: "pass"},
		{name: "From not signed", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; h=subject;", want: "permerror: the From field is not signed"},
		{name: "another From is signed as absent", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; h=from:from:from;", want: "pass"},
		{name: "l= is never trusted", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; l=3; h=from;", want: "policy: l= leaves the rest of the body open to anyone"},
		{name: "l= beyond the body", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; l=30000; h=from;", want: "permerror: l= is more than the body has"},
		{name: "expired", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; t=1999990000; x=1999999999; h=from;", want: "policy: it expired on 2033-05-18"},
		{name: "not yet expired", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; t=1999990000; x=2000000001; h=from;", want: "pass"},
		{name: "expires before it was made", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; t=2000000000; x=1999999999; h=from;", want: "neutral: it expires before it was made"},
		{name: "made in the future", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; t=2000010000; h=from;", want: "policy: it was made in the future"},
		{name: "a clock that is a little ahead", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; t=2000000060; h=from;", want: "pass"},
		{name: "an expiry beyond all dates", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; x=99999999999999999999999; h=from;", want: "pass"},
		{name: "time is no number", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; t=-1; h=from;", want: "neutral: t= is no number"},
		{name: "unknown version", tags: "v=2; a=rsa-sha256; d=example.com; s=s1; h=from;", want: `neutral: version "2" is unknown`},
		{name: "unknown algorithm", tags: "v=1; a=rsa-sha512; d=example.com; s=s1; h=from;", want: `neutral: algorithm "rsa-sha512" is unknown`},
		{name: "unknown canonicalization", tags: "v=1; a=rsa-sha256; c=nowsp; d=example.com; s=s1; h=from;", want: `neutral: canonicalization "nowsp" is unknown`},
		{name: "unknown key method", tags: "v=1; a=rsa-sha256; q=https; d=example.com; s=s1; h=from;", want: "neutral: no known way to get its key"},
		{name: "a known key method among others", tags: "v=1; a=rsa-sha256; q=https:dns/txt; d=example.com; s=s1; h=from;", want: "pass"},
		{name: "a tag twice", tags: "v=1; a=rsa-sha256; d=example.com; d=example.net; s=s1; h=from;", want: "neutral: tag d stands there twice"},
		{name: "a NUL in the domain", tags: "v=1; a=rsa-sha256; d=example.com\x00.evil.example; s=s1; h=from;", want: "neutral: tag d has a character that is not allowed"},
		{name: "a NUL in the selector", tags: "v=1; a=rsa-sha256; d=example.com; s=s1\x00x; h=from;", want: "neutral: tag s has a character that is not allowed"},
		{name: "a space in the domain", tags: "v=1; a=rsa-sha256; d=exam ple.com; s=s1; h=from;", want: "neutral: d= is no domain"},
		{name: "an octet above 127 in the selector", tags: "v=1; a=rsa-sha256; d=example.com; s=s1\xff; h=from;", want: "neutral: tag s has a character that is not allowed"},
		{name: "empty label in the selector", tags: "v=1; a=rsa-sha256; d=example.com; s=s1..x; h=from;", want: "neutral: s= is no selector"},
		{name: "no tags", tags: " h=from;", want: "neutral: tag v is missing"},

		{name: "no key", txt: []string{}, want: "permerror: there is no key"},
		{name: "revoked key", txt: []string{"v=DKIM1; p="}, want: "permerror: the key is revoked"},
		{name: "key of another kind", txt: []string{keyRecord(t, ed, "")}, want: "permerror: the key is for ed25519"},
		{name: "key of a stranger", txt: []string{keyRecord(t, testKeys()["rsa1024"], "")}, want: "fail: the header was changed, or the key is another"},
		{name: "key beside other records", txt: []string{"v=spf1 -all", good[0]}, want: "pass"},
		{name: "two keys under one selector", txt: []string{keyRecord(t, testKeys()["rsa1024"], ""), good[0]}, want: "pass"},
		{name: "key with another version", txt: []string{strings.Replace(good[0], "DKIM1", "DKIM2", 1)}, want: "permerror: bad key record: not version DKIM1"},
		{name: "key without version", txt: []string{strings.TrimPrefix(good[0], "v=DKIM1; ")}, want: "pass"},
		{name: "key with its version at the end", txt: []string{strings.TrimPrefix(good[0], "v=DKIM1; ") + "; v=DKIM1"}, want: "permerror: bad key record: not version DKIM1"},
		{name: "key that is no base64", txt: []string{"v=DKIM1; p=!!"}, want: "permerror: bad key record: p= is no base64"},
		{name: "key that is no key", txt: []string{"v=DKIM1; p=aGVsbG8="}, want: "permerror: bad key record: no RSA key"},
		{name: "key for sha1 only", txt: []string{keyRecord(t, rsaKey, "h=sha1; ")}, want: "permerror: the key is not for sha256"},
		{name: "key for both hashes", txt: []string{keyRecord(t, rsaKey, "h=sha1:sha256; ")}, want: "pass"},
		{name: "key for another service", txt: []string{keyRecord(t, rsaKey, "s=tlsrpt; ")}, want: "permerror: the key is not for mail"},
		{name: "key for every service", txt: []string{keyRecord(t, rsaKey, "s=*; ")}, want: "pass"},
		{name: "key in test mode", txt: []string{keyRecord(t, rsaKey, "t=y; ")}, want: "neutral: its key is being tested (t=y)"},
		{name: "key in test mode, trusted", txt: []string{keyRecord(t, rsaKey, "t=y:x; ")}, opts: DKIMOptions{TrustTest: true}, want: "pass"},
		{name: "strict key", txt: []string{keyRecord(t, rsaKey, "t=s; ")}, want: "pass"},
		{name: "strict key, i= in a subdomain", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; i=@sub.example.com; h=from;",
			txt: []string{keyRecord(t, rsaKey, "t=s; ")}, want: "permerror: the key is not for subdomains, which i= is in"},
		{name: "strict key, i= in the domain", tags: "v=1; a=rsa-sha256; d=example.com; s=s1; i=@Example.com; h=from;",
			txt: []string{keyRecord(t, rsaKey, "t=s; ")}, want: "pass"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.tags == "" {
				tt.tags = "v=1; a=rsa-sha256; c=simple/simple; d=example.com; s=s1; h=from:to:subject;"
			}
			if tt.key == nil {
				tt.key = rsaKey
			}
			if tt.txt == nil {
				tt.txt = good
			}
			tt.opts.Now = now
			zone := &fakeDNS{txt: map[string][]string{at: tt.txt}}
			m := parseMessage(t, signAs(t, plainMessage, tt.tags, tt.key))
			got, err := verifyMessage(zone, m, tt.opts)
			if diff := cmp.Diff([]string{tt.want}, got); diff != "" || err != nil {
				t.Errorf("results (-want +got), error %v:\n%s", err, diff)
			}
		})
	}
}

// weakKey makes a key of 1020 bits, which a count of octets takes for one of 1024. Nobody in Go's library makes or signs
// with one, so it is done by hand.
type weakSigner struct{ n, d *big.Int }

func weakKey(t testing.TB) weakSigner {
	t.Helper()
	e, one := big.NewInt(65537), big.NewInt(1)
	for {
		p, err := rand.Prime(rand.Reader, 510)
		if err != nil {
			t.Fatal(err)
		}
		q, err := rand.Prime(rand.Reader, 510)
		if err != nil {
			t.Fatal(err)
		}
		n := new(big.Int).Mul(p, q)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		if d := new(big.Int).ModInverse(e, phi); d != nil && n.BitLen() == 1020 {
			return weakSigner{n: n, d: d}
		}
	}
}

func (w weakSigner) Public() crypto.PublicKey { return &rsa.PublicKey{N: w.n, E: 65537} }

func (w weakSigner) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	info := append([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest...)
	padded := append(bytes.Repeat([]byte{0xff}, 128-len(info)), info...)
	padded[0], padded[1], padded[128-len(info)-1] = 0, 1, 0
	sig := new(big.Int).Exp(new(big.Int).SetBytes(padded), w.d, w.n)
	return sig.FillBytes(make([]byte, 128)), nil
}

// TestDKIMTemperror keeps a failing DNS apart from a missing key, and hands its error on unless a signature passed.
func TestDKIMTemperror(t *testing.T) {
	key := testKeys()["rsa"]
	one := signAs(t, plainMessage, "v=1; a=rsa-sha256; d=example.com; s=s1; h=from;", key)
	two := signAs(t, one, "v=1; a=rsa-sha256; d=example.net; s=s1; h=from;", key)
	zone := &fakeDNS{
		txt:  map[string][]string{"s1._domainkey.example.net": {keyRecord(t, key, "")}},
		fail: map[string]bool{"s1._domainkey.example.com": true},
	}
	got, err := verifyMessage(zone, parseMessage(t, one), DKIMOptions{Now: time.Now()})
	if diff := cmp.Diff([]string{"temperror: the look-up of its key failed"}, got); diff != "" || err == nil {
		t.Errorf("error %v, results (-want +got):\n%s", err, diff)
	}
	got, err = verifyMessage(zone, parseMessage(t, two), DKIMOptions{Now: time.Now()})
	if diff := cmp.Diff([]string{"pass", "temperror: the look-up of its key failed"}, got); diff != "" || err != nil {
		t.Errorf("error %v, results (-want +got):\n%s", err, diff)
	}
}

// TestDKIMCovers tells the fields under a signature from those that were put around it later.
func TestDKIMCovers(t *testing.T) {
	key := testKeys()["rsa"]
	zone := &fakeDNS{txt: map[string][]string{"s1._domainkey.example.com": {keyRecord(t, key, "")}}}
	signed := signAs(t, "X-Spam-Flag: NO\r\n"+plainMessage, "v=1; a=rsa-sha256; d=example.com; s=s1; h=from:x-spam-flag;", key)
	m := parseMessage(t, "X-Spam-Flag: YES\r\n"+signed)
	res, err := CheckDKIM(context.Background(), zone, m.Header, m.Body(), DKIMOptions{Now: time.Now()})
	if err != nil || len(res.Passed()) != 1 {
		t.Fatalf("%d passed, %v", len(res.Passed()), err)
	}
	for i, want := range map[int]string{0: "", 2: "example.com", 3: "example.com", 4: ""} {
		if got := res.Covers(i); got != want {
			t.Errorf("field %d (%s): covered by %q, want %q", i, m.Header[i].Name, got, want)
		}
	}
}

// TestDKIMManySignatures looks at eight of three hundred, and up to eight keys.
func TestDKIMManySignatures(t *testing.T) {
	src := plainMessage
	for i := range 300 {
		src = fmt.Sprintf("DKIM-Signature: v=1; a=rsa-sha256; d=d%d.example; s=s; h=from; bh=eA==; b=eA==\r\n", i) + src
	}
	m := parseMessage(t, src)
	zone := &fakeDNS{}
	res, err := CheckDKIM(context.Background(), zone, m.Header, m.Body(), DKIMOptions{Now: time.Now()})
	if err != nil || len(res.Signatures) != 8 || res.Skipped != 292 || len(zone.queries) != 8 {
		t.Errorf("%d signatures, %d skipped, %d queries, error %v", len(res.Signatures), res.Skipped, len(zone.queries), err)
	}
}

// TestDKIMBodyError never takes a body that can't be read for one that was changed.
func TestDKIMBodyError(t *testing.T) {
	key := testKeys()["rsa"]
	zone := &fakeDNS{txt: map[string][]string{"s1._domainkey.example.com": {keyRecord(t, key, "")}}}
	m := parseMessage(t, signAs(t, plainMessage, "v=1; a=rsa-sha256; d=example.com; s=s1; h=from;", key))
	broken := io.MultiReader(strings.NewReader("Hi"), brokenReader{})
	res, err := CheckDKIM(context.Background(), zone, m.Header, broken, DKIMOptions{Now: time.Now()})
	if !errors.Is(err, errBroken) || res.Signatures[0].Result == "fail" {
		t.Errorf("%v, %q", err, res.Signatures[0].Result)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := CheckDKIM(ctx, zone, m.Header, m.Body(), DKIMOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

var errBroken = errors.New("disk on fire")

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

// canonicalBody is the definition of RFC 6376 section 3.4.3 and 3.4.4, written for reading, not for speed.
func canonicalBody(body string, relaxed bool) string {
	lines := strings.Split(body, "\r\n")
	if relaxed {
		for i, line := range lines {
			words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
			lead := ""
			if len(words) > 0 && isWSP(line[0]) {
				lead = " "
			}
			lines[i] = lead + strings.Join(words, " ")
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 && relaxed {
		return ""
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// FuzzBodyDigest compares the streaming digest with the definition, in pieces of every size.
func FuzzBodyDigest(f *testing.F) {
	for _, body := range []string{
		"", "\r\n", "\r\n\r\n", "x", " x \t y \r\n\r\n", "\r", "\r\r\n", "a\r\r\r\nb", "\n", "a\nb\r\n", "\r\n \r\n", " ", "a \r", "a\r\n\r",
	} {
		f.Add(body, uint8(1))
		f.Add(body, uint8(3))
	}
	f.Fuzz(func(t *testing.T, body string, piece uint8) {
		for _, relaxed := range []bool{false, true} {
			want := canonicalBody(body, relaxed)
			d := newBodyDigest(relaxed, -1)
			for rest := body; rest != ""; {
				n := min(len(rest), max(int(piece), 1))
				if _, err := d.Write([]byte(rest[:n])); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			sum := sha256.Sum256([]byte(want))
			if !bytes.Equal(d.final(), sum[:]) || d.total != int64(len(want)) {
				t.Errorf("relaxed=%v, pieces of %d: %q has %d octets, want those of %q", relaxed, piece, body, d.total, want)
			}
		}
	})
}

// FuzzDKIMSignature reads any field without harm. What it takes for a domain and a selector can stand in a query.
func FuzzDKIMSignature(f *testing.F) {
	f.Add("v=1; a=rsa-sha256; c=simple/simple; d=example.com; s=s1; i=joe@example.com; t=1; x=2; l=3; h=From : To; bh=eA==; b=eA==")
	f.Add("v=1;a=ed25519-sha256;d=\xc3\xa9.example;s=\x00;h=::;bh=;b=;")
	f.Add(";;;=;b=b=b=")
	f.Fuzz(func(t *testing.T, value string) {
		s, err := parseDKIMSignature(value)
		if err != nil {
			return
		}
		for _, name := range []string{s.Domain, s.Selector} {
			if again, ok := asciiDomain(name); !ok || again != name {
				t.Errorf("%q: %q is no domain", value, name)
			}
		}
		raw := "DKIM-Signature:" + value + "\r\n"
		if list, err := parseTagList(string(withoutB([]byte(raw))[len("DKIM-Signature:"):])); err != nil || list.dense("b") != "" {
			t.Errorf("%q: without b= it is %q, %v", value, list, err)
		}
	})
}

// FuzzDKIMKey reads any key record without harm.
func FuzzDKIMKey(f *testing.F) {
	f.Add(rfc6376Key)
	f.Add(rfc8463Ed25519)
	f.Add("v=DKIM1; k=rsa; h=sha1:sha256; s=email; t=y:s; p=")
	f.Fuzz(func(t *testing.T, record string) {
		key, err := parseDKIMKey(record)
		if err == nil && key.bits() == 0 {
			t.Errorf("%q: a key of no bits", record)
		}
	})
}

// TestDKIMKeysKept reads a record once, whether it is a key or not, and keeps none that is long.
func TestDKIMKeysKept(t *testing.T) {
	kept := newDKIMKeys()
	first, err := kept.parse([]string{rfc6376Key})
	if err != nil {
		t.Fatal(err)
	}
	again, err := kept.parse([]string{rfc6376Key})
	if err != nil || again[0] != first[0] {
		t.Errorf("the record was read anew (%v)", err)
	}
	other, err := kept.parse([]string{rfc8463Ed25519})
	if err != nil || other[0].algorithm != "ed25519" {
		t.Errorf("another record gives %+v, %v", other, err)
	}
	for range 2 {
		if keys, err := kept.parse([]string{"v=DKIM1; p="}); !errors.Is(err, errRevoked) {
			t.Errorf("a revoked key: %v, %v", keys, err)
		}
	}
	long := rfc6376Key + "; n=" + strings.Repeat("x", keptDKIMRecord)
	if _, err := kept.parse([]string{long}); err != nil {
		t.Fatal(err)
	}
	if n := kept.read.Len(); n != 3 {
		t.Errorf("%d records are kept, want 3", n)
	}
}

// TestDKIMHostileSizes verifies messages made to be costly. What they cost is shown by BenchmarkDKIM.
func TestDKIMHostileSizes(t *testing.T) {
	key := testKeys()["rsa"]
	zone := &fakeDNS{txt: map[string][]string{"s1._domainkey.example.com": {keyRecord(t, key, "")}}}
	names := "from" + strings.Repeat(":x", maxDKIMNames-1)
	for name, src := range map[string]string{
		"a folded field":    "X: " + strings.Repeat("a\r\n ", 40000) + "\r\n" + plainMessage,
		"empty lines":       plainMessage + strings.Repeat("\r\n", 1<<17) + "x\r\n",
		"fields":            strings.Repeat("X: y\r\n", 9000) + plainMessage,
		"white space":       plainMessage + strings.Repeat(" \t", 1<<17) + "\r\n",
		"one line":          plainMessage + strings.Repeat("a ", 1<<17) + "\r\n",
		"carriage returns":  plainMessage + strings.Repeat("\r", 1<<17) + "\r\n",
		"a plain long text": plainMessage + strings.Repeat("all work and no play\r\n", 1<<14),
	} {
		for _, canon := range []string{"simple", "relaxed"} {
			t.Run(name+"/"+canon, func(t *testing.T) {
				tags := "v=1; a=rsa-sha256; c=" + canon + "/" + canon + "; d=example.com; s=s1; h=" + names + ";"
				m := parseMessage(t, signAs(t, src, tags, key))
				res, err := CheckDKIM(context.Background(), zone, m.Header, m.Body(), DKIMOptions{Now: time.Now()})
				if err != nil || len(res.Passed()) != 1 {
					t.Fatalf("%v, %+v", err, res.Signatures[0])
				}
				if n := len(res.Signatures[0].Covered); n > maxDKIMNames {
					t.Errorf("%d fields hashed", n)
				}
			})
		}
	}
}

func BenchmarkDKIM(b *testing.B) {
	for _, bench := range []struct {
		name string
		src  string
		key  string
	}{
		{name: "rsa/4KB", src: plainMessage + strings.Repeat("all work and no play\r\n", 190), key: "rsa"},
		{name: "ed25519/4KB", src: plainMessage + strings.Repeat("all work and no play\r\n", 190), key: "ed25519"},
		{name: "rsa/1MB", src: plainMessage + strings.Repeat("all work and no play\r\n", 47000), key: "rsa"},
		{name: "rsa/1MB of empty lines", src: plainMessage + strings.Repeat("\r\n", 1<<19) + "x", key: "rsa"},
		{name: "rsa/1MB of spaces", src: plainMessage + strings.Repeat(" ", 1<<20) + "x", key: "rsa"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			key := testKeys()[bench.key]
			zone := &fakeDNS{txt: map[string][]string{"s1._domainkey.example.com": {keyRecord(b, key, "")}}}
			m := parseMessage(b, signWithPeer(b, bench.src, key, dkim.CanonicalizationRelaxed))
			b.SetBytes(m.Size())
			b.ReportAllocs()
			for b.Loop() {
				zone.queries = zone.queries[:0]
				res, err := CheckDKIM(context.Background(), zone, m.Header, m.Body(), DKIMOptions{Now: time.Now()})
				if err != nil || len(res.Passed()) != 1 {
					b.Fatal(err)
				}
			}
		})
	}
}
