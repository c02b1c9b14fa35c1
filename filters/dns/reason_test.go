package dns_test

import (
	"context"
	"testing"
	"time"

	"postern/filters/dns"
)

func TestReason(t *testing.T) {
	s := serve(t, "; @servfail fails.example.\n; @refused refuses.example.\n; @timeout silent.example.\n; @garbage odd.example.\nwww.example.org. A 192.0.2.1\n")
	for _, tt := range []struct{ name, want string }{
		{name: "www.example.org", want: ""},
		{name: "none.example.org", want: ""},
		{name: "fails.example", want: "servfail"},
		{name: "refuses.example", want: "refused"},
		{name: "silent.example", want: "timeout"},
		{name: "odd.example", want: "failed"},
	} {
		limit := patient
		if tt.want == "timeout" {
			limit = 50 * time.Millisecond
		}
		r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: limit, Retry: limit})
		_, err := r.A(t.Context(), tt.name)
		if got := dns.Reason(err); got != tt.want {
			t.Errorf("%s: %q, want %q (%v)", tt.name, got, tt.want, err)
		}
	}
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: patient, Retry: patient})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.A(gone, "silent.example"); dns.Reason(err) != "cancelled" {
		t.Errorf("nobody waits: %q (%v)", dns.Reason(err), err)
	}
	short, end := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer end()
	if _, err := r.A(short, "silent.example"); dns.Reason(err) != "timeout" {
		t.Errorf("the caller's own limit: %q (%v)", dns.Reason(err), err)
	}
}
