package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/google/go-cmp/cmp"

	"postern/proxy/peertest"
)

// These tests put the proxy in front of a real Postfix and come to it with swaks and with a raw socket.

const postfixConfig = `hostname: mx.example.org
domains: [example.org]
dns: {servers: ["%s"], timeout: 10s}
networks: {trusted: [127.0.0.0/8]}
listen:
  - address: 127.0.0.1:0
%s
upstream:
  - address: smtp://%s
`

// goldenLog holds the lines that a test left in the log to testdata/sessions/postfix/NAME.log.
func goldenLog(t *testing.T, p *testProxy, name, upstream string) {
	t.Helper()
	p.stop()
	got := queueID.ReplaceAllString(mask(strings.Join(p.events("message", "session"), "\n")+"\n", upstream), "queued as QUEUEID")
	file := filepath.Join("../testdata/sessions/postfix", name+".log")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("log -want +got:\n%s", diff)
	}
}

var queueID = regexp.MustCompile(`queued as [0-9A-F]+`)

func inFrontOf(t *testing.T, postfix *peertest.PostfixServer, listen string) *testProxy {
	t.Helper()
	return startTestProxy(t, fmt.Sprintf(postfixConfig, testZone(t), listen, postfix.Addr), withoutPacks)
}

// swaksData is a whole message for swaks, so that nothing in it tells of the machine.
const swaksData = `From: carol@good.example\nTo: alice@example.org\nSubject: by swaks\nDate: Mon, 23 Nov 2026 12:00:00 +0000\nMessage-ID: <1@good.example>\n\nhello Alice\n`

func TestPostfixDelivery(t *testing.T) {
	t.Parallel()
	postfix := peertest.StartPostfix(t, peertest.Postfix{})
	p := inFrontOf(t, postfix, "")
	transcript, exit := peertest.Swaks(t, "--server", p.addr, "--from", "carol@good.example", "--to", "alice@example.org",
		"--helo", "mail.good.example", "--data", swaksData)
	if exit != 0 || !strings.Contains(transcript, "queued as") {
		t.Fatalf("exit %d:\n%s", exit, transcript)
	}
	m := postfix.Messages("alice", 1)[0]
	for _, name := range []string{"X-Spam-Score", "X-Spam-Status", "Authentication-Results", "Received", "Return-Path"} {
		if len(m.Header(name)) == 0 {
			t.Errorf("the delivered message has no %s:\n%s", name, m.Data())
		}
	}
	if got := m.Header("Subject"); len(got) != 1 || got[0] != "by swaks" {
		t.Errorf("subject %q", got)
	}
	goldenLog(t, p, "delivery", postfix.Addr)
}

func TestPostfixRefusals(t *testing.T) {
	t.Parallel()
	postfix := peertest.StartPostfix(t, peertest.Postfix{MessageSizeLimit: 50_000})
	p := inFrontOf(t, postfix, "")
	transcript, exit := peertest.Swaks(t, "--server", p.addr, "--from", "a@good.example", "--to", "nobody@example.org", "--helo", "mail.good.example")
	if exit != 24 || !strings.Contains(transcript, "User unknown") {
		t.Errorf("unknown recipient: exit %d\n%s", exit, transcript)
	}
	// Postfix's limit is what EHLO offers, and it holds at MAIL already.
	client := peertest.Dial(t, p.addr)
	client.Expect(220)
	if caps := client.Want("EHLO client.example", 250); !strings.Contains(caps, "SIZE 50000") {
		t.Errorf("EHLO does not offer the size of the upstream:\n%s", caps)
	}
	client.Want("MAIL FROM:<a@good.example> SIZE=60000", 250)
	if code, text := client.Cmd("RCPT TO:<alice@example.org>"); code != 552 {
		t.Errorf("a size that Postfix does not take: %d %s", code, text)
	}
	client.Want("RSET", 250)
	// A client that does not announce the size hears it after the final dot.
	code, text := client.Deliver("a@good.example", []string{"alice@example.org"}, "Subject: big\r\n\r\n"+strings.Repeat("0123456789abcdef\r\n", 5000))
	if code != 552 {
		t.Errorf("over-size message: %d %s", code, text)
	}
	// Two recipients of which one is refused: the other gets it.
	client.Want("MAIL FROM:<a@good.example>", 250)
	client.Want("RCPT TO:<nobody@example.org>", 550)
	client.Want("RCPT TO:<bob@example.org>", 250)
	client.Want("DATA", 354)
	client.Data("Subject: for bob\r\n\r\ntext\r\n")
	client.Expect(250)
	if m := postfix.Messages("bob", 1)[0]; !m.Has("Subject: for bob") {
		t.Errorf("bob got\n%s", m.Data())
	}
	client.Want("QUIT", 221)
	goldenLog(t, p, "refusals", postfix.Addr)
}

// TestPostfixStopsAndStarts: the upstream is stopped in mid-session; the client hears 4xx, tries again when it is back,
// and the message arrives once.
func TestPostfixStopsAndStarts(t *testing.T) {
	t.Parallel()
	postfix := peertest.StartPostfix(t, peertest.Postfix{})
	p := inFrontOf(t, postfix, "")
	client := peertest.Dial(t, p.addr)
	client.Expect(220)
	client.Want("EHLO client.example", 250)
	client.Want("MAIL FROM:<a@good.example>", 250)
	client.Want("RCPT TO:<alice@example.org>", 250)
	postfix.Stop()
	client.Want("DATA", 354)
	client.Data("Subject: once\r\n\r\ntext\r\n")
	if code, text, err := client.Reply(); err != nil || code != 451 {
		t.Fatalf("upstream down: %d %s %v", code, text, err)
	}
	postfix.Start()
	if code, text := client.Deliver("a@good.example", []string{"alice@example.org"}, "Subject: once\r\n\r\ntext\r\n"); code != 250 {
		t.Fatalf("upstream back: %d %s", code, text)
	}
	client.Want("QUIT", 221)
	if n := len(postfix.Messages("alice", 1)); n != 1 {
		t.Errorf("%d messages arrived, want 1", n)
	}
	goldenLog(t, p, "stops-and-starts", postfix.Addr)
}

func TestPostfixSTARTTLS(t *testing.T) {
	t.Parallel()
	postfix := peertest.StartPostfix(t, peertest.Postfix{TLS: true})
	cert := peertest.NewCert(t, "mx.example.org")
	p := inFrontOf(t, postfix, fmt.Sprintf("    tls: {cert: %s, key: %s}", cert.CertFile, cert.KeyFile))
	transcript, exit := peertest.Swaks(t, "--server", p.addr, "--tls", "--from", "carol@good.example", "--to", "alice@example.org",
		"--helo", "mail.good.example", "--data", swaksData)
	if exit != 0 {
		t.Fatalf("exit %d:\n%s", exit, transcript)
	}
	m := postfix.Messages("alice", 1)[0]
	if !m.Has("with ESMTPS id ") || !m.Has("(TLS 1.3, ") {
		t.Errorf("the Received field does not tell of TLS:\n%s", m.Data())
	}
	goldenLog(t, p, "starttls", postfix.Addr)
}

// TestPostfixLargeAnd8Bit: 20 MB pass through whole, and so do 8-bit text and UTF-8 addresses.
func TestPostfixLargeAnd8Bit(t *testing.T) {
	t.Parallel()
	postfix := peertest.StartPostfix(t, peertest.Postfix{
		MessageSizeLimit: 40 << 20,
		Users:            []string{"alice", "jürgen"},
		Parameters:       map[string]string{"mailbox_size_limit": "0", "virtual_mailbox_limit": "0"},
	})
	p := inFrontOf(t, postfix, "")
	client := peertest.Dial(t, p.addr)
	client.Expect(220)
	client.Want("EHLO client.example", 250)
	header := "Subject: large\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=data.bin\r\n" +
		"Content-Transfer-Encoding: base64\r\n\r\n"
	body := strings.Repeat("MDEyMzQ1Njc4OSB0aGUgcXVpY2sgYnJvd24gZm94IGp1bXBzIG92ZXIgdGhlIGxhenkgZG9nIDAx\r\n", 260_000)
	if code, text := client.Deliver("a@good.example", []string{"alice@example.org"}, header+body); code != 250 {
		t.Fatalf("20 MB: %d %s", code, text)
	}
	m := postfix.Messages("alice", 1)[0]
	if _, after, _ := bytes.Cut(m.Data(), []byte("\r\n\r\n")); string(after) != body {
		t.Errorf("%d bytes of body arrived, want %d", len(after), len(body))
	}
	text := "Subject: Grüße\r\n\r\nTschüß\r\n"
	client.Want("MAIL FROM:<a@good.example> BODY=8BITMIME SMTPUTF8", 250)
	client.Want("RCPT TO:<jürgen@example.org>", 250)
	client.Want("DATA", 354)
	client.Data(text)
	client.Expect(250)
	if m := postfix.Messages("jürgen", 1)[0]; !m.Has("Tschüß") || !m.Has("with UTF8SMTP id") {
		t.Errorf("UTF-8 arrived as\n%s", m.Data())
	}
	client.Want("QUIT", 221)
	goldenLog(t, p, "large-and-8bit", postfix.Addr)
}

// TestPostfixKeepsSignatures: a DKIM signature that verified before verifies at the far end.
func TestPostfixKeepsSignatures(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	record := "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
	names := peertest.StartNames(t, fmt.Sprintf("$TTL 60\ns1._domainkey.good.example. TXT %q %q\n", record[:200], record[200:]))
	postfix := peertest.StartPostfix(t, peertest.Postfix{})
	for _, canon := range []dkim.Canonicalization{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed} {
		p := startTestProxy(t, fmt.Sprintf(postfixConfig, names.Addr(), "", postfix.Addr), nil)
		message := "From: carol@good.example\r\nTo: alice@example.org\r\nSubject: signed  " + string(canon) +
			"\r\nX-Spam-Flag: forged\r\n\r\n.dot\r\n..dots\r\ntrailing \t\r\nGrüße\r\n" + strings.Repeat("x", 990) + "\r\n\r\n\r\n"
		var signed bytes.Buffer
		if err := dkim.Sign(&signed, strings.NewReader(message), &dkim.SignOptions{
			Domain: "good.example", Selector: "s1", Signer: key,
			HeaderCanonicalization: canon, BodyCanonicalization: canon,
			HeaderKeys: []string{"From", "To", "Subject"},
		}); err != nil {
			t.Fatal(err)
		}
		client := peertest.Dial(t, p.addr)
		client.Expect(220)
		client.Want("EHLO client.example", 250)
		if code, text := client.Deliver("carol@good.example", []string{"alice@example.org"}, signed.String()); code != 250 {
			t.Fatalf("%d %s", code, text)
		}
		client.Want("QUIT", 221)
		if line := p.events("message")[0]; !strings.Contains(line, "dkim=pass") {
			t.Errorf("%s: before: %s", canon, line)
		}
		all := postfix.Messages("alice", 1)
		delivered := all[len(all)-1].Data()
		results, err := dkim.VerifyWithOptions(bytes.NewReader(delivered), &dkim.VerifyOptions{
			LookupTXT: func(string) ([]string, error) { return []string{record}, nil },
		})
		if err != nil || len(results) != 1 || results[0].Err != nil {
			t.Errorf("%s: at the far end: %+v %v\n%s", canon, results, err, delivered)
		}
		p.stop()
	}
}

// TestOldClientIntoMaildir: the embedded default's next hop, with the oldest client's message byte for byte.
func TestOldClientIntoMaildir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startTestProxy(t, fmt.Sprintf("hostname: mx.example.org\nlisten: [{address: '127.0.0.1:0'}]\nupstream: [{address: 'maildir:%s'}]\ndns: {servers: ['%s']}\n", dir, testZone(t)), nil)
	lines := "From: \"Bob Smith\" <bob@example.org>\r\nTo: \"Alice Doe\" <alice@company.com>\r\nCc: Fred@example.com\r\n" +
		"Date: Thurs., 6 Nov. 2008 08:15:43\r\nSubject: meeting\r\nHello Mary.\r\nThis is a test message.\r\nYour friend,\r\nBob\r\n"
	client := peertest.Dial(t, p.addr)
	client.Expect(220)
	client.Want("HELO relay.company.org", 250)
	if code, text := client.Deliver("bob@company.org", []string{"alice@company.com"}, lines); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	client.Want("QUIT", 221)
	files, err := filepath.Glob(filepath.Join(dir, "new", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v", files, err)
	}
	got, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(got, []byte("Return-Path: <bob@company.org>\r\nDelivered-To: alice@company.com\r\n")) || !bytes.HasSuffix(got, []byte("\r\n"+lines)) {
		t.Errorf("delivered:\n%s", got)
	}
	if line := p.events("message")[0]; !strings.Contains(line, "defects=no_blank_line,") || !strings.Contains(line, "bad_date") {
		t.Errorf("the defects are not told: %s", line)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
}

// TestDovecotLMTP: LMTP over TCP and over a Unix socket, to a real Dovecot.
func TestDovecotLMTP(t *testing.T) {
	t.Parallel()
	dovecot := peertest.StartDovecot(t, peertest.Dovecot{})
	for _, address := range []string{"lmtp://" + dovecot.Addr, "lmtp+unix://" + dovecot.Socket} {
		p := startTestProxy(t, fmt.Sprintf("hostname: mx.example.org\ndomains: [example.org]\nnetworks: {trusted: [127.0.0.1]}\nlisten: [{address: '127.0.0.1:0'}]\nupstream: [{address: '%s'}]\ndns: {servers: ['%s']}\n", address, testZone(t)), nil)
		client := peertest.Dial(t, p.addr)
		client.Expect(220)
		client.Want("EHLO client.example", 250)
		client.Want("MAIL FROM:<carol@good.example>", 250)
		client.Want("RCPT TO:<nobody@example.org>", 550)
		client.Want("RCPT TO:<alice@example.org>", 250)
		client.Want("RCPT TO:<bob@example.org>", 250)
		client.Want("DATA", 354)
		client.Data("Subject: by " + address + "\r\n\r\ntext\r\n")
		client.Expect(250)
		client.Want("QUIT", 221)
		p.stop()
	}
	for _, user := range []string{"alice@example.org", "bob@example.org"} {
		if n := len(dovecot.Messages(user, 2)); n != 2 {
			t.Errorf("%s has %d messages, want 2", user, n)
		}
	}
}

// TestUpstreamAnswersSlowly: an upstream that does not answer within the time limit is a 4xx with a reason.
func TestUpstreamAnswersSlowly(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	sink := peertest.StartSink(t, peertest.Sink{Script: func(e peertest.Event) peertest.Answer {
		if e.Verb == "." {
			<-release
		}
		return peertest.Answer{}
	}})
	t.Cleanup(func() { close(release) })
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr), func(c *Config) {
		c.Budget.Reply = 200 * time.Millisecond
	})
	client := peertest.Dial(t, p.addr)
	client.Expect(220)
	client.Want("EHLO client.example", 250)
	code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, "Subject: slow\r\n\r\ntext\r\n")
	if code != 451 || !strings.Contains(text, "does not answer in time") {
		t.Errorf("%d %s", code, text)
	}
	client.Want("QUIT", 221)
	if line := p.events("message")[0]; !strings.Contains(line, "action=defer") || !strings.Contains(line, "outcome in doubt") {
		t.Errorf("log: %s", line)
	}
}
