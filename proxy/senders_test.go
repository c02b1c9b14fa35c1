package proxy

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/proxy/peertest"
)

// These tests have real servers send mail to the proxy, and real load balancers stand in front of it.

// trusting adds that clients on the loopback are our own: nothing is held against them but their form.
const trusting = "networks: {trusted: [127.0.0.0/8]}\n"

// A mailServer hands mail for other domains to the proxy.
type mailServer struct {
	addr  string
	log   func() string
	retry func() // has it try again; nil if it always does so by itself
}

// Exim, OpenSMTPD and Postfix as clients: the mail that was deferred comes again, and arrives once, as it was sent.
func TestSenders(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T, to string) mailServer{
		"Exim": func(t *testing.T, to string) mailServer {
			s := peertest.StartExim(t, peertest.Exim{Domains: []string{"plain.example"}, SmartHost: to})
			return mailServer{addr: s.Addr, log: s.Log}
		},
		"OpenSMTPD": func(t *testing.T, to string) mailServer {
			s := peertest.StartOpenSMTPD(t, peertest.OpenSMTPD{Domains: []string{"plain.example"}, SmartHost: to})
			return mailServer{addr: s.Addr, log: s.Log, retry: s.Retry}
		},
		"Postfix": func(t *testing.T, to string) mailServer {
			s := peertest.StartPostfix(t, peertest.Postfix{Domains: []string{"plain.example"}, SmartHost: to})
			return mailServer{addr: s.Addr, log: s.Log, retry: s.Retry}
		},
	} {
		for _, verb := range []string{"RCPT", "."} {
			t.Run(name+" deferred at "+verb, func(t *testing.T) {
				t.Parallel()
				sendAgain(t, start, verb)
			})
		}
	}
}

func sendAgain(t *testing.T, start func(t *testing.T, to string) mailServer, verb string) {
	var refused atomic.Int32
	sink := peertest.StartSink(t, peertest.Sink{Script: func(e peertest.Event) peertest.Answer {
		if e.Verb == verb && refused.CompareAndSwap(0, 1) {
			return peertest.Answer{Reply: "451 4.3.0 Not now"}
		}
		return peertest.Answer{}
	}})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr)+trusting, withoutPacks)
	from := start(t, p.addr)
	client := peertest.Dial(t, from.addr)
	client.Expect(220)
	client.Want("EHLO client.example", 250)
	body := ".a dot\r\n..two\r\nwords \t \r\n\r\nlast\r\n"
	code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"},
		"From: carol@plain.example\r\nTo: alice@example.org\r\nSubject: again\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@plain.example>\r\n\r\n"+body)
	if code != 250 {
		t.Fatalf("the sender itself says %d %s", code, text)
	}
	client.Want("QUIT", 221)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the sender's log:\n%s", from.log())
		}
	})
	waitFor(t, "the deferral", func() bool { return strings.Contains(from.log(), "Not now") })
	// A try that comes too early for the sender's own book-keeping does nothing: so it is asked until the mail has come.
	asked := time.Now()
	waitFor(t, "the second try", func() bool {
		if len(storedBy(sink)) > 0 {
			return true
		}
		if from.retry != nil && time.Since(asked) > 200*time.Millisecond {
			from.retry()
			asked = time.Now()
		}
		return false
	})
	waitFor(t, "the line of the second try", func() bool { return len(p.events("message")) >= 2 })
	p.stop()
	txs := storedBy(sink)
	if len(txs) != 1 || !strings.HasSuffix(string(txs[0].Data), "\r\n\r\n"+body) {
		t.Fatalf("%d messages arrived: %+v\n%s", len(txs), txs, from.log())
	}
	lines := p.events("message")
	if !strings.Contains(lines[0], " action=defer ") || !strings.Contains(lines[0], "Not now") || !strings.Contains(lines[1], " action=accept ") {
		t.Errorf("the log does not tell of a deferral and a delivery:\n%s", strings.Join(lines, "\n"))
	}
	// Postfix says why it was deferred in our words, which are the next hop's.
	if !strings.Contains(from.log(), "451 4.3.0 Not now") {
		t.Errorf("the sender did not hear the next hop's reply:\n%s", from.log())
	}
}

// storedBy gives the messages that a sink has said 250 to.
func storedBy(sink *peertest.SinkServer) []peertest.Transaction {
	return slices.DeleteFunc(sink.Transactions(), func(tx peertest.Transaction) bool {
		return len(tx.Replies) != 1 || !strings.HasPrefix(tx.Replies[0], "250")
	})
}

// nginx and HAProxy in front: the client is the one that the PROXY header names.
func TestLoadBalancersInFront(t *testing.T) {
	t.Parallel()
	const header, xclient = "proxy_protocol: [127.0.0.1]", "xclient: [127.0.0.1]"
	for name, front := range map[string]struct {
		trust string // what the listener lets it do
		start func(t *testing.T, to string) (addr string)
	}{
		"nginx, version 1": {trust: header, start: func(t *testing.T, to string) string {
			return peertest.StartNginx(t, peertest.Nginx{Upstream: to, Proxy: true}).Addr
		}},
		"nginx as a mail proxy, version 1": {trust: header, start: func(t *testing.T, to string) string {
			return peertest.StartNginxMail(t, peertest.NginxMail{Upstream: to, Proxy: true}).Addr
		}},
		"nginx as a mail proxy, XCLIENT": {trust: xclient, start: func(t *testing.T, to string) string {
			return peertest.StartNginxMail(t, peertest.NginxMail{Upstream: to, XClient: true}).Addr
		}},
		"nginx as a mail proxy, both": {trust: header + "\n    " + xclient, start: func(t *testing.T, to string) string {
			return peertest.StartNginxMail(t, peertest.NginxMail{Upstream: to, Proxy: true, XClient: true}).Addr
		}},
		"HAProxy, version 1": {trust: header, start: func(t *testing.T, to string) string {
			return peertest.StartHAProxy(t, peertest.HAProxy{Upstream: to, Proxy: 1}).Addr
		}},
		"HAProxy, version 2": {trust: header, start: func(t *testing.T, to string) string {
			return peertest.StartHAProxy(t, peertest.HAProxy{Upstream: to, Proxy: 2}).Addr
		}},
		"HAProxy, version 2 and more": {trust: header, start: func(t *testing.T, to string) string {
			return peertest.StartHAProxy(t, peertest.HAProxy{Upstream: to, Proxy: 2, Server: "proxy-v2-options ssl,cert-cn,authority,unique-id,crc32c"}).Addr
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			postfix := peertest.StartPostfix(t, peertest.Postfix{XClient: []string{"127.0.0.0/8"}})
			config := strings.Replace(fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+postfix.Addr), xclient, front.trust, 1)
			p := startTestProxy(t, config, withoutPacks)
			addr := front.start(t, p.addr)
			client := peertest.DialFrom(t, "127.0.0.7", addr)
			client.Expect(220)
			client.Want("EHLO client.example", 250)
			if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, shortMessage); code != 250 {
				t.Fatalf("%d %s", code, text)
			}
			client.Want("QUIT", 221)
			// The client's own address goes through both proxies, into the log of the server at the end.
			received := strings.Join(postfix.Messages("alice", 1)[0].Header("Received"), "\n")
			if line := p.events("message")[0]; !strings.Contains(line, " ip=127.0.0.7 ") || !strings.Contains(received, "[127.0.0.7]") ||
				!strings.Contains(postfix.Log(), "[127.0.0.7]") {
				t.Errorf("the client is not known as 127.0.0.7:\n%s\n%s\n%s", line, received, postfix.Log())
			}
		})
	}
}

// What docs/running.md says to load balancers stands in their configuration, but for addresses: two Posterns behind one
// each have a part of the sessions, of the real client.
func TestLoadBalancersAsThePageSays(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		listen string // in the example
		start  func(t *testing.T, config string) (addr string)
	}{
		"**HAProxy**": {listen: "bind :25", start: func(t *testing.T, config string) string {
			return peertest.StartHAProxy(t, peertest.HAProxy{Config: config}).Addr
		}},
		"**nginx**": {listen: "listen 25", start: func(t *testing.T, config string) string {
			return peertest.StartNginx(t, peertest.Nginx{Stream: config}).Addr
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := peertest.StartSink(t, peertest.Sink{})
			config := strings.Replace(fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr), "xclient:", "proxy_protocol:", 1)
			one, two := startTestProxy(t, config, withoutPacks), startTestProxy(t, config, withoutPacks)
			verb, _, _ := strings.Cut(tc.listen, " ")
			addr := tc.start(t, swapped(t, pageExample(t, "running.md", name), tc.listen, verb+" ADDR", "192.0.2.11:25", one.addr, "192.0.2.12:25", two.addr))
			both := func() bool {
				return slices.ContainsFunc(one.events("message"), from7) && slices.ContainsFunc(two.events("message"), from7)
			}
			for i := 0; !both() && i < 100; i++ {
				client := peertest.DialFrom(t, "127.0.0.7", addr)
				client.Expect(220)
				client.Want("EHLO client.example", 250)
				if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, fmt.Sprint(shortMessage, i, "\r\n")); code != 250 {
					t.Fatalf("%d %s", code, text)
				}
				client.Want("QUIT", 221)
			}
			if !both() {
				t.Errorf("not both have had messages of 127.0.0.7: %v\n%v", one.events("message"), two.events("message"))
			}
		})
	}
}

// from7 says whether a message's line names the client 127.0.0.7.
func from7(line string) bool { return strings.Contains(line, " ip=127.0.0.7 ") }

// The health checks of HAProxy, which come with a PROXY header that names no client, are answered, and are sessions of
// HAProxy's own.
func TestBalancerChecksHealth(t *testing.T) {
	t.Parallel()
	for version, more := range map[int]string{1: "", 2: " proxy-v2-options crc32c"} {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			t.Parallel()
			sink := peertest.StartSink(t, peertest.Sink{})
			config := strings.Replace(fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr), "xclient:", "proxy_protocol:", 1)
			p := startTestProxy(t, config, withoutPacks)
			balancer := peertest.StartHAProxy(t, peertest.HAProxy{Upstream: p.addr, Proxy: version, Server: "check inter 500ms" + more})
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("HAProxy said\n%s", balancer.Log())
				}
			})
			waitFor(t, "a check that succeeded", func() bool {
				return strings.Contains(balancer.Log(), "Health check for server smtp/mail succeeded, reason: Layer7 check passed")
			})
			waitFor(t, "its session", func() bool {
				return slices.ContainsFunc(p.events("session"), func(line string) bool {
					return strings.Contains(line, " ip=127.0.0.1 ") && strings.Contains(line, ` helo="balancer.example"`)
				})
			})
		})
	}
}

// smtp-source, Postfix's load generator, with 100 sessions at once.
func TestSMTPSource(t *testing.T) {
	t.Parallel()
	peertest.Need(t, "smtp-source")
	messages := 500
	if os.Getenv("POSTERN_FULL") == "1" {
		messages = 10_000
	}
	sink := peertest.StartSink(t, peertest.Sink{})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr)+trusting, withoutPacks)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	host, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(ctx, "smtp-source", "-s", "100", "-m", fmt.Sprint(messages), "-l", "4096", "-N",
		"-M", "mail.plain.example", "-f", "carol@plain.example", "-t", "alice@example.org", "inet:"+host+":"+port).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := len(sink.Wait(messages)); n != messages {
		t.Errorf("%d of %d messages arrived", n, messages)
	}
	p.stop()
	if n := len(p.events("message")); n != messages {
		t.Errorf("%d lines tell of %d messages", n, messages)
	}
}
