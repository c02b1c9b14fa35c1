package proxy

import (
	"fmt"
	"strings"
	"testing"

	"postern/proxy/peertest"
)

// TestSendersRequireTLS: mail servers that send over verified TLS or not at all find what they want; Postfix, which can,
// also asks for TLS without verification, as Internet mail does.
func TestSendersRequireTLS(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T, to string, cert peertest.Cert) mailServer{
		"Exim": func(t *testing.T, to string, cert peertest.Cert) mailServer {
			s := peertest.StartExim(t, peertest.Exim{Domains: []string{"plain.example"}, SmartHost: to, SmartHostCA: cert.CertFile})
			return mailServer{addr: s.Addr, log: s.Log}
		},
		"OpenSMTPD": func(t *testing.T, to string, cert peertest.Cert) mailServer {
			s := peertest.StartOpenSMTPD(t, peertest.OpenSMTPD{Domains: []string{"plain.example"}, SmartHost: to, SmartHostCA: cert.CertFile})
			return mailServer{addr: s.Addr, log: s.Log}
		},
		"Postfix verified": func(t *testing.T, to string, cert peertest.Cert) mailServer {
			return startPostfixOverTLS(t, to, map[string]string{
				"smtp_tls_security_level": "secure", "smtp_tls_secure_cert_match": "mx.example.org", "smtp_tls_CAfile": cert.CertFile,
			})
		},
		"Postfix encrypted": func(t *testing.T, to string, _ peertest.Cert) mailServer {
			return startPostfixOverTLS(t, to, map[string]string{"smtp_tls_security_level": "encrypt"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := peertest.StartSink(t, peertest.Sink{})
			cert := peertest.NewCert(t, "mx.example.org", "localhost", "127.0.0.1")
			p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), fmt.Sprintf("    tls: {cert: %s, key: %s}\n", cert.CertFile, cert.KeyFile),
				"smtp://"+sink.Addr)+trusting, withoutPacks)
			from := start(t, p.addr, cert)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the sender's log:\n%s", from.log())
				}
			})
			client := hello(t, from.addr)
			if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, shortMessage); code != 250 {
				t.Fatalf("the sender itself says %d %s", code, text)
			}
			client.Want("QUIT", 221)
			waitFor(t, "the message", func() bool { return len(storedBy(sink)) > 0 })
			waitFor(t, "its line", func() bool { return len(p.events("message")) > 0 })
			if data := string(storedBy(sink)[0].Data); !strings.Contains(data, "with ESMTPS id ") {
				t.Errorf("the Received field does not tell of TLS:\n%s", data)
			}
			if line := p.events("message")[0]; !strings.Contains(line, " tls=1.") {
				t.Errorf("the log does not tell of TLS: %s", line)
			}
		})
	}
}

func startPostfixOverTLS(t *testing.T, to string, parameters map[string]string) mailServer {
	t.Helper()
	s := peertest.StartPostfix(t, peertest.Postfix{Domains: []string{"plain.example"}, SmartHost: to, Parameters: parameters})
	return mailServer{addr: s.Addr, log: s.Log}
}
