package proxy

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"postern/proxy/peertest"
)

// TestSmuggling: whatever byte sequence stands in a message in place of its end, in plain text and under TLS, no real
// server behind the proxy sees a second message.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("wire/testdata/smuggling.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases struct {
		Never []string `json:"never_end_of_data"`
	}
	if err := json.Unmarshal(raw, &cases); err != nil || len(cases.Never) < 10 {
		t.Fatalf("%d cases, %v", len(cases.Never), err)
	}
	cert := peertest.NewCert(t, "mx.example.org")
	servers := map[string]func(t *testing.T) (addr string, messages func() []peertest.Message){
		"postfix": func(t *testing.T) (string, func() []peertest.Message) {
			s := peertest.StartPostfix(t, peertest.Postfix{})
			return s.Addr, func() []peertest.Message { return s.Messages("alice", 1) }
		},
		"exim": func(t *testing.T) (string, func() []peertest.Message) {
			s := peertest.StartExim(t, peertest.Exim{})
			return s.Addr, func() []peertest.Message { return s.Messages("alice", 1) }
		},
		"opensmtpd": func(t *testing.T) (string, func() []peertest.Message) {
			s := peertest.StartOpenSMTPD(t, peertest.OpenSMTPD{})
			return s.Addr, func() []peertest.Message { return s.Messages("alice", 1) }
		},
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			addr, messages := start(t)
			for _, newline := range []string{"reject", "normalise"} {
				listen := fmt.Sprintf("    bare_newline: %s\n    tls: {cert: %s, key: %s}", newline, cert.CertFile, cert.KeyFile)
				p := startTestProxy(t, fmt.Sprintf(postfixConfig, testZone(t), listen, addr), withoutPacks)
				for _, end := range cases.Never {
					smuggle(t, p.addr, end, false)
					smuggle(t, p.addr, end, true)
				}
				p.stop()
			}
			// A last, honest message shows that all before it has been delivered, or never will be.
			p := startTestProxy(t, fmt.Sprintf(postfixConfig, testZone(t), "", addr), withoutPacks)
			client := hello(t, p.addr)
			if code, text := client.Deliver("carol@good.example", []string{"alice@example.org"}, "Subject: honest\r\n\r\ntext\r\n"); code != 250 {
				t.Fatalf("%d %s", code, text)
			}
			p.stop()
			waitFor(t, "the honest message", func() bool {
				return slices.ContainsFunc(messages(), func(m peertest.Message) bool {
					return strings.Join(m.Header("Subject"), "") == "honest"
				})
			})
			for _, m := range messages() {
				if strings.Join(m.Header("Return-Path"), " ") == "<smuggled@bank.example>" || strings.Contains(strings.Join(m.Header("Subject"), " "), "smuggled") {
					t.Errorf("a second message came through:\n%s", m.Data())
				}
			}
		})
	}
}

// smuggle sends a message that holds what another server may take for the end of it, and behind it commands. The
// client's reply may be anything but two messages accepted.
func smuggle(t *testing.T, addr, end string, overTLS bool) {
	t.Helper()
	client := hello(t, addr)
	if overTLS {
		client.StartTLS(&tls.Config{InsecureSkipVerify: true})
		client.Want("EHLO client.example", 250)
	}
	client.Want("MAIL FROM:<carol@good.example>", 250)
	client.Want("RCPT TO:<alice@example.org>", 250)
	client.Want("DATA", 354)
	client.Send("Subject: first\r\n\r\ntext" + end + "MAIL FROM:<smuggled@bank.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n" +
		"Subject: smuggled\r\n\r\nsmuggled\r\n.\r\n")
	if code, text, err := client.Reply(); err != nil || code != 250 && code/100 != 5 {
		t.Errorf("%q: %d %s %v", end, code, text, err)
	}
	client.Want("NOOP", 250) // in step: the next reply is the one to this
	client.Want("QUIT", 221)
	client.Close()
}
