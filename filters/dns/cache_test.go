package dns_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/filters/dns"
)

// clock is a clock that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_000_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestCacheLifetimes(t *testing.T) {
	const src = `
$ORIGIN example.org.
@        300   SOA ns hostmaster 1 3600 600 86400 60
alias    20    CNAME www
www      300   A 192.0.2.1
zero     0     A 192.0.2.1
eternal  2000000000 A 192.0.2.1
; @servfail servfail
$ORIGIN lazy.example.
@        20    SOA ns hostmaster 1 3600 600 86400 86400
$ORIGIN slow.example.
@        86400 SOA ns hostmaster 1 3600 600 86400 86400
`
	tests := []struct {
		typ, name string
		lives     time.Duration // how long the answer is kept, by the bounds below
	}{
		{"A", "www.example.org", 300 * time.Second},
		// The least TTL of the chain.
		{"A", "alias.example.org", 20 * time.Second},
		// Clamped to MinTTL and MaxTTL.
		{"A", "zero.example.org", 5 * time.Second},
		{"A", "eternal.example.org", time.Hour},
		// The SOA's minimum field, its own TTL where that is less, and MaxNegativeTTL at most (RFC 2308, section 5).
		{"A", "none.example.org", 60 * time.Second},
		{"TXT", "www.example.org", 60 * time.Second},
		{"A", "none.lazy.example", 20 * time.Second},
		{"A", "none.slow.example", 30 * time.Minute},
		// A failure.
		{"A", "servfail.example.org", 3 * time.Second},
		// Nobody is asked for a name that cannot be, at any time.
		{"A", "a..b", 0},
	}
	for _, tt := range tests {
		t.Run(tt.typ+" "+tt.name, func(t *testing.T) {
			s := serve(t, src)
			c := newClock()
			r := newResolver(t, dns.Config{
				Servers: []string{s.Addr()}, Timeout: patient, Retry: patient, Now: c.Now,
				MinTTL: 5 * time.Second, MaxTTL: time.Hour, MaxNegativeTTL: 30 * time.Minute, FailTTL: 3 * time.Second,
			})
			first, err1 := look(t.Context(), r, tt.typ, tt.name)
			asked := s.Total()
			if tt.lives > 0 {
				c.Advance(tt.lives - 1)
			}
			again, err2 := look(t.Context(), r, tt.typ, tt.name)
			if s.Total() != asked {
				t.Errorf("asked again before %v were over", tt.lives)
			}
			if fmt.Sprint(first, err1) != fmt.Sprint(again, err2) {
				t.Errorf("the cache gave %v, %v; the server %v, %v", again, err2, first, err1)
			}
			if tt.lives == 0 {
				return
			}
			c.Advance(1)
			look(t.Context(), r, tt.typ, tt.name) // what it gives is seen above
			if s.Total() == asked {
				t.Errorf("not asked again after %v", tt.lives)
			}
		})
	}
}

func TestNegativeWithoutSOAIsKeptBriefly(t *testing.T) {
	// The made-up SOA is what the zone server always has, so the answers come from a stub.
	s := newStub(t, refuseAll)
	c := newClock()
	r := newResolver(t, dns.Config{Servers: []string{s.addr()}, Timeout: patient, Retry: patient, MinTTL: 5 * time.Second, Now: c.Now})
	for _, want := range []int{1, 1, 2} {
		if _, err := r.A(t.Context(), "none.example"); !dns.IsNotExist(err) {
			t.Fatal(err)
		}
		if s.asked() != want {
			t.Errorf("asked %d times, want %d", s.asked(), want)
		}
		c.Advance(3 * time.Second)
	}
}

func TestNotExistHoldsForAllTypes(t *testing.T) {
	s := serve(t, example)
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: patient})
	for _, typ := range []string{"A", "AAAA", "MX", "TXT"} {
		if _, err := look(t.Context(), r, typ, "none.example.org"); !dns.IsNotExist(err) {
			t.Errorf("%s: %v", typ, err)
		}
	}
	if s.Total() != 1 {
		t.Errorf("%d queries, want one (RFC 2308, section 5)", s.Total())
	}
	// What exists without one type may have another.
	if _, err := r.TXT(t.Context(), "www.example.org"); !dns.IsNoData(err) {
		t.Error(err)
	}
	if got, err := r.A(t.Context(), "www.example.org"); len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	s := serve(t, "*.example.org. TXT \""+strings.Repeat("x", 250)+"\"\n")
	tests := []struct {
		name string
		cfg  dns.Config
		keep int // how many of the names asked last are still known
	}{
		{"by entries", dns.Config{Cache: 10}, 10},
		{"by octets", dns.Config{CacheBytes: 8 << 10}, 13}, // of some 600 octets each
		{"one larger than all", dns.Config{CacheBytes: 1}, 1},
		{"off", dns.Config{Cache: -1}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Servers, tt.cfg.Timeout = []string{s.Addr()}, patient
			r := newResolver(t, tt.cfg)
			for i := range 50 {
				if _, err := r.TXT(t.Context(), fmt.Sprintf("n%02d.example.org", i)); err != nil {
					t.Fatal(err)
				}
			}
			before := s.Total()
			for i := 49; i >= 50-tt.keep; i-- { // the newest first, so that what this asks for does not push out what it looks for
				if _, err := r.TXT(t.Context(), fmt.Sprintf("n%02d.example.org", i)); err != nil {
					t.Fatal(err)
				}
			}
			if n := s.Total() - before; n != 0 {
				t.Errorf("%d of the last %d names were forgotten", n, tt.keep)
			}
			if _, err := r.TXT(t.Context(), fmt.Sprintf("n%02d.example.org", 49-tt.keep)); err != nil {
				t.Fatal(err)
			}
			if n := s.Total() - before; n != 1 {
				t.Errorf("more than %d names were kept", tt.keep)
			}
		})
	}
}

func TestAnswersAreTheCallersOwn(t *testing.T) {
	s := serve(t, example)
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: patient})
	for range 2 {
		got, err := r.MX(t.Context(), "example.org")
		if err != nil || got[0].Host != "mail.example.org" {
			t.Fatalf("%v, %v", got, err)
		}
		got[0].Host = "overwritten"
	}
}

func TestSystemServers(t *testing.T) {
	tests := []struct {
		name, conf string
		want       string
	}{
		{"usual", "# by hand\nsearch example.org\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions edns0\n", "[192.0.2.1:53 [2001:db8::1]:53]"},
		{"link-local", "nameserver fe80::1%eth0\n", "[[fe80::1%eth0]:53]"},
		{"an odd line does no harm", "nameserver\nnameserver nonsense\nnameserver 192.0.2.1 # the first\n", "[192.0.2.1:53]"},
		{"none", "search example.org\n", "[127.0.0.1:53]"},
		{"many", strings.Repeat("nameserver 192.0.2.1\n", 20), fmt.Sprint(strings.Split(strings.Repeat("192.0.2.1:53 ", 8), " ")[:8])},
	}
	for _, tt := range tests {
		path := writeFile(t, tt.conf)
		got, err := dns.SystemServers(path)
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%s: %v, %v; want %s", tt.name, got, err, tt.want)
		}
	}
	if got, err := dns.SystemServers(t.TempDir() + "/none"); err != nil || fmt.Sprint(got) != "[127.0.0.1:53]" {
		t.Errorf("no file: %v, %v", got, err)
	}
	if _, err := dns.SystemServers(t.TempDir()); err == nil {
		t.Error("a directory: no error")
	}
}
