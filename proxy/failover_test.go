package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/proxy/peertest"
)

// A fleet is a proxy in front of several sinks.
type fleet struct {
	*testProxy
	sinks []*peertest.SinkServer
}

// startFleet serves with an upstream for each sink, each with its own more keys. It asks them often.
func startFleet(t *testing.T, sinks []*peertest.SinkServer, more ...string) *fleet {
	t.Helper()
	var list strings.Builder
	for i, s := range sinks {
		fmt.Fprintf(&list, "  - {address: 'smtp://%s'%s}\n", s.Addr, more[i])
	}
	config := strings.Replace(fmt.Sprintf(baseConfig, testZone(t), "", "X"), "  - address: X\n", list.String(), 1)
	p := startTestProxy(t, config, func(cfg *Config) {
		withoutPacks(cfg)
		cfg.Health = Health{Interval: 100 * time.Millisecond, Timeout: 20 * time.Second, Fails: 2, Retry: 20 * time.Millisecond}
	})
	return &fleet{testProxy: p, sinks: sinks}
}

// send hands in one message that no other one equals.
func (f *fleet) send(n int, code int) {
	f.t.Helper()
	client := hello(f.t, f.addr)
	message := strings.Replace(shortMessage, "text", fmt.Sprintf("message %d", n), 1)
	got, text := 0, ""
	if got, text = client.Cmd("MAIL FROM:<carol@plain.example>"); got == 250 {
		if got, text = client.Cmd("RCPT TO:<alice@example.org>"); got == 250 {
			client.Want("DATA", 354)
			client.Data(message)
			var err error
			if got, text, err = client.Reply(); err != nil {
				f.t.Fatal(err)
			}
		}
	}
	if got != code {
		f.t.Fatalf("message %d: %d %s, expected %d", n, got, text, code)
	}
	client.Want("QUIT", 221)
}

// held waits until the sinks together hold n messages, and tells how many each.
func (f *fleet) held(n int) []int {
	f.t.Helper()
	counts := make([]int, len(f.sinks))
	waitFor(f.t, "the messages", func() bool {
		sum := 0
		for i, s := range f.sinks {
			counts[i] = len(s.Transactions())
			sum += counts[i]
		}
		return sum >= n
	})
	return counts
}

// awaitEvent waits until the log has so many lines about an upstream.
func (f *fleet) awaitEvent(event string, sink, n int) {
	f.t.Helper()
	waitFor(f.t, event, func() bool {
		count := 0
		for _, line := range f.events(event) {
			if strings.Contains(line, " upstream="+f.sinks[sink].Addr) {
				count++
			}
		}
		return count >= n
	})
}

// The one with the lower priority has all the mail, the other one takes over while it is gone, and gives it back.
func TestFailoverAndBack(t *testing.T) {
	t.Parallel()
	backup, main := peertest.StartSink(t, peertest.Sink{}), peertest.StartSink(t, peertest.Sink{})
	f := startFleet(t, []*peertest.SinkServer{backup, main}, ", priority: 10", "")
	f.send(1, 250)
	f.send(2, 250)
	main.Stop()
	f.send(3, 250)
	f.awaitEvent("upstream_down", 1, 1)
	f.send(4, 250)
	main.Start()
	f.awaitEvent("upstream_up", 1, 1)
	f.send(5, 250)
	if got := fmt.Sprint(f.held(5)); got != "[2 3]" {
		t.Errorf("the backup and the main upstream hold %s", got)
	}
	f.stop()
	if down, up := f.events("upstream_down"), f.events("upstream_up"); len(down) != 1 || len(up) != 1 ||
		!strings.Contains(down[0], "connection refused") || !strings.Contains(up[0], " ms_down=") {
		t.Errorf("each change is logged once, expected one of each: %q %q", down, up)
	}
}

// That all upstreams are out is our guess, and no reason to refuse: they are tried. The client hears 451 only because
// none answers, and 250 as soon as one does.
func TestAllUpstreamsDown(t *testing.T) {
	t.Parallel()
	one, two := peertest.StartSink(t, peertest.Sink{}), peertest.StartSink(t, peertest.Sink{})
	f := startFleet(t, []*peertest.SinkServer{one, two}, "", "")
	one.Stop()
	two.Stop()
	f.awaitEvent("upstream_down", 0, 1)
	f.awaitEvent("upstream_down", 1, 1)
	f.send(1, 451)
	// From here on nothing is known but from mail.
	rt := f.server.runtime.Load()
	for _, n := range rt.next {
		n.health.configure(Health{Interval: time.Hour, Timeout: time.Second, Fails: 2, Retry: time.Hour})
		n.health.failed(time.Now(), errTest)
	}
	two.Start()
	f.send(1, 250)
	waitFor(t, "the second upstream", rt.next[1].health.usable)
	if rt.next[0].health.usable() {
		t.Error("the first one is in use")
	}
}

// An upstream that ends the connection at MAIL, or says 421, is passed over before the message is offered.
func TestFailoverWithinATransaction(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]peertest.Answer{
		"closes": {Close: true},
		"421":    {Reply: "421 4.3.2 Going down", Close: true},
	} {
		for _, verb := range []string{"MAIL", "RCPT", "DATA"} {
			t.Run(name+" at "+verb, func(t *testing.T) {
				t.Parallel()
				failing := peertest.StartSink(t, peertest.Sink{Script: func(e peertest.Event) peertest.Answer {
					if e.Verb == verb {
						return answer
					}
					return peertest.Answer{}
				}})
				sound := peertest.StartSink(t, peertest.Sink{})
				f := startFleet(t, []*peertest.SinkServer{failing, sound}, "", ", priority: 1")
				f.send(1, 250)
				if got := fmt.Sprint(f.held(1)); got != "[0 1]" {
					t.Errorf("they hold %s", got)
				}
			})
		}
	}
}

// The mail is shared by weight.
func TestWeights(t *testing.T) {
	t.Parallel()
	heavy, light := peertest.StartSink(t, peertest.Sink{}), peertest.StartSink(t, peertest.Sink{})
	f := startFleet(t, []*peertest.SinkServer{heavy, light}, ", weight: 1000", ", weight: 1")
	n := 0
	for ; n < 3; n++ {
		f.send(n, 250)
	}
	// A thousand to one, three times over.
	if got := f.held(n); got[0]+got[1] != n || got[0] == 0 {
		t.Errorf("they hold %v", got)
	}
}

// An upstream that turns a client away, told of it by a PROXY header, is not taken for one that fails: else a stranger
// could take it out of use for all.
func TestRefusedClientsDoNotTakeAnUpstreamOut(t *testing.T) {
	t.Parallel()
	wary := peertest.StartSink(t, peertest.Sink{Proxy: true, Script: func(e peertest.Event) peertest.Answer {
		if e.Verb == "CONNECT" && strings.HasPrefix(e.Tx.Source, "192.0.2.") {
			return peertest.Answer{Reply: "554 5.7.1 Not you", Close: true}
		}
		return peertest.Answer{}
	}})
	f := startFleet(t, []*peertest.SinkServer{wary}, ", client_info: proxy")
	for range 5 {
		client := hello(t, f.addr)
		client.Want("XCLIENT ADDR=192.0.2.10", 220)
		client.Want("EHLO mail.good.example", 250)
		client.Want("MAIL FROM:<carol@plain.example>", 250)
		client.Want("RCPT TO:<alice@example.org>", 451)
		client.Want("QUIT", 221)
	}
	f.send(1, 250)
	f.stop()
	if lines := f.events("upstream_down"); len(lines) > 0 {
		t.Errorf("it was taken out: %q", lines)
	}
}
