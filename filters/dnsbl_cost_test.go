package filters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/filters/dns"
)

// TestListCosts: a run tells of each list once what came of its look-ups, and does so once.
func TestListCosts(t *testing.T) {
	cfg, err := decodeDNSBL(t, dnsblTestConfig)
	if err != nil {
		t.Fatal(err)
	}
	lists := newDNSBLLists(cfg, dnsblZone(), slog.New(slog.DiscardHandler))
	p, err := NewPipeline([]Stage{{Check: newDNSBL(lists), Limit: time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	results := func(ip string) string {
		run := p.Start(t.Context(), &Client{IP: netip.MustParseAddr(ip)}, time.Now)
		defer run.Close()
		run.Collect(t.Context())
		var words []string
		for _, l := range run.Spent().Lists {
			words = append(words, l.Zone+" "+l.Result)
		}
		if again := run.Spent().Lists; len(again) > 0 {
			t.Errorf("told twice: %v", again)
		}
		return strings.Join(words, ", ")
	}
	want := "bl.example listed, dead.example failed, everything.example parked, parked.example parked, refuses.example parked, wl.example listed"
	if got := results("192.0.2.7"); got != want {
		t.Errorf("a client on all lists: %s\nwant %s", got, want)
	}
	want = "bl.example clean, dead.example clean, everything.example parked, parked.example parked, refuses.example parked, wl.example clean"
	if got := results("192.0.2.99"); got != want {
		t.Errorf("a client on none: %s\nwant %s", got, want)
	}
}

// TestListCostsMerge: of several look-ups at one list the longest time counts, and the result that matters most.
func TestListCostsMerge(t *testing.T) {
	a := []ListCost{{Zone: "b", Took: 3, Result: "clean"}, {Zone: "c", Took: 1, Result: "listed"}}
	b := []ListCost{{Zone: "a", Took: 1, Result: "timeout"}, {Zone: "b", Took: 2, Result: "listed"}, {Zone: "c", Took: 9, Result: "parked"}}
	got := DNSCost{Lists: a}.Plus(DNSCost{Lists: b}).Lists
	if s := fmt.Sprint(got); s != "[{a 1ns timeout} {b 3ns listed} {c 9ns listed}]" {
		t.Errorf("merged to %s", s)
	}
	if a[0].Result != "clean" {
		t.Error("what is merged is changed")
	}
}

// TestDNSBLAnswerResult has a word for every way in which a look-up ends, and an order for every word.
func TestDNSBLAnswerResult(t *testing.T) {
	failure := func(kind dns.Kind, cause error) error {
		return fmt.Errorf("bl.example: %w", &dns.Error{Name: "x.bl.example", Type: "A", Kind: kind, Err: cause})
	}
	for _, tt := range []struct {
		answer DNSBLAnswer
		want   string
	}{
		{want: "clean"},
		{answer: DNSBLAnswer{Codes: []netip.Addr{netip.MustParseAddr("127.0.0.2")}}, want: "listed"},
		{answer: DNSBLAnswer{Parked: "it refuses our queries"}, want: "parked"},
		{answer: DNSBLAnswer{Err: errors.New("not tested"), untested: true}, want: "untested"},
		{answer: DNSBLAnswer{Err: failure(dns.Temporary, context.DeadlineExceeded)}, want: "timeout"},
		{answer: DNSBLAnswer{Err: failure(dns.Temporary, context.Canceled)}, want: "cancelled"},
		{answer: DNSBLAnswer{Err: failure(dns.NoNetwork, nil)}, want: "offline"},
		{answer: DNSBLAnswer{Err: failure(dns.OverBudget, nil)}, want: "budget"},
		{answer: DNSBLAnswer{Err: failure(dns.Temporary, errors.New("a CNAME loop"))}, want: "failed"},
	} {
		if got := tt.answer.result(); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.answer, got, tt.want)
		}
	}
}
