package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// testTLS makes a certificate for 127.0.0.1, and settings of a client that trusts it.
func testTLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return server, &tls.Config{RootCAs: roots}
}

// Each way to want TLS against each way for a server to have it.
func TestTLSModes(t *testing.T) {
	serverTLS, trusting := testTLS(t)
	distrusting := &tls.Config{RootCAs: x509.NewCertPool()}
	otherName := trusting.Clone()
	otherName.ServerName = "mail.example.org"
	offering := []string{"STARTTLS"}
	garbage := func(p *peer, _ string) bool {
		p.say("220 go\r\nthis is no TLS at all, nor will it be\r\n")
		p.untilClosed()
		return false
	}
	cases := []struct {
		name     string
		mode     string
		client   *tls.Config
		keywords []string
		starttls hook
		tls      bool   // the message went inside TLS
		op       string // of the error; "" for a message that arrives
		reason   string
	}{
		{name: "automatic on loopback", mode: TLSAuto, client: trusting, keywords: offering, reason: "nobody can listen there"},
		{name: "none", mode: TLSNone, client: trusting, keywords: offering},
		{name: "opportunistic", mode: TLSOpportunistic, client: trusting, keywords: offering, tls: true},
		{name: "opportunistic, unknown certificate", mode: TLSOpportunistic, client: distrusting, keywords: offering, tls: true, reason: "better than plain text (RFC 7435)"},
		{name: "opportunistic, no settings", mode: TLSOpportunistic, keywords: offering, tls: true},
		{name: "opportunistic, not offered", mode: TLSOpportunistic, client: trusting},
		{name: "opportunistic, refused", mode: TLSOpportunistic, client: trusting, keywords: offering, starttls: say("454 4.7.0 not now\r\n", true), reason: "goes on in plain text"},
		{name: "opportunistic, broken handshake", mode: TLSOpportunistic, client: trusting, keywords: offering, starttls: func(p *peer, _ string) bool { p.say("220 go\r\n"); p.r.Peek(1); p.say("no\r\n"); return false }, reason: "once more, in plain text"},
		{name: "opportunistic, plain text behind the reply", mode: TLSOpportunistic, client: trusting, keywords: offering, starttls: garbage, op: "starttls", reason: "an attack or a broken server"},
		{name: "required", mode: TLSRequired, client: trusting, keywords: offering, tls: true},
		{name: "required, unknown certificate", mode: TLSRequired, client: distrusting, keywords: offering, op: "tls"},
		{name: "required, other name", mode: TLSRequired, client: otherName, keywords: offering, op: "tls"},
		{name: "required, not offered", mode: TLSRequired, client: trusting, op: "tls"},
		{name: "required, refused", mode: TLSRequired, client: trusting, keywords: offering, starttls: say("454 4.7.0 not now\r\n", true), op: "starttls"},
		{name: "required, plain text behind the reply", mode: TLSRequired, client: trusting, keywords: offering, starttls: say("220 go\r\n250-evil\r\n250 SIZE 1\r\n", true), op: "starttls", reason: "it would be taken for the server's word inside TLS (CVE-2011-0411)"},
		{name: "required, closed instead", mode: TLSRequired, client: trusting, keywords: offering, starttls: say("220 go\r\n", false), op: "tls"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := &server{keywords: tc.keywords, tls: serverTLS, hooks: map[string]hook{}}
			if tc.starttls != nil {
				s.hooks["starttls"] = tc.starttls
			}
			s.start(t)
			u := newUpstream(t, Config{Address: "smtp://" + s.addr(), TLS: tc.mode, TLSConfig: tc.client})
			c, err := u.Open(context.Background(), Client{})
			if tc.op != "" {
				wantError(t, err, tc.op, false)
				return
			}
			if err != nil {
				t.Fatalf("%v (%s)", err, tc.reason)
			}
			if c.Caps().TLS != tc.tls {
				t.Fatalf("TLS: %v, expected %v (%s)", c.Caps().TLS, tc.tls, tc.reason)
			}
			if result, err := deliver(context.Background(), c, text("Hello\r\n"), alice); err != nil || result.Reply.Code != 250 {
				t.Fatal(result, err)
			}
		})
	}
}

// What the server offers inside TLS counts, not what it said before (RFC 3207 section 4.2).
func TestCapsInsideTLS(t *testing.T) {
	serverTLS, trusting := testTLS(t)
	s := &server{tls: serverTLS, hooks: map[string]hook{"ehlo": func(p *peer, _ string) bool {
		if _, inside := p.nc.(*tls.Conn); inside {
			p.say("250-test.example\r\n250 SIZE 5000\r\n")
		} else {
			p.say("250-test.example\r\n250-SMTPUTF8\r\n250-XCLIENT NAME\r\n250 STARTTLS\r\n")
		}
		return true
	}}}
	s.start(t)
	u := newUpstream(t, Config{Address: "smtp://" + s.addr(), TLS: TLSRequired, TLSConfig: trusting})
	caps, err := u.Probe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !caps.TLS || !caps.StartTLS || caps.SMTPUTF8 || len(caps.XClient) > 0 || caps.MaxSize != 5000 {
		t.Fatalf("got %+v", caps)
	}
}

// smtps:// always verifies.
func TestImplicitTLS(t *testing.T) {
	serverTLS, trusting := testTLS(t)
	s := (&server{tls: serverTLS, implicit: true}).start(t)
	u := newUpstream(t, Config{Address: "smtps://" + s.addr(), TLSConfig: trusting})
	if result, err := deliver(context.Background(), mustOpen(t, u, Client{}), text("Hello\r\n"), alice); err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	_, err := newUpstream(t, Config{Address: "smtps://" + s.addr()}).Open(context.Background(), Client{})
	var unknown *tls.CertificateVerificationError
	if wantError(t, err, "tls", false); !errors.As(err, &unknown) {
		t.Fatalf("got %v, expected a certificate error", err)
	}
	plain := (&server{}).start(t)
	_, err = newUpstream(t, Config{Address: "smtps://" + plain.addr(), TLSConfig: trusting}).Open(context.Background(), Client{})
	wantError(t, err, "tls", false)
}

// A server that never answers the handshake.
func TestTLSStall(t *testing.T) {
	_, trusting := testTLS(t)
	s := &server{keywords: []string{"STARTTLS"}, hooks: map[string]hook{"starttls": func(p *peer, _ string) bool {
		p.say("220 go\r\n")
		p.untilClosed()
		return false
	}}}
	s.start(t)
	times := longTimes
	times.Connect = 200 * time.Millisecond
	u := newUpstream(t, Config{Address: "smtp://" + s.addr(), TLS: TLSRequired, TLSConfig: trusting, Timeouts: times})
	_, err := u.Open(context.Background(), Client{})
	if e := wantError(t, err, "tls", false); !e.Timeout() {
		t.Fatalf("got %v, expected a time-out", err)
	}
	if got := s.commands(); !slices.ContainsFunc(got, func(l string) bool { return strings.HasSuffix(l, "STARTTLS") }) {
		t.Fatal(got)
	}
}
