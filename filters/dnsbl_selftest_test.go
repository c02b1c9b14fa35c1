package filters

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// gateDNS lets look-ups of one name wait until the gate is opened, and tells of each look-up.
type gateDNS struct {
	*fakeDNS
	name string
	gate chan struct{}
	seen chan string
}

func newGateDNS(f *fakeDNS, name string) *gateDNS {
	return &gateDNS{fakeDNS: f, name: name, gate: make(chan struct{}), seen: make(chan string, 100)}
}

func (g *gateDNS) A(ctx context.Context, name string) ([]netip.Addr, error) {
	g.seen <- name
	if name == g.name {
		select {
		case <-g.gate:
		case <-ctx.Done():
		}
	}
	return g.fakeDNS.A(ctx, name)
}

func (g *gateDNS) await(t *testing.T, name string) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case got := <-g.seen:
			if got == name {
				return
			}
		case <-limit:
			t.Fatalf("nobody asks for %s", name)
		}
	}
}

func everythingZone() *fakeDNS {
	return &fakeDNS{a: map[string][]string{
		"2.0.0.127.all.example": {"127.0.0.2"}, "1.0.0.127.all.example": {"127.0.0.2"},
		"7.2.0.192.all.example": {"127.0.0.2"}, "8.2.0.192.all.example": {"127.0.0.2"},
	}}
}

func inputFrom(ip string, at time.Time) Input {
	return Input{Client: &Client{IP: netip.MustParseAddr(ip)}, Now: at}
}

// TestSelfTestIsAwaited: what a list says while its test runs is not believed, whoever began the test, and also if the
// client that did has gone.
func TestSelfTestIsAwaited(t *testing.T) {
	zone := newGateDNS(everythingZone(), "1.0.0.127.all.example")
	cfg := DNSBLConfig{Lists: DNSBLLists{{Zone: "all.example", Score: 6, Timeout: time.Minute}}}
	c := newDNSBL(newDNSBLLists(cfg, zone, slog.New(slog.DiscardHandler)))
	now := time.Unix(2_000_000_000, 0)
	ctx, leave := context.WithCancel(context.Background())
	first, second := make(chan Report, 1), make(chan Report, 1)
	go func() { first <- c.Run(ctx, inputFrom("192.0.2.7", now)) }()
	zone.await(t, zone.name)
	leave()
	go func() { second <- c.Run(context.Background(), inputFrom("192.0.2.8", now)) }()
	zone.await(t, "8.2.0.192.all.example")
	close(zone.gate)
	for _, reports := range []chan Report{first, second} {
		report := <-reports
		if len(report.Findings) != 1 || report.Findings[0].Symbol != "dnsbl.all.example.error" || report.Findings[0].Score != 0 {
			t.Errorf("%+v", report.Findings)
		}
	}
}

// TestUntestedListIsNotBelieved: where DNS fails in the test a listing is an error, until a minute later a test succeeds.
func TestUntestedListIsNotBelieved(t *testing.T) {
	zone := &fakeDNS{
		a:    map[string][]string{"2.0.0.127.bl.example": {"127.0.0.2"}, "7.2.0.192.bl.example": {"127.0.0.2"}},
		fail: map[string]bool{"1.0.0.127.bl.example": true},
	}
	c := newDNSBL(newDNSBLLists(DNSBLConfig{Lists: DNSBLLists{{Zone: "bl.example", Score: 6}}}, zone, slog.New(slog.DiscardHandler)))
	now := time.Unix(2_000_000_000, 0)
	if report := c.Run(context.Background(), inputFrom("192.0.2.7", now)); report.Err == nil || report.Findings[0].Score != 0 {
		t.Errorf("untested: %+v, %v", report.Findings, report.Err)
	}
	if report := c.Run(context.Background(), inputFrom("192.0.2.9", now)); report.Err != nil || len(report.Findings) != 0 {
		t.Errorf("untested, and not listed: %+v, %v", report.Findings, report.Err)
	}
	zone.fail = nil
	if report := c.Run(context.Background(), inputFrom("192.0.2.7", now.Add(time.Minute))); report.Err != nil || report.Findings[0].Score != 600 {
		t.Errorf("tested: %+v, %v", report.Findings, report.Err)
	}
	zone.fail = map[string]bool{"1.0.0.127.bl.example": true}
	if report := c.Run(context.Background(), inputFrom("192.0.2.7", now.Add(2*time.Hour))); report.Err != nil || report.Findings[0].Score != 600 {
		t.Errorf("tested before, and the next test fails: %+v, %v", report.Findings, report.Err)
	}
}

// TestSelfTestParks: at start already a list is parked that refuses, or whose zone is somebody else's now.
func TestSelfTestParks(t *testing.T) {
	for _, tt := range []struct{ reason, listed, unlisted, want string }{
		{reason: "it refuses our queries", listed: "127.255.255.254", want: "it answers 127.255.255.254: it refuses our queries"},
		{reason: "it is no such list", listed: "127.0.1.255", want: "it answers 127.0.1.255: it is not a list of this kind"},
		{reason: "the zone is parked", listed: "203.0.113.9", unlisted: "203.0.113.9", want: "it answers 203.0.113.9, which is outside 127.0.0.0/8: the zone is parked or hijacked"},
		{reason: "it lists everything", listed: "127.0.0.2", unlisted: "127.0.0.2", want: "it lists 127.0.0.1, and so everything"},
		{reason: "it is as it should be", listed: "127.0.0.2"},
		{reason: "it lists nothing", want: "it does not list its test entry 127.0.0.2"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			zone := &fakeDNS{a: map[string][]string{}}
			if tt.listed != "" {
				zone.a["2.0.0.127.bl.example"] = []string{tt.listed}
			}
			if tt.unlisted != "" {
				zone.a["1.0.0.127.bl.example"] = []string{tt.unlisted}
			}
			var log bytes.Buffer
			c := newDNSBL(newDNSBLLists(DNSBLConfig{Lists: DNSBLLists{{Zone: "bl.example", Score: 6}}}, zone, slog.New(slog.NewTextHandler(&log, nil))))
			c.SelfTest(context.Background(), time.Unix(2_000_000_000, 0))
			if !strings.Contains(log.String(), tt.want) || tt.want == "" && log.Len() > 0 {
				t.Errorf("want %q:\n%s", tt.want, log.String())
			}
		})
	}
}
