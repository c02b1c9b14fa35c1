package proxy

import (
	"fmt"
	"strings"
	"testing"

	"postern/proxy/peertest"
)

// hostileZone is a sender whose names work, and one whose names misbehave in the way that is filled in.
const hostileZone = `$TTL 60
; %[1]s
$ORIGIN sender.example.
@       TXT   "v=spf1 include:%[2]s -all"
        MX    10 mail
        A     192.0.2.10
_dmarc  TXT   "v=DMARC1; p=reject"
mail    A     192.0.2.10
$ORIGIN other.example.
@       TXT   "v=spf1 ip4:192.0.2.10 -all"
big     TXT   %[3]s
loop    CNAME pool
pool    CNAME loop
$ORIGIN 2.0.192.in-addr.arpa.
10      PTR   mail.sender.example.
`

// TestHostileDNS: whatever DNS does, the client has its answer: the right result where that can be had, temperror where
// the RFC says so, and then on_error decides. No goroutine is left (TestMain).
func TestHostileDNS(t *testing.T) {
	t.Parallel()
	big := strings.TrimSpace(strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 250))
	cases := []struct {
		name, fault, include string
		loss                 int
		spf                  string
		code                 int
	}{
		{name: "nothing is wrong", include: "other.example", spf: "pass", code: 250},
		{name: "no answer", fault: "@timeout other.example.", include: "other.example", spf: "temperror", code: 451},
		{name: "SERVFAIL", fault: "@servfail other.example.", include: "other.example", spf: "temperror", code: 451},
		{name: "refused", fault: "@refused other.example.", include: "other.example", spf: "temperror", code: 451},
		{name: "truncated: asked again over TCP", fault: "@truncate other.example.", include: "other.example", spf: "pass", code: 250},
		{name: "the first packet is lost", fault: "@lose other.example.", include: "other.example", spf: "pass", code: 250},
		{name: "every third packet is lost", include: "other.example", loss: 3, spf: "pass", code: 250},
		{name: "answers to another question are not believed", fault: "@lie other.example.", include: "other.example", spf: "temperror", code: 451},
		{name: "an answer that nobody asked for comes first", fault: "@stray other.example.", include: "other.example", spf: "pass", code: 250},
		{name: "garbage", fault: "@garbage other.example.", include: "other.example", spf: "temperror", code: 451},
		{name: "aliases go round in circles", include: "loop.other.example", spf: "temperror", code: 451},
		{name: "64 KB", include: "big.other.example", spf: "temperror", code: 451},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := peertest.StartNames(t, fmt.Sprintf(hostileZone, c.fault, c.include, big))
			server.SetLoss(c.loss)
			sink := peertest.StartSink(t, peertest.Sink{})
			config := fmt.Sprintf(baseConfig, server.Addr(), "", "smtp://"+sink.Addr)
			if c.spf == "temperror" { // no need to wait long for what does not come
				config = strings.Replace(config, "timeout: 10s", "timeout: 2s", 1)
			}
			p := startTestProxy(t, config+
				"filters: {spf: {on_error: defer}}\n", withoutPacks)
			client := hello(t, p.addr)
			client.Want("XCLIENT ADDR=192.0.2.10", 220)
			client.Want("EHLO mail.sender.example", 250)
			message := "From: carol@sender.example\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\ntext\r\n"
			if code, text := client.Deliver("carol@sender.example", []string{"alice@example.org"}, message); code != c.code {
				t.Errorf("%d %s, want %d", code, text, c.code)
			}
			client.Want("QUIT", 221)
			p.stop()
			if line := p.events("message")[0]; !strings.Contains(line, " spf="+c.spf+" ") {
				t.Errorf("want spf=%s: %s", c.spf, line)
			}
		})
	}
}
