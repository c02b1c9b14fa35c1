package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/filters/store"
	"postern/proxy/peertest"
)

var sessionID = regexp.MustCompile(`\b[0-9A-F]{8}\b`)

// behindBalancer is a proxy whose clients are named by a PROXY header, so that they can have any address.
func behindBalancer(t *testing.T, more string) *testProxy {
	t.Helper()
	sink := peertest.StartSink(t, peertest.Sink{})
	config := strings.Replace(fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr), "xclient:", "proxy_protocol:", 1)
	return startTestProxy(t, config+more, withoutPacks)
}

// from connects as the client with that address, and says nothing.
func (p *testProxy) from(ip string) *peertest.Client {
	p.t.Helper()
	c := peertest.Dial(p.t, p.addr)
	family := "TCP4 " + ip + " 192.0.2.1"
	if strings.Contains(ip, ":") {
		family = "TCP6 " + ip + " 2001:db8::1"
	}
	c.Send("PROXY " + family + " 1234 25\r\n")
	return c
}

// sessions waits until so many sessions have ended, and gives their lines.
func (p *testProxy) sessions(n int) []string {
	p.t.Helper()
	waitFor(p.t, fmt.Sprintf("%d sessions", n), func() bool { return len(p.events("session")) >= n })
	return p.events("session")
}

// A client that nobody knows has to show that it waits for the banner; who does so and hands in a message is not asked again.
func TestBannerWait(t *testing.T) {
	t.Parallel()
	p := behindBalancer(t, "limits: {banner_wait: 1m}\n")
	// Held back for a minute it would be, but it speaks before.
	early := p.from("192.0.2.10")
	early.Send("EHLO mail.good.example\r\n")
	early.Expect(220)
	early.Expect(250)
	if code, text := early.Deliver("carol@good.example", []string{"alice@example.org"}, shortMessage); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	early.Want("QUIT", 221)
	if line := p.sessions(1)[0]; !strings.Contains(line, " early_talk=true ") {
		t.Errorf("its session: %s", line)
	}
	if line := p.events("message")[0]; !strings.Contains(line, "helo.early_talk:2") {
		t.Errorf("its message: %s", line)
	}
	if _, known := p.server.known.since(netip.MustParseAddr("192.0.2.10")); known {
		t.Error("a client that spoke early is known as one that waits")
	}

	p.server.known.note(netip.MustParseAddr("192.0.2.20"), time.Now())
	known := p.from("192.0.2.20")
	known.Expect(220) // at once: the test does not wait for a minute
	known.Want("QUIT", 221)
}

// Who hands in a message and does nothing wrong becomes known; who only comes by does not.
func TestBannerWaitIsLearnt(t *testing.T) {
	t.Parallel()
	p := behindBalancer(t, "limits: {banner_wait: 1ms}\n")
	for i, tc := range []struct {
		ip, why string
		wrong   string // a command that goes wrong
		sends   bool
		known   bool
	}{
		{ip: "192.0.2.10", why: "it behaves", sends: true, known: true},
		{ip: "192.0.2.11", why: "it sends nothing"},
		{ip: "192.0.2.12", why: "it makes an error", wrong: "GIBBERISH", sends: true},
		{ip: "10.0.0.1", why: "nobody waits for a private address", sends: true},
		{ip: "2001:db8::7", why: "it behaves", sends: true, known: true},
	} {
		c := p.from(tc.ip)
		c.Expect(220)
		c.Want("EHLO mail.good.example", 250)
		if tc.wrong != "" {
			c.Want(tc.wrong, 500)
		}
		if tc.sends {
			if code, text := c.Deliver("carol@good.example", []string{"alice@example.org"}, shortMessage+tc.ip+"\r\n"); code != 250 {
				t.Fatalf("%s: %d %s", tc.ip, code, text)
			}
		}
		c.Want("QUIT", 221)
		p.sessions(i + 1)
		if _, known := p.server.known.since(netip.MustParseAddr(tc.ip)); known != tc.known {
			t.Errorf("%s: known is %v, although %s", tc.ip, known, tc.why)
		}
	}
	if _, known := p.server.known.since(netip.MustParseAddr("2001:db8::8")); !known {
		t.Error("another address of a known /64 is not known")
	}
}

// A store that fails knows nobody, and says so.
func TestAcquaintancesWithoutStore(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := now
	spaces := store.NewMemory(store.Options{Now: func() time.Time { return clock }})
	var warned []error
	a, err := newAcquaintances(spaces, func(err error) { warned = append(warned, err) })
	if err != nil {
		t.Fatal(err)
	}
	ip := netip.MustParseAddr("192.0.2.10")
	a.note(ip, now)
	a.note(ip, now.Add(time.Hour))
	if noted, ok := a.since(ip); !ok || !noted.Equal(now) {
		t.Errorf("%v, %v: it is written again within the hour", noted, ok)
	}
	clock = now.Add(8 * 24 * time.Hour)
	a.note(ip, clock)
	if noted, ok := a.since(ip); !ok || !noted.Equal(clock) {
		t.Errorf("%v, %v: it is not written again after a week", noted, ok)
	}
	clock = clock.Add(knownFor + time.Second)
	if _, ok := a.since(ip); ok {
		t.Error("known for ever")
	}
	if err := spaces.Close(); err != nil {
		t.Fatal(err)
	}
	a.note(ip, now)
	if _, ok := a.since(ip); ok || len(warned) == 0 || !errors.Is(warned[0], store.ErrClosed) {
		t.Errorf("known is %v, warnings %v", ok, warned)
	}
}

// A list with before_banner refuses in place of the banner; the other refusing lists do so at RCPT.
func TestRefusedBeforeTheBanner(t *testing.T) {
	t.Parallel()
	lists := "filters: {dnsbl: {lists: [{zone: bl.example, score: 6, refuse: true, before_banner: true}]}}\nlimits: {banner_wait: 0s}\n"
	p := behindBalancer(t, lists)
	listed := p.from("192.0.2.66")
	code, text, err := listed.Reply()
	if err != nil || code != 554 || !strings.HasPrefix(text, "5.7.1 Message refused: ") || !strings.Contains(text, "bl.example") {
		t.Errorf("%d %s, %v", code, text, err)
	}
	if _, _, err := listed.Reply(); err == nil {
		t.Error("the connection stays open")
	}
	listed.Close()
	line := p.sessions(1)[0]
	if !strings.Contains(line, " ip=192.0.2.66 ") || !strings.Contains(line, " reason=refused by=dnsbl.bl.example ") || !strings.Contains(text, sessionID.FindString(line)) {
		t.Errorf("its line does not tell why: %s", line)
	}
	good := p.from("192.0.2.10")
	good.Expect(220)
	good.Want("QUIT", 221)

	// Observe mode refuses nothing for what a client is.
	watching := behindBalancer(t, "observe: true\n"+lists)
	c := watching.from("192.0.2.66")
	c.Expect(220)
	c.Want("QUIT", 221)
}
