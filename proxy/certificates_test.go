package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/proxy/peertest"
)

// A tlsSite is certificates in files of their own, and a clock that stands still.
type tlsSite struct {
	t   *testing.T
	c   *certificates
	log bytes.Buffer
	now time.Time
}

func newTLSSite(t *testing.T, certs ...peertest.Cert) *tlsSite {
	t.Helper()
	s := &tlsSite{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	var files []Certificate
	for _, c := range certs {
		files = append(files, Certificate{Cert: c.CertFile, Key: c.KeyFile})
	}
	var err error
	logger := slog.New(NewLogHandler(LogTo(&s.log), "logfmt", slog.LevelInfo))
	if s.c, err = newCertificates(files, logger, func() time.Time { return s.now }); err != nil {
		t.Fatal(err)
	}
	return s
}

// serves wants that a client which asks for the name gets that certificate.
func (s *tlsSite) serves(name string, want peertest.Cert) {
	s.t.Helper()
	got, err := s.c.forHello(&tls.ClientHelloInfo{
		ServerName:        name,
		SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves:   []tls.CurveID{tls.CurveP256},
	})
	if err != nil || !bytes.Equal(got.Certificate[0], want.Pair.Certificate[0]) {
		s.t.Errorf("%q gets another certificate than expected, error %v", name, err)
	}
}

// replace puts other files in the place of a pair; "" leaves one as it is.
func replace(t *testing.T, of peertest.Cert, certFile, keyFile string) {
	t.Helper()
	for from, to := range map[string]string{certFile: of.CertFile, keyFile: of.KeyFile} {
		if from == "" {
			continue
		}
		pem, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+".new", pem, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(to+".new", to); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificatesByName(t *testing.T) {
	mx, other := peertest.NewCert(t, "mx.example.org"), peertest.NewCert(t, "mail.example.com", "*.example.net")
	s := newTLSSite(t, mx, other)
	s.serves("mx.example.org", mx)
	s.serves("mail.example.com", other)
	s.serves("a.example.net", other)
	s.serves("elsewhere.example", mx) // the first one, rather than none: mail servers seldom verify
	s.serves("", mx)
}

func TestCertificatesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	if _, err := newCertificates([]Certificate{{Cert: filepath.Join(dir, "a.pem"), Key: filepath.Join(dir, "b.pem")}}, slog.New(slog.DiscardHandler), time.Now); err == nil {
		t.Error("files that are not there make a certificate")
	}
}

func TestCertificatesAreReadAgain(t *testing.T) {
	first, second, third := peertest.NewCert(t, "mx.example.org"), peertest.NewCert(t, "mx.example.org"), peertest.NewCert(t, "mx.example.org")
	live := peertest.NewCert(t, "mx.example.org")
	replace(t, live, first.CertFile, first.KeyFile)
	s := newTLSSite(t, live)
	s.serves("mx.example.org", first)

	replace(t, live, second.CertFile, second.KeyFile)
	s.serves("mx.example.org", first) // it is not looked for at every handshake
	s.now = s.now.Add(recheck)
	s.serves("mx.example.org", second)

	replace(t, live, third.CertFile, "") // half done: the key is still the old one
	for range 3 {
		s.now = s.now.Add(recheck)
		s.serves("mx.example.org", second)
	}
	replace(t, live, "", third.KeyFile)
	s.now = s.now.Add(recheck)
	s.serves("mx.example.org", third)

	if err := os.WriteFile(live.CertFile, []byte("no certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(recheck)
	s.serves("mx.example.org", third)
	if err := os.Remove(live.KeyFile); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(-time.Hour) // the clock was set back
	s.serves("mx.example.org", third)
	s.now = s.now.Add(recheck)
	s.serves("mx.example.org", third)

	log := s.log.String()
	if n := strings.Count(log, "event=certificate_loaded"); n != 2 {
		t.Errorf("%d certificates are said to be loaded, expected 2:\n%s", n, log)
	}
	if n := strings.Count(log, "event=certificate_failed"); n != 3 { // each version of the files once
		t.Errorf("%d failures are told, expected 3:\n%s", n, log)
	}
	if !strings.Contains(log, live.CertFile) || !strings.Contains(log, "private key does not match public key") || !strings.Contains(log, "no such file") {
		t.Errorf("the log does not say what failed:\n%s", log)
	}
}

// While it serves, a certificate that is replaced on disk is served from then on, and a broken one is not; who is
// connected does not notice.
func TestCertificateReplacedWhileServing(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	live, next, broken := peertest.NewCert(t, "mx.example.org"), peertest.NewCert(t, "mx.example.org"), peertest.NewCert(t, "mx.example.org")
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t),
		fmt.Sprintf("    tls: {cert: %s, key: %s}\n", live.CertFile, live.KeyFile), "smtp://"+sink.Addr)+"networks: {trusted: [127.0.0.1]}\n", withoutPacks) // it connects often
	served := func() (*peertest.Client, []byte) {
		c := hello(t, p.addr)
		state := c.StartTLS(&tls.Config{InsecureSkipVerify: true, ServerName: "mx.example.org"})
		return c, state.PeerCertificates[0].Raw
	}
	open, got := served()
	if !bytes.Equal(got, live.Pair.Certificate[0]) {
		t.Fatal("another certificate is served at the start")
	}
	replace(t, live, next.CertFile, next.KeyFile)
	waitFor(t, "the new certificate", func() bool {
		c, got := served()
		c.Close()
		return bytes.Equal(got, next.Pair.Certificate[0])
	})
	replace(t, live, broken.CertFile, "")
	waitFor(t, "the broken one to be noticed", func() bool {
		c, got := served()
		c.Close()
		if !bytes.Equal(got, next.Pair.Certificate[0]) {
			t.Error("something else than the last good certificate is served")
		}
		return len(p.events("certificate_failed")) > 0
	})
	open.Want("EHLO client.example", 250)
	open.Want("QUIT", 221)
}
