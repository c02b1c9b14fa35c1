package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern/proxy/peertest"
)

// initZone is a world in which our names agree but for what its comments say.
const initZone = `$TTL 60
mx.example.org. A 192.0.2.25
25.2.0.192.in-addr.arpa. PTR mx.example.org.
example.org. MX 10 mx.example.org.
example.com. MX 10 mail.elsewhere.example.   ; leads to somebody else
example.net. MX 5 other.example.net.
example.net. MX 10 mx.example.org.
mail.elsewhere.example. A 198.51.100.1
other.example.net. A 198.51.100.2
2.0.0.127.sound.example. A 127.0.0.2
2.0.0.127.refusing.example. A 127.255.255.254
; dead.example lists nothing
two.example.org. A 192.0.2.26
26.2.0.192.in-addr.arpa. PTR host26.provider.example.
`

// runHere runs a command in this process.
func runHere(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

// wantLines wants each of them to stand somewhere in the text.
func wantLines(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(text) {
			t.Errorf("nothing matches %s in\n%s", p, text)
		}
	}
}

// It tells what is right and wrong about the server behind and DNS, and writes a configuration that goes by it.
func TestInitLooksAround(t *testing.T) {
	sink := peertest.StartSink(t, peertest.Sink{Keywords: []string{"PIPELINING", "8BITMIME", "SIZE 1000000", "XCLIENT ADDR NAME"}})
	config := filepath.Join(t.TempDir(), "etc", "postern.yaml")
	code, out, errs := runHere(t, "", "init", "-config", config, "-hostname", "mx.example.org", "-domains", "example.org,example.com,example.net",
		"-upstream", "smtp://"+sink.Addr, "-dns", peertest.StartNames(t, initZone).Addr(), "-dnsbl", "sound.example,refusing.example,dead.example", "-state", t.TempDir())
	if code != exitFine {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	wantLines(t, out,
		`^  ok    it answers: `, `^  ok    XCLIENT is offered`, `^  ok    SIZE: it takes messages up to 1000000 octets`,
		// The sink takes whomever.
		`^  WARN  example.org: it accepts recipients that can't be known to it`, `^  ok    example.org: mail to postmaster is taken`,
		`^  note  it relays for this machine`,
		`^  ok    the resolver answers`, `^  ok    mx.example.org has the address 192.0.2.25, whose reverse DNS leads back to it`,
		`^  ok    example.org: our name is in its MX records \(first\)`,
		`^  WARN  example.com: its MX records lead to mail.elsewhere.example, and not to mx.example.org`,
		`^  ok    example.net: our name is in its MX records \(a later one`,
		`^  ok    list sound.example answers us`, `^  WARN  list refusing.example: it answers 127.255.255.254: it refuses our queries`,
		`^  WARN  list dead.example: it does not list its test entry 127.0.0.2`,
		`^What to change in the server behind`, `^From observing to enforcing`,
	)
	for _, tx := range sink.Transactions() {
		if len(tx.Data) > 0 {
			t.Errorf("it sent a message: %q", tx.Data)
		}
	}
	raw, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, string(raw), `^observe: true$`, `^      - \{zone: "sound.example", score: 6\}`, `^      # - \{zone: "refusing.example", score: 6\}`,
		`^  # It offers XCLIENT`, `^  # It accepted an unknown recipient in example.org`)
	if code, out, errs := runHere(t, "", "check", "-config", config); code != exitFine {
		t.Errorf("check: %d %s%s", code, out, errs)
	}
}

// What does not answer is told, and a configuration is written all the same.
func TestInitWhereNothingAnswers(t *testing.T) {
	gone := peertest.StartSink(t, peertest.Sink{})
	gone.Stop()
	config := filepath.Join(t.TempDir(), "postern.yaml")
	code, out, errs := runHere(t, "", "init", "-config", config, "-hostname", "two.example.org", "-domains", "nowhere.example",
		"-upstream", "smtp://"+gone.Addr, "-dns", peertest.StartNames(t, initZone).Addr(), "-dnsbl", "refusing.example", "-mta", "postfix")
	if code != exitFine {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	wantLines(t, out, `^  WARN  it does not answer now: `, `^  WARN  two.example.org has the address 192.0.2.26, whose reverse DNS \(PTR\) is host26.provider.example`,
		`^  WARN  nowhere.example has no MX record`, `^What to change in Postfix`, `^    -o smtpd_authorized_xclient_hosts=127.0.0.1`)
	if code, out, errs := runHere(t, "", "check", "-config", config); code != exitFine {
		t.Errorf("check: %d %s%s", code, out, errs)
	}
}

// A configuration that is there stays, or is kept beside the new one; what can't serve is not written.
func TestInitKeepsWhatIsThere(t *testing.T) {
	dir := folder(t, map[string]string{"postern.yaml": "mine\n"})
	config := filepath.Join(dir, "postern.yaml")
	args := []string{"init", "-config", config, "-hostname", "mx.example.org", "-domains", "example.org", "-offline"}
	if code, _, errs := runHere(t, "", args...); code != exitBad || !strings.Contains(errs, "is there already: expected -force") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs := runHere(t, "", append(args, "-force", "-upstream", "smpt://x")...); code != exitBad || !strings.Contains(errs, "smpt") {
		t.Errorf("exit %d: %s", code, errs)
	}
	for name, want := range map[string]string{"postern.yaml": "mine\n"} {
		if raw, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(raw) != want {
			t.Errorf("%s is %q, %v", name, raw, err)
		}
	}
	if code, _, errs := runHere(t, "", append(args, "-force")...); code != exitFine {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if raw, err := os.ReadFile(config + ".old"); err != nil || string(raw) != "mine\n" {
		t.Errorf("the old one is %q, %v", raw, err)
	}
	for _, wrong := range [][]string{{"-domains", "example.org"}, {"-hostname", "mx.example.org"}, {"-mta", "qmail"}, {"-hostname", "mx.example.org", "-domains", "example.org", "-cert", "x"}} {
		args := append([]string{"init", "-config", filepath.Join(dir, "other.yaml"), "-offline"}, wrong...)
		if name := machineName(); name != "" && wrong[0] == "-domains" {
			continue // the machine's name will do
		}
		if code, _, errs := runHere(t, "", args...); code != exitUsage {
			t.Errorf("%v: exit %d: %s", wrong, code, errs)
		}
	}
}

// What no flag says is asked for; an empty answer takes what is proposed.
func TestInitAsks(t *testing.T) {
	config := filepath.Join(t.TempDir(), "postern.yaml")
	code, out, errs := runHere(t, "example.org, example.com\nlmtp://127.0.0.1:2424\n\n", "init", "-ask", "-config", config, "-hostname", "mx.example.org", "-offline")
	if code != exitFine {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	raw, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, string(raw), `^domains: \["example.org", "example.com"\]`, `^  - address: ":25"`, `^  - address: "lmtp://127.0.0.1:2424"`)
	if code, _, errs := runHere(t, "example.org\n", "init", "-ask", "-config", config+".2", "-hostname", "mx.example.org", "-offline"); code != exitBad || !strings.Contains(errs, "no more answers") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// initFor writes a configuration for a real server, serves by it, and sends a message through.
func initFor(t *testing.T, addr string, change func(config string) string, want ...string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "postern.yaml")
	names := peertest.StartNames(t, initZone).Addr()
	code, out, errs := runHere(t, "", "init", "-config", config, "-hostname", "mx.example.org", "-domains", "example.org",
		"-upstream", "smtp://"+addr, "-listen", "127.0.0.1:0", "-dns", names, "-dnsbl", "sound.example", "-state", dir)
	if code != exitFine {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	wantLines(t, out, want...)
	raw, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text := change(strings.Replace(string(raw), "127.0.0.1:9125", "127.0.0.1:0", 1))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startServe(t, dir, "-config", config)
	c := dial(t, p.addr)
	c.say("EHLO mail.corp.example", 250)
	c.say("MAIL FROM:<carol@home.example>", 250)
	c.say("RCPT TO:<nobody-at-all@example.org>", 550)
	c.deliver("alice@example.org", hello)
	c.say("QUIT", 221)
	if line := p.await("event=message"); value(line, "action") != "accept" {
		t.Errorf("logged: %s", line)
	}
}

// deliver goes on with a transaction that has begun.
func (c *client) deliver(to, message string) {
	c.t.Helper()
	c.say("RCPT TO:<"+to+">", 250)
	c.say("DATA", 354)
	if _, err := fmt.Fprint(c.conn, message); err != nil {
		c.t.Fatal(err)
	}
	c.say(".", 250)
}

// block gives the first fenced block of a text that postern init prints, with some of it replaced.
func block(t *testing.T, name string, pairs ...string) string {
	t.Helper()
	_, rest, found := strings.Cut(behindText(name), "```\n")
	text, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatalf("%s has no block", name)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the block of %s does not say %q", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// The lines for Postfix, in a real one: it is recognised, hears the real client, refuses unknown recipients, and what init
// writes serves in front of it.
func TestInitBehindPostfix(t *testing.T) {
	t.Parallel()
	peertest.Need(t, peertest.NeedPostfix)
	postfix := peertest.StartPostfix(t, peertest.Postfix{Master: block(t, "postfix", "127.0.0.1:2525 inet", "SUBMISSION inet")})
	initFor(t, postfix.Submission, func(s string) string { return s },
		`^  ok    it answers: mx.example.org \(Postfix\)`, `^  ok    XCLIENT is offered`, `^  ok    example.org: unknown recipients are refused: 550 `, `^What to change in Postfix`)
	postfix.Messages("alice", 1)
	relay := peertest.Dial(t, postfix.Submission)
	defer relay.Close()
	relay.Expect(220)
	relay.Want("EHLO mx.example.org", 250)
	relay.Want("XCLIENT ADDR=192.0.2.10", 220)
	relay.Want("EHLO mx.example.org", 250)
	relay.Want("MAIL FROM:<carol@home.example>", 250)
	relay.Want("RCPT TO:<someone@elsewhere.example>", 554)
}

// The same with Exim: before the page's lines, and with them, when it reads a PROXY header.
func TestInitBehindExim(t *testing.T) {
	t.Parallel()
	peertest.Need(t, peertest.NeedExim)
	exim := peertest.StartExim(t, peertest.Exim{})
	initFor(t, exim.Addr, func(s string) string { return s },
		`^  ok    it answers: mx.example.org \(Exim\)`, `^  ok    example.org: unknown recipients are refused: 550 `, `^What to change in Exim`)
	exim.Messages("alice", 1)

	main := block(t, "exim", "local_interfaces = 127.0.0.1.2525\n", "domainlist local_domains = example.org\n", "hosts_proxy = 127.0.0.1\n", "hosts_proxy = 127.0.0.1\n")
	_, rest, _ := strings.Cut(behindText("exim"), "# the ACL for RCPT, before anything that accepts\n")
	acl, _, found := strings.Cut(rest, "```\n")
	if !found || !strings.Contains(acl, "verify = recipient") {
		t.Fatalf("the page has no ACL: %s", rest)
	}
	behind := peertest.StartExim(t, peertest.Exim{Proxy: true, Main: main, RcptACL: acl})
	serveInFrontOf(t, behind.Addr, "proxy", behind.Messages)
}

// serveInFrontOf has a proxy hand on the mail of the client 192.0.2.10 to a server, which must know whose it is.
func serveInFrontOf(t *testing.T, upstream, info string, mail func(user string, n int) []peertest.Message) {
	t.Helper()
	dir := folder(t, map[string]string{"postern.yaml": fmt.Sprintf("hostname: mx.example.org\ndomains: [example.org]\nlisten: [{address: '127.0.0.1:0', xclient: [127.0.0.1]}]\n"+
		"networks: {trusted: [192.0.2.10]}\nupstream: [{address: 'smtp://%s', client_info: %s}]\ndns: {servers: ['%s']}\n", upstream, info, peertest.StartNames(t, initZone).Addr())})
	p := startServe(t, dir, "-config", "postern.yaml")
	c := dial(t, p.addr)
	c.say("EHLO mail.corp.example", 250)
	c.say("XCLIENT ADDR=192.0.2.10", 220)
	c.say("EHLO mail.corp.example", 250)
	c.say("MAIL FROM:<carol@home.example>", 250)
	c.say("RCPT TO:<nobody-at-all@example.org>", 550)
	c.deliver("alice@example.org", hello)
	c.say("QUIT", 221)
	if m := mail("alice", 1)[0]; !strings.Contains(strings.Join(m.Header("Received"), "\n"), "[192.0.2.10]") {
		t.Errorf("the server does not know the client:\n%s", m.Data())
	}
}

// The same with OpenSMTPD: before the page's line, and with it, when it waits for the PROXY header.
func TestInitBehindOpenSMTPD(t *testing.T) {
	t.Parallel()
	peertest.Need(t, peertest.NeedOpenSMTPD)
	plain := peertest.StartOpenSMTPD(t, peertest.OpenSMTPD{})
	initFor(t, plain.Addr, func(s string) string { return s },
		`^  ok    it answers: mx.example.org \(OpenSMTPD\)`, `^  ok    example.org: unknown recipients are refused: 550 `, `^What to change in OpenSMTPD`)
	plain.Messages("alice", 1)
	if line := block(t, "opensmtpd"); !strings.Contains(line, "\nlisten on 127.0.0.1 port 2525 hostname mx.example.org proxy-v2\n") {
		t.Errorf("the tests' server has another line than\n%s", line)
	}
	behind := peertest.StartOpenSMTPD(t, peertest.OpenSMTPD{Proxy: true})
	serveInFrontOf(t, behind.Addr, "proxy-v2", behind.Messages)
}

// docs/behind.md and the quick start show what postern init prints; -update puts it there anew.
func TestBehindPage(t *testing.T) {
	var page strings.Builder
	page.WriteString("# The server behind\n\nWhat to change in the mail server that Postern stands in front of, so that it trusts Postern and only Postern, hears who the\n" +
		"real client is, and refuses unknown recipients in time. `postern init` finds out which server it is, looks whether it does so,\nand prints the part that fits.\n" +
		"The lines for Postfix, Exim and OpenSMTPD are tried with the real programs; those for the others are not.\n")
	for _, m := range mtas {
		fmt.Fprintf(&page, "\n## %s\n\n%s", m.title, behindText(m.name))
	}
	wantPage(t, "behind.md", func(string) string { return page.String() })
	wantPage(t, "quickstart.md", func(old string) string {
		before, rest, found := strings.Cut(old, "<!-- enforce -->\n")
		_, after, closed := strings.Cut(rest, "<!-- /enforce -->")
		if !found || !closed {
			t.Fatal("docs/quickstart.md has no place for how to enforce")
		}
		return before + "<!-- enforce -->\n" + behindText("enforce") + "<!-- /enforce -->" + after
	})
}

// wantPage wants a page to be what made makes of it.
func wantPage(t *testing.T, name string, made func(old string) string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", name)
	raw, err := os.ReadFile(path)
	if err != nil && !(*update && os.IsNotExist(err)) {
		t.Fatal(err)
	}
	want := made(string(raw))
	if want == string(raw) {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("docs/%s is not what postern init prints; go test ./cmd/postern -run BehindPage -update", name)
}
