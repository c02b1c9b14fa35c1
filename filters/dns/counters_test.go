package dns_test

import (
	"context"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"

	"postern/filters/dns"
)

// Each look-up is counted once, by what came of it.
func TestCounters(t *testing.T) {
	s := newStub(t, func(q *mdns.Msg, _ bool) *mdns.Msg {
		reply := new(mdns.Msg)
		reply.SetReply(q)
		switch name := strings.ToLower(q.Question[0].Name); {
		case name == "there.example.":
			reply.Answer = append(reply.Answer, &mdns.A{
				Hdr: mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 60},
				A:   []byte{192, 0, 2, 1},
			})
		case name == "broken.example.":
			reply.Rcode = mdns.RcodeServerFailure
		default:
			reply.Rcode = mdns.RcodeNameError
		}
		return reply
	})
	r := newResolver(t, dns.Config{Servers: []string{s.addr()}, Timeout: patient})
	var mine dns.Counters
	r.CountIn(&mine)
	for _, name := range []string{"there.example", "there.example", "absent.example", "broken.example"} {
		_, _ = r.A(t.Context(), name)
	}
	for outcome, want := range map[dns.Outcome]int64{dns.Answered: 1, dns.FromCache: 1, dns.Absent: 1, dns.Unanswered: 1} {
		if got := mine.Count(outcome); got != want {
			t.Errorf("%v: %d, expected %d", outcome, got, want)
		}
	}
}

// The test of the servers tells whether they answer at all. A server that keeps the root to itself is no failure, and a
// test that is called off has found out nothing.
func TestTestOfTheServers(t *testing.T) {
	for _, tt := range []struct {
		reason   string
		root, us int
		want     string
	}{
		{reason: "it answers", root: mdns.RcodeSuccess, us: mdns.RcodeServerFailure},
		{reason: "it refuses the root alone", root: mdns.RcodeRefused, us: mdns.RcodeNameError},
		{reason: "it refuses all", root: mdns.RcodeRefused, us: mdns.RcodeRefused, want: "REFUSED"},
		{reason: "it has no Internet", root: mdns.RcodeServerFailure, us: mdns.RcodeServerFailure, want: "SERVFAIL"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			s := newStub(t, func(q *mdns.Msg, _ bool) *mdns.Msg {
				reply := new(mdns.Msg)
				reply.SetReply(q)
				reply.Rcode = tt.us
				if q.Question[0].Name == "." {
					reply.Rcode = tt.root
				}
				return reply
			})
			r := newResolver(t, dns.Config{Servers: []string{s.addr()}, Timeout: patient})
			off, cancel := context.WithCancel(t.Context())
			cancel()
			if err := r.Test(off, "mx.example.org"); err == nil {
				t.Error("called off, and no error")
			}
			if err := r.State(); err != nil {
				t.Errorf("called off, and it says %v", err)
			}
			err := r.Test(t.Context(), "mx.example.org")
			if state := r.State(); (err == nil) != (tt.want == "") || (state == nil) != (err == nil) {
				t.Fatalf("%v, then %v", err, state)
			}
			if err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v does not say %s", err, tt.want)
			}
		})
	}
}
