package proxy

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"postern/proxy/peertest"
)

// swaksConfig has a listener for each thing that a client may begin with: nothing, TLS, a PROXY header.
const swaksConfig = `hostname: mx.example.org
domains: [example.org]
dns: {servers: ["%s"], timeout: 10s}
networks: {trusted: [127.0.0.0/8]}
listen:
  - {address: "127.0.0.1:0", tls: {cert: "%[2]s", key: "%[3]s"}, xclient: [127.0.0.1]}
  - {address: "127.0.0.1:0", tls: {cert: "%[2]s", key: "%[3]s"}, implicit_tls: true}
  - {address: "127.0.0.1:0", tls: {cert: "%[2]s", key: "%[3]s"}, proxy_protocol: [127.0.0.1]}
upstream: [{address: "smtp://%[4]s"}]
`

// The listeners of swaksConfig.
const (
	swaksPlain = iota
	swaksTLS
	swaksProxy
)

// TestSwaks: swaks comes in every way that it knows. It ends with 0 where a message was taken, else it tells by the number
// what failed: 6 the connection, 22 HELO, 28 the authentication, 29 TLS, 30 PRDR.
func TestSwaks(t *testing.T) {
	t.Parallel()
	peertest.Need(t, peertest.NeedSwaks)
	sink := peertest.StartSink(t, peertest.Sink{})
	cert := peertest.NewCert(t, "mx.example.org")
	p := startTestProxy(t, fmt.Sprintf(swaksConfig, testZone(t), cert.CertFile, cert.KeyFile, sink.Addr), withoutPacks)
	addrs := p.server.Addrs()
	for name, tc := range map[string]struct {
		at   int    // the listener
		args string // between blanks; CERT and KEY are files
		exit int
		line string // what the message's line says, if there is one
		text string // what the transcript has
	}{
		"SMTP":                    {args: "--protocol SMTP", line: " tls=none ", text: "-> HELO "},
		"ESMTP":                   {args: "--protocol ESMTP", line: " tls=none ", text: "-> EHLO "},
		"ESMTPS":                  {args: "--protocol ESMTPS", line: " tls=1.3 ", text: "-> STARTTLS"},
		"LMTP":                    {args: "--protocol LMTP", exit: 22, text: "<** 500"},
		"TLS 1.2":                 {args: "--tls --tls-protocol tlsv1_2", line: " tls=1.2 "},
		"TLS 1.3":                 {args: "--tls --tls-protocol tlsv1_3", line: " tls=1.3 "},
		"TLS 1.1":                 {args: "--tls --tls-protocol tlsv1_1", exit: 29},
		"TLS where it is offered": {args: "--tls-optional-strict", line: " tls=1.3 "},
		"verified TLS":            {args: "--tls --tls-verify --tls-ca-path CERT --tls-sni mx.example.org", line: " tls=1.3 "},
		"a client's certificate":  {args: "--tls --tls-cert CERT --tls-key KEY", line: " tls=1.3 "},
		"TLS on connect":          {at: swaksTLS, args: "--tls-on-connect", line: " tls=1.3 "},
		"SMTPS":                   {at: swaksTLS, args: "--protocol SMTPS", line: " tls=1.3 ", text: "HELO "},
		"SSMTP":                   {at: swaksTLS, args: "--protocol SSMTP", line: " tls=1.3 ", text: "EHLO "},
		"PIPELINING":              {args: "--pipeline", line: " tls=none ", text: "-> MAIL FROM"},
		"PIPELINING over TLS":     {args: "--pipeline --tls", line: " tls=1.3 "},
		"PRDR, not offered":       {args: "--prdr", exit: 30, text: "Host did not advertise PRDR support"},
		"AUTH, not offered":       {args: "--auth PLAIN --auth-user alice --auth-password secret", exit: 28},
		"AUTH where it can":       {args: "--auth-optional --auth-user alice --auth-password secret", line: " tls=none "},
		"XCLIENT":                 {args: "--xclient-addr 192.0.2.10 --xclient-name mail.good.example --xclient-helo xclient.example", line: " ip=192.0.2.10 "},
		"XCLIENT for IPv6":        {args: "--xclient-addr IPV6:2001:db8::7", line: " ip=2001:db8::7 "},
		"XCLIENT inside TLS":      {args: "--tls --xclient-addr 192.0.2.10", line: " ip=192.0.2.10 "},
		"XCLIENT before TLS":      {args: "--tls --xclient-before-starttls --xclient-addr 192.0.2.10", line: " ip=192.0.2.10 "},
		"PROXY 1": {at: swaksProxy, args: "--proxy-version 1 --proxy-family TCP4 --proxy-source 192.0.2.10 --proxy-source-port 1234 --proxy-dest 192.0.2.1 --proxy-dest-port 25",
			line: " ip=192.0.2.10 "},
		"PROXY 1 for IPv6": {at: swaksProxy, args: "--proxy-version 1 --proxy-family TCP6 --proxy-source 2001:db8::7 --proxy-source-port 1234 --proxy-dest 2001:db8::1 --proxy-dest-port 25",
			line: " ip=2001:db8::7 "},
		"PROXY 2": {at: swaksProxy, args: "--proxy-version 2 --proxy-family AF_INET --proxy-source 192.0.2.10 --proxy-source-port 1234 --proxy-dest 192.0.2.1 --proxy-dest-port 25",
			line: " ip=192.0.2.10 "},
		"PROXY 2 for IPv6 and TLS": {at: swaksProxy, args: "--tls --proxy-version 2 --proxy-family AF_INET6 --proxy-source 2001:db8::7 --proxy-source-port 1234 --proxy-dest 2001:db8::1 --proxy-dest-port 25",
			line: " ip=2001:db8::7 "},
		"PROXY that is nonsense": {at: swaksProxy, args: "--proxy NONSENSE", exit: 6, text: "closed connection"},
		"two recipients, one of elsewhere": {args: "--to alice@example.org,someone@elsewhere.example", line: " rcpts=1 rcpts_refused=1 ",
			text: "<** 550"},
		"quit after RCPT":     {args: "--quit-after RCPT", line: " aborted=quit "},
		"gone after RCPT":     {args: "--drop-after RCPT", line: ` aborted="client closed" `},
		"gone within DATA":    {args: "--drop-after DATA", line: ` aborted="client closed" errors="unexpected EOF" `},
		"gone without EHLO":   {args: "--quit-after BANNER"},
		"gone after STARTTLS": {args: "--tls --quit-after TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, port, err := net.SplitHostPort(addrs[tc.at])
			if err != nil {
				t.Fatal(err)
			}
			helo := strings.ToLower(strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(name)) + ".example"
			args := []string{"--server", host, "--from", "carol@plain.example", "--to", "alice@example.org", "--helo", helo,
				"--data", strings.NewReplacer("good.example", "plain.example", "<1@", "<"+helo+"@").Replace(swaksData)}
			transcript, exit := peertest.Swaks(t, append(append(args,
				strings.Fields(strings.NewReplacer("CERT", cert.CertFile, "KEY", cert.KeyFile).Replace(tc.args))...), "--port", port)...)
			if exit != tc.exit || !strings.Contains(transcript, tc.text) {
				t.Fatalf("exit %d, want %d and %q:\n%s", exit, tc.exit, tc.text, transcript)
			}
			if strings.Contains(tc.args, "--xclient-helo") {
				helo = "xclient.example"
			}
			if tc.line != "" {
				if line := p.awaitLineOf(helo); !strings.Contains(line, tc.line) {
					t.Errorf("the line lacks %q: %s\n%s", tc.line, line, transcript)
				}
			}
		})
	}
}

// awaitLineOf waits for the message's line of a client that said it is helo.
func (p *testProxy) awaitLineOf(helo string) (found string) {
	p.t.Helper()
	waitFor(p.t, "the line of "+helo, func() bool {
		for _, line := range p.events("message") {
			if strings.Contains(line, fmt.Sprintf(" helo=%q", helo)) {
				found = line
			}
		}
		return found != ""
	})
	return found
}
