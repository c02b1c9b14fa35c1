package proxy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"postern/proxy/peertest"
)

// TestLookupsAreCounted: the line of a message counts its look-ups, also of one that was refused before it came, and
// what the cache answered is counted as asked for, but not as a query.
func TestLookupsAreCounted(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr)+
		"filters: {dnsbl: {lists: [{zone: bl.example, score: 6, refuse: true}]}}\n", withoutPacks)
	for range 2 {
		client := hello(t, p.addr)
		client.Want("XCLIENT ADDR=192.0.2.66", 220)
		client.Want("EHLO mail.listed.example", 250)
		client.Want("MAIL FROM:<offers@listed.example>", 250)
		client.Want("RCPT TO:<alice@example.org>", 550)
		client.Want("QUIT", 221)
	}
	p.stop()
	lines := p.events("message")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2", len(lines))
	}
	count := regexp.MustCompile(` dns_lookups=(\d+) dns_queries=(\d+) `)
	cached := false // which of the two connections is told of first is not certain
	for i, line := range lines {
		m := count.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("no counts in %s", line)
		}
		lookups, _ := strconv.Atoi(m[1])
		queries, _ := strconv.Atoi(m[2])
		if lookups == 0 || queries > lookups {
			t.Errorf("message %d: %d look-ups, %d queries", i+1, lookups, queries)
		}
		cached = cached || queries < lookups
	}
	if !cached {
		t.Errorf("neither message had answers from the cache: %q", lines)
	}
}

// TestLinksAreLookedUp: what a message links to is asked about while it is held, and the listing stands in the message and
// in the log.
func TestLinksAreLookedUp(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr)+
		"filters: {dnsbl: {lists: [{zone: bl.example, of: [uri], score: 6}]}}\n", withoutPacks)
	client := hello(t, p.addr)
	client.Want("XCLIENT ADDR=192.0.2.10", 220)
	client.Want("EHLO mail.good.example", 250)
	client.Want("MAIL FROM:<ann@good.example>", 250)
	client.Want("RCPT TO:<alice@example.org>", 250)
	client.Want("DATA", 354)
	client.Data("From: ann@good.example\r\nTo: alice@example.org\r\nSubject: look\r\nMessage-ID: <1@good.example>\r\n" +
		"Date: Tue, 24 Nov 2026 08:00:00 +0000\r\n\r\nThey are at https://buy.pills.example/now and cheap.\r\n")
	client.Expect(250)
	client.Want("QUIT", 221)
	got := sink.Wait(1)[0]
	if want := "dnsbl.bl.example.uri:6"; !strings.Contains(string(got.Data), want) {
		t.Errorf("no %s in:\n%s", want, got.Data)
	}
	p.stop()
	if lines := p.events("message"); len(lines) != 1 || !strings.Contains(lines[0], " action=tag ") || !strings.Contains(lines[0], "dnsbl.bl.example.uri:6") {
		t.Errorf("log: %q", lines)
	}
}
