package proxy

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern/filters"
	"postern/proxy/peertest"
)

// These tests use what docs/authentication.md says about turning off the checks behind Postern: the lines stand in the
// configuration of real servers as they stand on the page, but for addresses.

// pageExample gives the first example behind a heading of a page.
func pageExample(t *testing.T, name, heading string) string {
	t.Helper()
	page, err := os.ReadFile("../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), heading)
	_, rest, fence := strings.Cut(rest, "```\n")
	example, _, closed := strings.Cut(rest, "```\n")
	if !found || !fence || !closed {
		t.Fatalf("the page has no example below %s", heading)
	}
	return example
}

// swapped replaces each old text, which must be there.
func swapped(t *testing.T, s string, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(s, oldnew[i]) {
			t.Fatalf("the page's example has no %q:\n%s", oldnew[i], s)
		}
		s = strings.ReplaceAll(s, oldnew[i], oldnew[i+1])
	}
	return s
}

// startPolicyServer answers as policyd-spf does for a sender whose domain forbids it, forged@, and lets all others pass.
func startPolicyServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	conns := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			wg.Go(func() { answerPolicy(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// answerPolicy speaks Postfix's policy delegation protocol until the client goes.
func answerPolicy(c net.Conn) {
	action := "DUNNO"
	for lines := bufio.NewScanner(c); lines.Scan(); {
		switch {
		case strings.HasPrefix(lines.Text(), "sender=forged@"):
			action = "REJECT SPF fail - not authorized"
		case lines.Text() == "":
			fmt.Fprintf(c, "action=%s\n\n", action)
			action = "DUNNO"
		}
	}
}

// A signedWorld is a domain whose mail is signed, in front of a server.
type signedWorld struct {
	t        *testing.T
	key      ed25519.PrivateKey
	record   string
	resolver string
}

func newSignedWorld(t *testing.T) *signedWorld {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &signedWorld{t: t, key: key, record: "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)}
	w.resolver = serveNames(t, "$TTL 60\ns1._domainkey.good.example. TXT"+masterTXT(w.record)+"\n")
	return w
}

// deliver sends a signed message through a proxy of its own to a server.
func (w *signedWorld) deliver(upstream, from string) (code int, text string) {
	w.t.Helper()
	p := startTestProxy(w.t, fmt.Sprintf(postfixConfig, w.resolver, "", upstream), withoutPacks)
	defer p.stop()
	client := hello(w.t, p.addr)
	defer client.Close()
	client.Want("MAIL FROM:<"+from+">", 250)
	if code, text = client.Cmd("RCPT TO:<alice@example.org>"); code != 250 {
		return code, text
	}
	client.Want("DATA", 354)
	client.Data(signWithGo(w.t, w.key, "relaxed/relaxed",
		"From: Carol <carol@good.example>\r\nTo: alice@example.org\r\nSubject: signed\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"+
			"Message-ID: <"+from+">\r\n\r\ntext\r\n"))
	code, text, err := client.Reply()
	if err != nil {
		w.t.Fatal(err)
	}
	return code, text
}

// TestChecksBehindPostfixAreOff: with opendkim and a policy server at work behind us, mail is judged a second time; with
// the page's lines it is not, and opendkim goes on to sign what users submit.
func TestChecksBehindPostfixAreOff(t *testing.T) {
	t.Parallel()
	peertest.Need(t, peertest.NeedPostfix, peertest.NeedOpenDKIM)
	w := newSignedWorld(t)
	keyFile := filepath.Join(t.TempDir(), "key.pem")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	milter := peertest.StartOpenDKIM(t, "milter.example", "example.org", keyFile, "s1._domainkey.good.example "+w.record+"\n")
	usual := peertest.Postfix{Parameters: map[string]string{
		"smtpd_milters": "inet:" + milter.Addr,
		"smtpd_recipient_restrictions": "check_policy_service inet:" + startPolicyServer(t) +
			", permit_mynetworks, reject_unauth_destination",
	}}

	before := peertest.StartPostfix(t, usual)
	if code, text := w.deliver(before.Addr, "forged@good.example"); code != 550 && code != 554 {
		t.Fatalf("the policy server does not refuse: %d %s", code, text)
	}
	if code, text := w.deliver(before.Addr, "carol@good.example"); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	if got := judges(t, before.Messages("alice", 1)[0]); got != "milter.example mx.example.org" {
		t.Fatalf("before, these have judged the message: %s\n%s", got, before.Log())
	}

	main, master, found := strings.Cut(pageExample(t, "authentication.md", "**Postfix**"), "# master.cf")
	if !found {
		t.Fatal("the page's example has no master.cf")
	}
	after := usual
	after.Main = main
	after.Master = "#" + swapped(t, master, "submission inet", "SUBMISSION inet", "inet:localhost:8891", "inet:"+milter.Addr)
	postfix := peertest.StartPostfix(t, after)
	for _, from := range []string{"forged@good.example", "carol@good.example"} {
		if code, text := w.deliver(postfix.Addr, from); code != 250 {
			t.Errorf("%s: %d %s", from, code, text)
		}
	}
	for _, m := range postfix.Messages("alice", 2) {
		if got := judges(t, m); got != "mx.example.org" {
			t.Errorf("after, these have judged the message: %s", got)
		}
	}
	client := peertest.Dial(t, postfix.Submission)
	defer client.Close()
	client.Expect(220)
	client.Want("EHLO desk.example.org", 250)
	if code, text := client.Deliver("alice@example.org", []string{"bob@example.org"},
		"From: alice@example.org\r\nTo: bob@example.org\r\nSubject: lunch\r\n\r\nnow?\r\n"); code != 250 {
		t.Fatalf("submission: %d %s\n%s", code, text, postfix.Log())
	}
	if m := postfix.Messages("bob", 1)[0]; !m.Has("d=example.org") || len(m.Header("DKIM-Signature")) != 1 {
		t.Errorf("what a user submits is not signed:\n%s", m.Data())
	}
}

// judges names, in the order of the header, who says to have authenticated a message.
func judges(t *testing.T, m peertest.Message) string {
	t.Helper()
	var names []string
	for _, value := range m.Header("Authentication-Results") {
		id, ok := filters.AuthservID(value)
		if !ok {
			t.Errorf("no authserv-id in %q", value)
		}
		names = append(names, id)
	}
	return strings.Join(names, " ")
}

// TestChecksBehindEximAreOff: Exim verifies signatures unless the page's lines stand in its configuration.
func TestChecksBehindEximAreOff(t *testing.T) {
	t.Parallel()
	peertest.Need(t, peertest.NeedExim)
	w := newSignedWorld(t)
	main, acl, found := strings.Cut(pageExample(t, "authentication.md", "**Exim**"), "begin acl\n")
	if !found {
		t.Fatal("the page's example has no ACL")
	}
	acl = swapped(t, acl, "192.0.2.25", "127.0.0.1")
	acl = swapped(t, acl, "          control = dmarc_disable_verify\n", "") // as the page says: this Exim is built without DMARC
	for _, c := range []struct {
		name     string
		exim     peertest.Exim
		verifies bool
	}{
		{name: "before", verifies: true},
		{name: "after", exim: peertest.Exim{Main: main, ACL: acl}},
	} {
		exim := peertest.StartExim(t, c.exim)
		if code, text := w.deliver(exim.Addr, "carol@good.example"); code != 250 {
			t.Fatalf("%s: %d %s\n%s", c.name, code, text, exim.Log())
		}
		if got := judges(t, exim.Messages("alice", 1)[0]); got != "mx.example.org" {
			t.Errorf("%s: these have judged the message: %s", c.name, got)
		}
		if got := strings.Contains(exim.Log(), "DKIM: d=good.example"); got != c.verifies {
			t.Errorf("%s: Exim verifies: %v, want %v\n%s", c.name, got, c.verifies, exim.Log())
		}
	}
}
