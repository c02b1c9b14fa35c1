package proxy

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/proxy/peertest"
)

// hello connects and says EHLO.
func hello(t testing.TB, addr string) *peertest.Client {
	t.Helper()
	client := peertest.Dial(t, addr)
	client.Expect(220)
	client.Want("EHLO client.example", 250)
	return client
}

const shortMessage = "From: carol@plain.example\r\nSubject: x\r\n\r\ntext\r\n"

// TestRoutes: mail for a routed domain goes to its own upstream, and recipients on different routes can't share a
// message.
func TestRoutes(t *testing.T) {
	t.Parallel()
	main, other := peertest.StartSink(t, peertest.Sink{}), peertest.StartSink(t, peertest.Sink{})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+main.Addr)+
		fmt.Sprintf("routes: [{domains: [EXAMPLE.net], upstream: [{address: 'smtp://%s'}]}]\n", other.Addr), withoutPacks)
	client := hello(t, p.addr)
	client.Want("MAIL FROM:<carol@plain.example>", 250)
	client.Want("RCPT TO:<bob@Example.Net>", 250)
	if text := client.Want("RCPT TO:<alice@example.org>", 452); !strings.HasPrefix(text, "4.5.3 ") {
		t.Errorf("recipients on two routes: %s", text)
	}
	client.Want("DATA", 354)
	client.Data(shortMessage)
	client.Expect(250)
	if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, shortMessage); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	client.Want("QUIT", 221)
	for name, sink := range map[string]*peertest.SinkServer{"bob@Example.Net": other, "alice@example.org": main} {
		txs := sink.Wait(1)
		if len(txs) != 1 || len(txs[0].Rcpts) != 1 || !strings.Contains(txs[0].Rcpts[0], name) {
			t.Errorf("%s: %+v", name, txs)
		}
	}
}

// TestFailover: with the first upstream down the second is used, before DATA.
func TestFailover(t *testing.T) {
	t.Parallel()
	first, second := peertest.StartSink(t, peertest.Sink{}), peertest.StartSink(t, peertest.Sink{})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+first.Addr)+"  - address: smtp://"+second.Addr+"\n", withoutPacks)
	first.Stop()
	client := hello(t, p.addr)
	if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, shortMessage); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	client.Want("QUIT", 221)
	if n := len(second.Wait(1)); n != 1 {
		t.Errorf("the second upstream has %d messages", n)
	}
}

// TestProxyHeader: a configured peer's PROXY header says who the client is.
func TestProxyHeader(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	config := strings.Replace(fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr), "xclient:", "proxy_protocol:", 1)
	p := startTestProxy(t, config, withoutPacks)
	client := peertest.Dial(t, p.addr)
	client.Send("PROXY TCP4 192.0.2.10 192.0.2.1 1234 25\r\n")
	client.Expect(220)
	client.Want("EHLO mail.good.example", 250)
	if code, text := client.Deliver("carol@good.example", []string{"alice@example.org"}, shortMessage); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	client.Want("QUIT", 221)
	if line := p.events("message")[0]; !strings.Contains(line, " ip=192.0.2.10 ") || !strings.Contains(line, "spf=pass") {
		t.Errorf("log: %s", line)
	}
	silent := peertest.Dial(t, p.addr)
	silent.Send("EHLO client.example\r\n")
	if _, text, err := silent.Reply(); err == nil && !strings.HasPrefix(text, "4.") && !strings.HasPrefix(text, "5.") {
		t.Errorf("a peer without a header is served: %s", text)
	}
}

// TestClientInfo: Postfix sees the real client in its own log and Received field by XCLIENT, and logs it by XFORWARD.
func TestClientInfo(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]peertest.Postfix{
		"xclient":  {XClient: []string{"127.0.0.0/8"}},
		"xforward": {XForward: []string{"127.0.0.0/8"}},
	} {
		t.Run(name, func(t *testing.T) {
			postfix := peertest.StartPostfix(t, opt)
			p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+postfix.Addr), withoutPacks)
			client := hello(t, p.addr)
			client.Want("XCLIENT ADDR=192.0.2.10", 220)
			client.Want("EHLO mail.good.example", 250)
			if code, text := client.Deliver("carol@good.example", []string{"alice@example.org"}, shortMessage); code != 250 {
				t.Fatalf("%d %s", code, text)
			}
			client.Want("QUIT", 221)
			m := postfix.Messages("alice", 1)[0]
			seen := postfix.Log()
			if name == "xclient" {
				seen = strings.Join(m.Header("Received"), "\n")
			}
			if !strings.Contains(seen, "mail.good.example[192.0.2.10]") && !strings.Contains(seen, "mail.good.example [192.0.2.10]") {
				t.Errorf("Postfix does not know the client:\n%s", seen)
			}
		})
	}
}

// TestClientInfoChanges: a client that becomes another one by XCLIENT, or gives another name, is told to the next hop
// anew, over the same connection from it.
func TestClientInfoChanges(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{Keywords: []string{"PIPELINING", "XFORWARD NAME ADDR HELO"}})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr), withoutPacks)
	client := hello(t, p.addr)
	for _, ip := range []string{"192.0.2.10", "192.0.2.20"} {
		client.Want("XCLIENT ADDR="+ip, 220)
		for _, name := range []string{"one.example", "two.example"} {
			client.Want("EHLO "+name, 250)
			if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, shortMessage); code != 250 {
				t.Fatalf("%d %s", code, text)
			}
		}
		// Said goodbye, this client knows what became of its mail: the same bytes of the next one are no retry.
		client.Want("QUIT", 221)
		client = hello(t, p.addr)
	}
	client.Want("QUIT", 221)
	for i, want := range []string{"192.0.2.10 one.example", "192.0.2.10 two.example", "192.0.2.20 one.example", "192.0.2.20 two.example"} {
		ip, name, _ := strings.Cut(want, " ")
		told := strings.Join(sink.Wait(4)[i].Extra, " ")
		last := told[max(0, strings.LastIndex(told, "XFORWARD")):]
		if !strings.Contains(told, "ADDR="+ip) || !strings.Contains(last, "HELO="+name) {
			t.Errorf("message %d: the next hop was told %s, want %s", i+1, told, want)
		}
	}
}

// TestListsAreTestedAtStart: a list that lists everything is found out before the first client comes.
func TestListsAreTestedAtStart(t *testing.T) {
	t.Parallel()
	names := peertest.StartNames(t, "$TTL 60\n*.everything.example. A 127.0.0.2\n2.0.0.127.sound.example. A 127.0.0.2\ntest.sound.example. A 127.0.0.2\n")
	sink := peertest.StartSink(t, peertest.Sink{})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, names.Addr(), "", "smtp://"+sink.Addr)+
		"filters: {dnsbl: {lists: [{zone: everything.example, score: 6}, {zone: sound.example, score: 6}, {zone: dead.example, score: 6, of: [from]}]}}\n", withoutPacks)
	waitFor(t, "the tests of the lists", func() bool {
		return len(p.events("dnsbl_parked")) == 1 && len(p.events("dnsbl_out_of_service")) == 1
	})
	if line := p.events("dnsbl_parked")[0]; !strings.Contains(line, "zone=everything.example") {
		t.Errorf("log: %s", line)
	}
	if line := p.events("dnsbl_out_of_service")[0]; !strings.Contains(line, "zone=dead.example") {
		t.Errorf("log: %s", line)
	}
}

// TestQuarantineUpstream: diverting to another server.
func TestQuarantineUpstream(t *testing.T) {
	t.Parallel()
	sink, held := peertest.StartSink(t, peertest.Sink{}), peertest.StartSink(t, peertest.Sink{})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr)+
		fmt.Sprintf("quarantine: smtp://%s\nfilters: {content: {rules: [sessions.yaml], packs: []}}\n", held.Addr), nil)
	client := hello(t, p.addr)
	message := "From: carol@plain.example\r\nSubject: hold this\r\n\r\ntext\r\n"
	if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, message); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	tx := held.Wait(1)[0]
	for _, want := range []string{"X-Postern-Envelope-From: <carol@plain.example>", "X-Postern-Envelope-To: <alice@example.org>", "X-Spam-Flag: YES", "hold this"} {
		if !strings.Contains(string(tx.Data), want) {
			t.Errorf("no %s in\n%s", want, tx.Data)
		}
	}
	// If diverting fails the client keeps the message.
	held.Stop()
	if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, message); code/100 != 4 {
		t.Errorf("quarantine down: %d %s", code, text)
	}
	client.Want("QUIT", 221)
	if n := len(sink.Transactions()); n != 0 {
		t.Errorf("%d diverted messages were delivered", n)
	}
}

// TestQuarantineRelease: what was diverted is listed with its envelope, and released whole and unmarked.
func TestQuarantineRelease(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	folder := filepath.Join(t.TempDir(), "held")
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr)+
		"quarantine: maildir:"+folder+"\nfilters: {content: {rules: [sessions.yaml], packs: []}}\n", nil)
	client := hello(t, p.addr)
	message := "Return-Path: <forged@x.example>\r\nX-Postern-Envelope-To: <forged@x.example>\r\nFrom: carol@plain.example\r\nSubject: hold this\r\n\r\n.text\r\n"
	if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org", `"o'brien, pat"@example.org`}, message); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	client.Want("QUIT", 221)
	q, err := p.server.runtime.Load().Quarantine()
	if err != nil {
		t.Fatal(err)
	}
	list, err := q.List()
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	item := list[0]
	if item.From != "carol@plain.example" || strings.Join(item.Rcpts, " ") != `alice@example.org "o'brien, pat"@example.org` || item.Subject != "hold this" {
		t.Errorf("listed as %+v", item)
	}
	sink.Stop()
	if _, err := q.Release(t.Context(), item.ID); err == nil {
		t.Error("released to an upstream that is down")
	}
	sink.Start()
	if _, err := q.Release(t.Context(), item.ID); err != nil {
		t.Fatal(err)
	}
	tx := sink.Wait(1)[0]
	if !strings.HasSuffix(string(tx.Data), "\r\n"+message) || strings.Contains(string(tx.Data), "X-Spam-Flag") || !strings.HasPrefix(string(tx.Data), "Authentication-Results: mx.example.org;") {
		t.Errorf("released as\n%s", tx.Data)
	}
	if len(tx.Rcpts) != 2 {
		t.Errorf("released to %v", tx.Rcpts)
	}
	if left, err := q.List(); err != nil || len(left) != 0 {
		t.Errorf("still there: %+v %v", left, err)
	}
	// A message that came with SMTPUTF8 addresses goes out with them.
	client = hello(t, p.addr)
	client.Want("MAIL FROM:<carol@plain.example> SMTPUTF8", 250)
	client.Want("RCPT TO:<jürgen@example.org>", 250)
	client.Want("DATA", 354)
	client.Data(message)
	client.Expect(250)
	client.Want("QUIT", 221)
	if list, err = q.List(); err != nil || len(list) != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	if _, err := q.Release(t.Context(), list[0].ID); err != nil {
		t.Fatal(err)
	}
	if tx := sink.Wait(2)[1]; len(tx.Rcpts) != 1 || !strings.Contains(tx.Rcpts[0], "jürgen@example.org") || !strings.Contains(tx.Mail, "SMTPUTF8") {
		t.Errorf("released by %s to %v", tx.Mail, tx.Rcpts)
	}
	if _, err := q.Release(t.Context(), "../../etc/passwd"); err == nil {
		t.Error("released what is not there")
	}
}

// TestImplicitTLS: TLS from the first byte on.
func TestImplicitTLS(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	cert := peertest.NewCert(t, "mx.example.org")
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t),
		fmt.Sprintf("    tls: [{cert: %s, key: %s}]\n    implicit_tls: true\n", cert.CertFile, cert.KeyFile), "smtp://"+sink.Addr), withoutPacks)
	client := peertest.Dial(t, p.addr)
	client.Handshake(&tls.Config{InsecureSkipVerify: true})
	client.Expect(220)
	if caps := client.Want("EHLO client.example", 250); strings.Contains(caps, "STARTTLS") {
		t.Errorf("STARTTLS is offered inside TLS:\n%s", caps)
	}
	if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, shortMessage); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	if data := string(sink.Wait(1)[0].Data); !strings.Contains(data, "with ESMTPS id") {
		t.Errorf("delivered as\n%s", data)
	}
}

// TestReload: a new configuration holds for the next transaction, of an open connection too; the one under way keeps
// the old one.
func TestReload(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	config := fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr)
	p := startTestProxy(t, config, withoutPacks)
	client := hello(t, p.addr)
	client.Want("MAIL FROM:<carol@plain.example>", 250)
	client.Want("RCPT TO:<alice@example.net>", 250)
	path := filepath.Join(t.TempDir(), "new.yaml")
	if err := os.WriteFile(path, []byte(strings.Replace(config, "example.org, example.net", "example.org", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := NewRuntime(t.Context(), cfg, RuntimeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.server.Reload(t.Context(), rt); err != nil {
		t.Fatal(err)
	}
	client.Want("RCPT TO:<bob@example.net>", 250)
	client.Want("DATA", 354)
	client.Data(shortMessage)
	client.Expect(250)
	client.Want("MAIL FROM:<carol@plain.example>", 250)
	client.Want("RCPT TO:<alice@example.net>", 550)
	client.Want("RCPT TO:<alice@example.org>", 250)
	client.Want("QUIT", 221)
	if n := len(p.events("reloaded")); n != 1 {
		t.Errorf("%d lines tell of the reload", n)
	}
}

// TestDrain: a transaction under way ends, and who is idle hears 421.
func TestDrain(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr), withoutPacks)
	idle, busy := hello(t, p.addr), hello(t, p.addr)
	busy.Want("MAIL FROM:<carol@plain.example>", 250)
	busy.Want("RCPT TO:<alice@example.org>", 250)
	busy.Want("DATA", 354)
	done := make(chan struct{})
	go func() {
		p.stop()
		close(done)
	}()
	if code, text, err := idle.Reply(); err != nil || code != 421 {
		t.Errorf("idle: %d %s %v", code, text, err)
	}
	busy.Data(shortMessage)
	busy.Expect(250)
	busy.Want("QUIT", 221)
	<-done
	if n := len(sink.Transactions()); n != 1 {
		t.Errorf("%d messages arrived", n)
	}
}

// TestNotARelayByLocalPart: a Postfix as it comes trusts the proxy's address and sends on what a local part asks for;
// so the proxy does not hand it such addresses.
func TestNotARelayByLocalPart(t *testing.T) {
	t.Parallel()
	postfix := peertest.StartPostfix(t, peertest.Postfix{Parameters: map[string]string{
		"mydestination": "example.org", "virtual_mailbox_domains": "", "local_recipient_maps": "",
	}})
	config := strings.Replace(fmt.Sprintf(postfixConfig, testZone(t), "", postfix.Addr), "smtp://"+postfix.Addr, "smtp://"+postfix.Addr+"\n    client_info: none", 1)
	p := startTestProxy(t, config, withoutPacks)
	for _, rcpt := range []string{
		"victim%other.example@example.org", "other.example!victim@example.org", `"victim@other.example"@example.org`,
		`"victim%other.example"@example.org`, "@example.org:victim%other.example@example.org", "victim@other.example@example.org",
	} {
		client := hello(t, p.addr)
		client.Want("MAIL FROM:<carol@plain.example>", 250)
		if code, text := client.Cmd("RCPT TO:<" + rcpt + ">"); code/100 != 5 {
			t.Errorf("%s: %d %s", rcpt, code, text)
		}
		client.Want("QUIT", 221)
	}
	// Without the proxy this Postfix takes them: the test would show an open relay.
	direct := peertest.Dial(t, postfix.Addr)
	direct.Expect(220)
	direct.Want("EHLO client.example", 250)
	direct.Want("MAIL FROM:<carol@plain.example>", 250)
	direct.Want("RCPT TO:<victim%other.example@example.org>", 250)
	direct.Want("QUIT", 221)
}
